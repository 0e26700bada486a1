import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_mamlpp.data import check_bank, load_banks
from tf_mamlpp.data.sources.tfds import tfds_splits
from tf_mamlpp.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*small1 are not")
PER_SPLIT = 2


def pictures(split, label):
    """PER_SPLIT pictures of one class, told apart by their grey."""
    offset = {"train": 0, "test": 100, "small1": 200}[split]
    return [np.full((12, 12, 3), offset + label * PER_SPLIT + i, np.uint8) for i in range(PER_SPLIT)]


class _Base(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    CLASSES = 10

    def _info(self):
        names = [f"class{i}" for i in range(self.CLASSES)]
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=names),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "test", "small1")}

    def _generate_examples(self, split):
        for label in range(self.CLASSES):
            for number, image in enumerate(pictures(split, label)):
                yield f"{label}-{number}", {"image": image, "label": label}


class FewShotPets(_Base):
    """A small set of ten classes."""


class Disjoint(_Base):
    """A set whose splits share no class, and whose validation split has a picture without label."""

    CLASSES = 5
    PARTS = {"train": (0, 1, 2), "validation": (3, -1), "test": (4,)}

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.PARTS}

    def _generate_examples(self, split):
        for label in self.PARTS[split]:
            yield label, {"image": np.full((12, 12, 3), label + 9, np.uint8), "label": label}


class Unlabelled(_Base):
    """A set without labels."""

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3))})
        return self.dataset_info_from_configs(features=features)

    def _generate_examples(self, split):
        yield 0, {"image": pictures(split, 0)[0]}


class OmniglotLike(_Base):
    """As many classes as Omniglot, one tiny picture each."""

    CLASSES = 1623

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train"), "test": self._generate_examples("test")}

    def _generate_examples(self, split):
        for label in range(split == "test", self.CLASSES, 2):
            image = np.full((2, 2, 3), label % 251, np.uint8)
            image[0] = label // 251  # no two alike
            yield label, {"image": image, "label": label}


class OtherNames(_Base):
    """Disjoint splits of other names, features of other names, and a class that has no picture."""

    CLASSES = 6
    PARTS = {"train": (0, 1), "val": (2,), "valid": (3,), "test": (4,), "extra": (5,)}

    def _info(self):
        features = {
            "photo": tfds.features.Image(shape=(None, None, 3)),
            "breed": tfds.features.ClassLabel(names=[f"breed{i}" for i in range(self.CLASSES)]),
            "weight": np.float32,
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("photo", "breed")
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.PARTS}

    def _generate_examples(self, split):
        for label in self.PARTS[split]:
            yield label, {"photo": np.full((12, 12, 3), label + 9, np.uint8), "breed": label, "weight": 1.0}


class UnknownSplits(_Base):
    """A set whose splits are called otherwise."""

    def _split_generators(self, dl_manager):
        return {"small1": self._generate_examples("small1")}


class OfText(_Base):
    """Labelled texts."""

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("text", "label")
        )

    def _generate_examples(self, split):
        yield 0, {"text": split, "label": 0}


class _Other(_Base):
    """A set with the same pictures whose features are of other kinds."""

    PICTURE, LABEL = tfds.features.Image(shape=(12, 12, 3)), tfds.features.ClassLabel(num_classes=10)

    def _info(self):
        features = tfds.features.FeaturesDict({"image": self.PICTURE, "label": self.LABEL})
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split):
        for key, example in super()._generate_examples(split):
            yield key, {"image": self.picture(example["image"]), "label": self.named(example["label"])}

    def picture(self, image):
        return image

    def named(self, label):
        return label


class TextLabels(_Other):
    """Labels that are texts, one of them empty."""

    LABEL = tfds.features.Text()

    def named(self, label):
        return f"caf\u00e9{9 - label}" if label else ""


class IntegerLabels(_Other):
    """Labels that are integers, one of them -1, and pictures that are tensors without channels."""

    PICTURE, LABEL = tfds.features.Tensor(shape=(12, 12), dtype=np.uint8), np.int64

    def picture(self, image):
        return image[..., 0]

    def named(self, label):
        return 100 * label - 1 if label < 1 else 10 * label


