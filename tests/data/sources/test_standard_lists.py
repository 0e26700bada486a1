"""The divisions that come with the package, against their sources and against stand-ins of the downloads."""

import io
import json
import os
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tf_mamlpp.data import load_banks
from tf_mamlpp.data.sources.image_folder import folder_splits
from tf_mamlpp.data.sources.splits import SPLITS, SplitFile, divide_classes
from tf_mamlpp.data.sources.standard_lists import standard_file, standard_lists
from tf_mamlpp.data.sources.tfds import tfds_splits
from tf_mamlpp.errors import UserError

ROOT = Path(__file__).parents[3]
SIZES = {
    "aircraft": (70, 15, 15),
    "cifar_fs": (64, 16, 20),
    "cub": (100, 50, 50),
    "dtd": (33, 7, 7),
    "fc100": (60, 20, 20),
    "quickdraw": (241, 52, 52),
    "traffic_sign": (0, 0, 43),
    "vgg_flower": (71, 15, 16),
}
BUILDERS = {
    "cifar_fs": "cifar100",
    "fc100": "cifar100",
    "cub": "caltech_birds2011",
    "vgg_flower": "oxford_flowers102",
    "dtd": "dtd",
    "quickdraw": "quickdraw_bitmap",
}


def lists_of(name):
    return SplitFile.read(f"standard:{name}").lists


def test_they_are_all_there_with_the_classes_that_the_field_counts():
    assert standard_lists() == [f"standard:{name}" for name in sorted(SIZES)]
    for name, sizes in SIZES.items():
        lists = lists_of(name)
        assert tuple(len(lists[split]) for split in SPLITS) == sizes, name
        assert len({c for split in SPLITS for c in lists[split]}) == sum(sizes), name


def test_an_install_carries_them():
    assert '"data/class_lists/*"' in (ROOT / "setup.py").read_text()
    readme = (standard_file("standard:cub").parent / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in SIZES)


def test_cifar_fs_and_fc100_divide_the_same_classes_and_fc100_by_whole_superclasses():
    cifar_fs, fc100 = lists_of("cifar_fs"), lists_of("fc100")
    assert sorted(sum(cifar_fs.values(), [])) == sorted(sum(fc100.values(), []))
    assert {"maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"} <= set(fc100["train"])
    assert {"baby", "boy", "girl", "man", "woman"} <= set(fc100["test"])
    assert {"bear", "leopard", "lion", "tiger", "wolf"} <= set(fc100["validation"])


def published(name):
    root = Path(os.environ.get("TF_MAMLPP_DATA") or ROOT / ".." / "shared" / "data") / "class_lists"
    if not root.is_dir():
        pytest.skip(f"needs the lists as they were published in {root}")
    return json.loads((root / f"{name}.json").read_text())


def test_they_are_the_published_ones():
    found = published("cifar_fs")
    assert {s: sorted(fine for _, fine in found[s]) for s in SPLITS} == lists_of("cifar_fs")
    members = {}
    for coarse, fine in sum(found.values(), []):
        members.setdefault(coarse, []).append(fine)
    for split, coarse in published("fc100").items():
        assert sorted(lists_of("fc100")[split]) == sorted(f for c in coarse for f in members[c])
    assert {s: sorted(names) for s, names in published("cub").items()} == lists_of("cub")
    for name in ("aircraft", "dtd", "quickdraw", "traffic_sign", "vgg_flower"):
        found = {s: sorted(names) for s, names in published(f"meta_dataset_{name}").items()}
        if name in ("traffic_sign", "vgg_flower"):  # numbered there
            found = {s: [n.split(".", 1)[1] for n in names] for s, names in found.items()}
        ours = lists_of(name)
        if name == "traffic_sign":
            others = SplitFile.read("standard:traffic_sign").others
            ours = {s: [others[n][0] for n in names] for s, names in ours.items()}
        assert {s: sorted(names) for s, names in found.items()} == {s: sorted(names) for s, names in ours.items()}


def test_an_unknown_one_is_named():
    with pytest.raises(UserError, match="split_file is one of standard:aircraft, .*, or a file, not 'standard:cifar'"):
        load_banks("tfds:cifar100", split_file="standard:cifar")


def picture(label, number, shape):
    """A picture that tells its label, of any size if the set's may have any."""
    height, width, channels = (known or default for known, default in zip(shape, (12, 12, 3), strict=True))
    image = np.zeros((height, width, channels), np.uint8)
    image[: height // 2], image[height // 2 :] = label % 250, 50 * (label // 250) + number
    return image


def prepare(name, folder, names=None):
    """Prepares a builder of TensorFlow Datasets with small pictures, in place of its download."""
    builder = tfds.builder(name, data_dir=folder)
    features = builder.info.features
    more = {
        "bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
        "segmentation_mask": np.zeros((12, 12, 1), np.uint8),
        "coarse_label": 0,
    }

    def examples():
        for label in range(features["label"].num_classes):
            for number in range(2):
                example = {"image": picture(label, number, features["image"].shape), "label": label}
                texts = {key: f"{label}-{number}" for key in features if isinstance(features[key], tfds.features.Text)}
                yield f"{label}-{number}", {**texts, **{k: v for k, v in more.items() if k in features}, **example}

    def generators(self, manager):
        if names:
            self.info.features["label"].names = names
        return {"train": examples()}

    with mock.patch.object(type(builder), "_split_generators", generators):
        builder.download_and_prepare()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare("cifar100", folder, names=sorted(sum(lists_of("cifar_fs").values(), [])))
    for name in ("caltech_birds2011", "oxford_flowers102", "dtd", "quickdraw_bitmap"):
        prepare(name, folder)
    return folder


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    def refuse(*arguments, **settings):
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", refuse)
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", refuse)


def label_of(picture):
    return int(picture[0, 0].max()) + 250 * (int(picture[-1, 0].max()) // 50)


@pytest.mark.slow_cases("cifar_fs", "fc100", "cub", "vgg_flower", "quickdraw")
@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_gets_the_pictures_of_its_label(data_dir, name):
    builder = tfds.builder(BUILDERS[name], data_dir=data_dir)
    label = builder.info.features["label"]
    for split, (_, open_pictures) in tfds_splits(
        f"tfds:{BUILDERS[name]}", data_dir, split_seed=0, split_file=f"standard:{name}"
    ).items():
        pictures, listed = open_pictures(), lists_of(name)[split]
        labels = sorted(int(n.split(".")[0]) - 1 if name == "cub" else label.str2int(n) for n in listed)
        if name == "cub":  # the set has no names
            assert list(pictures.class_names) == [str(number) for number in labels]
        else:
            assert sorted(pictures.class_names) == sorted(listed)
        assert pictures.counts == (2,) * len(listed)
        found = {row: label_of(np.array(Image.open(io.BytesIO(content)))) for row, _, content in pictures.read()}
        assert found == {row: number for row, number in enumerate(np.repeat(labels, 2).tolist())}


def test_the_birds_as_folders(make_tree, tmp_path):
    names = sum(lists_of("cub").values(), [])
    root = make_tree(tmp_path / "CUB_200_2011" / "images", dict.fromkeys(names, 1))
    found = {s: list(listed().class_names) for s, (_, listed) in folder_splits(root, 0, "standard:cub").items()}
    assert found == lists_of("cub")


@pytest.mark.filterwarnings("ignore:.*share .* pictures")
def test_aircraft_from_its_archive(png, tmp_path, monkeypatch):
    """The code of docs/config.md, which makes class folders of it."""
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    names = sum(lists_of("aircraft").values(), [])
    rows = {"train": names, "val": names[::-1], "test": names}
    boxes = []
    for first, (split, variants) in enumerate(rows.items()):
        numbered = [(f"{first}{n:06}", variant) for n, variant in enumerate(variants)]
        (data / f"images_variant_{split}.txt").write_text("".join(f"{n} {v}\n" for n, v in numbered))
        for n, variant in numbered:
            image = np.full((20, 24), 255, np.uint8)
            image[2:10, 8:16] = 2 * names.index(variant) + 10 * first
            (data / "images" / f"{n}.jpg").write_bytes(png(image))
            boxes.append(f"{n} 8 2 16 10\n")
    (data / "images_box.txt").write_text("".join(boxes))
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n([^`]*images_variant[^`]*)```", (ROOT / "docs/config.md").read_text())
    exec(code, {})
    banks = load_banks("image_folder", tmp_path / "aircraft", image_size=(8, 8), split_file="standard:aircraft")
    folders = [n.replace("/", "_") for n in names]
    for split, bank in banks.items():
        listed = [n.replace("/", "_") for n in lists_of("aircraft")[split]]
        assert sorted(bank.class_names) == sorted(listed)
        for row, name in enumerate(bank.class_names):
            greys = bank.images[bank.offsets[row] : bank.offsets[row + 1]].mean((1, 2, 3))  # cut out, as JPEG
            np.testing.assert_allclose(greys, 2 * folders.index(name) + 10 * np.arange(3), atol=0.5)


@pytest.mark.parametrize("form", ["{}", "Final_Training/Images/{}"])
def test_traffic_signs_have_classes_to_test_on_alone(make_tree, tmp_path, form):
    root = make_tree(tmp_path / "GTSRB", {form.format(f"{n:05}"): 1 for n in range(43)})
    root = root / form.format("").rstrip("/")
    splits = folder_splits(root, 0, "standard:traffic_sign")
    assert [len(listed().class_names) for _, listed in splits.values()] == [0, 0, 43]


def test_a_class_that_the_data_lack_is_named(data_dir, make_tree, tmp_path):
    with pytest.raises(UserError, match="^standard:cifar_fs: tfds:dtd has no class '.*'; it has banded, blotchy, .*$"):
        load_banks("tfds:dtd", data_dir, split_file="standard:cifar_fs")
    names = sum(lists_of("cub").values(), [])[1:]
    root = make_tree(tmp_path / "images", dict.fromkeys(names, 1))
    with pytest.raises(UserError, match="^standard:cub: .*images has no class '001.Black_footed_Albatross'; it has 0"):
        load_banks("image_folder", root, split_file="standard:cub")


def test_a_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="^tfds:cifar100: neither prepared in .* nor to be downloaded .no network"):
        load_banks("tfds:cifar100", tmp_path / "none", split_file="standard:cifar_fs")


def test_numbers_are_for_data_of_as_many_classes_without_names(tmp_path):
    file = tmp_path / "lists.json"
    file.write_text(
        json.dumps({"train": [["ant", "Ameise", 2], "bee"], "validation": [["cat", 1]], "test": [["d", 3]]})
    )
    divide = {"source": "animals", "split_seed": 0, "split_file": file}
    assert divide_classes(["Ameise", "bee", "cat", "d"], **divide) == {"train": [0, 1], "validation": [2], "test": [3]}
    with pytest.raises(UserError, match="animals has no class 'bee'; it has 0, 1, 2"):
        divide_classes(["0", "1", "2", "3"], **divide)
    file.write_text(file.read_text().replace('"bee"', '["bee", 0]'))
    assert divide_classes(["0", "1", "2", "3"], **divide) == {"train": [0, 2], "validation": [1], "test": [3]}
    for other in (["0", "1", "2", "3", "4"], ["1", "2", "3", "4"]):  # of other data, and counted from 1
        with pytest.raises(UserError, match="animals has no class 'ant'"):
            divide_classes(other, **divide)