class ColourTensors(_Other):
    """Pictures that are compressed tensors in colour."""

    PICTURE = tfds.features.Tensor(shape=(12, 12, 3), dtype=np.uint8, encoding="zlib")


class FloatPictures(_Other):
    """Pictures in floating point, which TFDS keeps as PNG of their bytes."""

    PICTURE = tfds.features.Image(shape=(12, 12, 1), dtype=np.float32)

    def picture(self, image):
        return image[..., :1].astype(np.float32)


class FloatLabels(_Other):
    """Labels that are no classes."""

    LABEL = np.float32


class SeveralLabels(_Other):
    """Several labels a picture."""

    LABEL = tfds.features.Sequence(tfds.features.ClassLabel(num_classes=10))

    def named(self, label):
        return [label]


OTHER = (TextLabels, IntegerLabels, ColourTensors, FloatPictures, FloatLabels, SeveralLabels)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (FewShotPets, Disjoint, Unlabelled, OmniglotLike, OtherNames, UnknownSplits, OfText, *OTHER):
        builder(data_dir=folder).download_and_prepare()
    return folder


@pytest.mark.slow
def test_train_and_test_are_pooled_and_divided_by_class(data_dir):
    banks = load_banks("tfds:few_shot_pets", data_dir, image_size=(12, 12), channels=1)
    assert [len(bank.class_names) for bank in banks.values()] == [6, 2, 2]
    for bank in banks.values():
        for row, name in enumerate(bank.class_names):
            greys = bank.images[bank.offsets[row] : bank.offsets[row + 1], 0, 0, 0]
            label = int(name.removeprefix("class"))
            expected = [image[0, 0, 0] for split in ("train", "test") for image in pictures(split, label)]
            assert sorted(greys) == sorted(expected)  # and nothing of small1


def test_split_file_divides_by_name(data_dir, tmp_path):
    lists = {"train": ["class7", "class1"], "validation": ["class0"], "test": ["class9"]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    banks = load_banks("tfds:few_shot_pets", data_dir, image_size=(12, 12), split_file=tmp_path / "lists.json")
    assert {split: bank.class_names for split, bank in banks.items()} == {
        "train": ("class1", "class7"),
        "validation": ("class0",),
        "test": ("class9",),
    }
    greys = banks["test"].images[:, 0, 0, 0]
    assert sorted(greys) == [18, 19, 118, 119]


@pytest.mark.slow
def test_a_part_of_each_split(data_dir):
    opened = [pictures() for _, pictures in tfds_splits("tfds:few_shot_pets[:50%]", data_dir, split_seed=0).values()]
    names = [np.repeat(pictures.class_names, pictures.counts) for pictures in opened]
    found = sorted(
        (names[number][row], tf.io.decode_png(content).numpy().min())
        for number, pictures in enumerate(opened)
        for row, _, content in pictures.read()
    )
    first = itertools.chain.from_iterable(examples("few_shot_pets", data_dir, split, 10) for split in ("train", "test"))
    assert found == sorted((f"class{e['label']}", e["image"].min()) for e in first)
    assert len(found) == 20  # of 40
    five = tfds_splits("tfds:few_shot_pets[:5]", data_dir, split_seed=0)
    assert sum(sum(pictures().counts) for _, pictures in five.values()) == 10
    whole = tfds_splits("tfds:few_shot_pets", data_dir, split_seed=0)
    assert five["train"][0] != whole["train"][0]  # the keys that the cache knows them by


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("[", r"'\[' is no part of a split, such as \[:10%\] or \[:5000\]$"),
        ("[:ten]", r"'\[:ten\]' is no part of a split"),
        ("[:10%]+test", r"'\[:10%\]\+test' is no part of a split"),
        ("[:0%]", "has no pictures in that part of train, test: give a larger one$"),
        ("[:1000]", "tfds:few_shot_pets\\[:1000\\]: .*1000"),
    ],
)
def test_a_part_that_is_none_is_named(data_dir, part, message):
    with pytest.raises(UserError, match=message):
        load_banks(f"tfds:few_shot_pets{part}", data_dir)


@pytest.mark.slow
def test_splits_without_common_classes_are_kept(data_dir):
    banks = load_banks("tfds:disjoint", data_dir, image_size=(12, 12))
    assert {split: bank.class_names for split, bank in banks.items()} == {
        "train": ("class0", "class1", "class2"),
        "validation": ("class3",),
        "test": ("class4",),
    }


@pytest.mark.slow
def test_features_of_supervised_keys_and_other_names_of_validation(data_dir):
    with pytest.warns(UserWarning, match="of its splits, train, val, valid, test are read, extra are not"):
        banks = load_banks("tfds:other_names", data_dir, image_size=(12, 12))
    assert {split: bank.class_names for split, bank in banks.items()} == {
        "train": ("breed0", "breed1"),
        "validation": ("breed2", "breed3"),
        "test": ("breed4",),
    }
    assert [np.unique(bank.images).tolist() for bank in banks.values()] == [[9, 10], [11, 12], [13]]
    assert not any(bank.by_fractions for bank in banks.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*extra are not")
def test_a_class_without_pictures_is_left_out(data_dir, tmp_path):
    lists = {"train": ["breed0", "breed5"], "validation": ["breed1"], "test": ["breed4"]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    banks = load_banks("tfds:other_names", data_dir, image_size=(12, 12), split_file=tmp_path / "lists.json")
    assert banks["train"].class_names == ("breed0",)


@pytest.mark.slow
def test_fractions_divide_the_pool(data_dir, shared_cache):
    for fractions, sizes in (((0.6, 0.2, 0.2), [6, 2, 2]), ((0.5, 0.4, 0.1), [5, 4, 1]), ((0.8, 0.2, 0), [8, 2, 0])):
        for _ in ("decoded", "from the cache"):
            banks = load_banks(
                "tfds:few_shot_pets",
                data_dir,
                image_size=(12, 12),
                split_fractions=fractions,
                cache_dir=shared_cache,
            )
            assert [len(bank.class_names) for bank in banks.values()] == sizes
            assert all(bank.by_fractions for bank in banks.values())
    with pytest.raises(UserError, match="has 0 classes, fewer than way=2; .*data.split_fractions, data.split_file"):
        check_bank(banks["test"], way=2, shot=1, query_shot=1)


def test_splits_of_unknown_names_are_named(data_dir):
    message = "no split called train, val, valid, validation or test; it has small1$"
    with pytest.raises(UserError, match=f"tfds:unknown_splits: has {message}"):
        load_banks("tfds:unknown_splits", data_dir)


def test_a_set_of_texts_is_refused(data_dir):
    with pytest.raises(UserError, match="tfds:of_text: is no classification set.*it has .*'text'"):
        load_banks("tfds:of_text", data_dir)


def test_second_load_reads_no_examples(data_dir, shared_cache, monkeypatch):
    load_banks("tfds:few_shot_pets", data_dir, image_size=(12, 12), cache_dir=shared_cache)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", None)
    load_banks("tfds:few_shot_pets", data_dir, image_size=(12, 12), cache_dir=shared_cache)


@pytest.mark.slow
def test_as_many_classes_as_omniglot_are_divided_as_omniglot(data_dir):
    splits = tfds_splits("tfds:omniglot_like", data_dir, split_seed=0)
    listed = [open_pictures() for _, open_pictures in splits.values()]
    assert [len(pictures.class_names) for pictures in listed] == [1150, 50, 423]
    assert all(set(pictures.counts) == {1} for pictures in listed)
    names, images = zip(*((name, content) for _, name, content in listed[1].read()), strict=True)
    assert len(set(names)) == len(set(images)) == 50


def test_set_without_labels_is_refused(data_dir):
    with pytest.raises(UserError, match="tfds:unlabelled: .*needs the features 'image' and 'label'"):
        load_banks("tfds:unlabelled", data_dir)


def test_unknown_set_is_named(tmp_path):
    with pytest.raises(UserError, match="tfds:no_such_set: neither prepared in"):
        load_banks("tfds:no_such_set", tmp_path)


def examples(name, data_dir, split, count):
    """The first examples of a split as they are stored."""
    builder = tfds.builder(name, data_dir=data_dir)
    return builder.as_dataset(split=split, shuffle_files=False).take(count).as_numpy_iterator()


def greys(bank):
    """The greys of each class's pictures."""
    return {
        name: sorted(bank.images[first:last, 0, 0, 0].tolist())
        for name, first, last in zip(bank.class_names, bank.offsets[:-1], bank.offsets[1:], strict=True)
    }


def all_greys(banks):
    return {name: found for bank in banks.values() for name, found in greys(bank).items()}


@pytest.mark.slow
def test_labels_that_are_texts(data_dir, tmp_path, monkeypatch):
    with pytest.warns(UserWarning, match="text_labels: 4 pictures whose label is -1 or empty are left out"):
        banks = load_banks("tfds:text_labels", data_dir, image_size=(12, 12), channels=1)
    expected = {
        f"caf\u00e9{9 - label}": [2 * label, 2 * label + 1, 100 + 2 * label, 101 + 2 * label] for label in range(1, 10)
    }
    assert all_greys(banks) == expected
    assert [len(bank.class_names) for bank in banks.values()] == [5, 2, 2]
    assert list(banks["train"].class_names) == sorted(banks["train"].class_names)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", None)
    load_banks("tfds:text_labels", data_dir, image_size=(12, 12), channels=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*label is -1 or empty")
def test_a_split_file_for_labels_that_are_texts(data_dir, tmp_path):
    file = tmp_path / "lists.json"
    file.write_text(
        json.dumps({"train": ["caf\u00e97", "cafe\u03011"], "validation": ["caf\u00e90"], "test": ["caf\u00e93"]})
    )
    banks = load_banks("tfds:text_labels", data_dir, image_size=(12, 12), split_file=file)
    assert banks["train"].class_names == ("caf\u00e91", "caf\u00e97")
    file.write_text(json.dumps({"train": ["caf\u00e97"], "validation": ["caf\u00e99"], "test": ["caf\u00e93"]}))
    with pytest.raises(UserError, match="lists.json: tfds:text_labels has no class 'caf\u00e99'"):
        load_banks("tfds:text_labels", data_dir, image_size=(12, 12), split_file=file)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*label is -1 or empty")
def test_labels_that_are_integers_and_pictures_that_are_tensors(data_dir):
    banks = load_banks("tfds:integer_labels", data_dir, image_size=(12, 12), channels=1)
    expected = {f"{10 * label}": [2 * label, 2 * label + 1, 100 + 2 * label, 101 + 2 * label] for label in range(1, 10)}
    assert all_greys(banks) == expected
    assert [int(name) for name in banks["train"].class_names] == sorted(int(n) for n in banks["train"].class_names)


@pytest.mark.slow
def test_pictures_that_are_tensors_in_colour(data_dir):
    banks = load_banks("tfds:colour_tensors", data_dir, image_size=(12, 12), channels=1)
    same = load_banks("tfds:few_shot_pets", data_dir, image_size=(12, 12), channels=1)
    for split, bank in banks.items():
        assert [int(name) for name in bank.class_names] == [
            int(n.removeprefix("class")) for n in same[split].class_names
        ]
        assert list(greys(bank).values()) == list(greys(same[split]).values())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("float_pictures", r"'image' \(Image of float32 \[12, 12, 1\]\), 'label' \(ClassLabel of 10 classes\)"),
        ("float_labels", r"'label' \(\w+ of float32 \[\]\)"),
        ("several_labels", r"'label' \(Sequence\)"),
        ("of_text", r"'text' \(Text\)"),
    ],
)
def test_what_a_set_has_instead_is_named(data_dir, name, found):
    with pytest.raises(
        UserError, match=f"tfds:{name}: is no classification set that can be read: .* it has .*{found}"
    ) as caught:
        load_banks(f"tfds:{name}", data_dir)
    assert "\n" not in str(caught.value)


def test_a_tfds_that_cannot_be_loaded_is_one_line(monkeypatch):
    monkeypatch.delattr(tfds, "core")
    with pytest.raises(UserError, match="TensorFlow Datasets cannot be loaded: tensorflow-metadata from 1.18 on"):
        tfds_splits("tfds:mnist", None, 0)
