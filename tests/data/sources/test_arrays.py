"""Arrays in files: an `.npz`, a folder of `.npy`, labelled or one array for each class."""

import json
import mmap
import zipfile

import numpy as np
import pytest
from hypothesis import strategies as st

from tf_mamlpp.data import check_bank, load_banks
from tf_mamlpp.data.sources.arrays import load_array_pool, load_arrays, load_queries
from tf_mamlpp.data.sources.splits import SPLITS
from tf_mamlpp.errors import UserError


def table(classes=6, each=4, shape=(5,), seed=0):
    """Inputs [examples, *shape] far from zero and of many scales, and shuffled labels."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(classes), each))
    scale = 10.0 ** np.arange(-2, shape[-1] - 2)
    return generator.normal(size=(len(labels), *shape)) * scale + 1000 * scale, labels


@pytest.fixture
def data(tmp_path):
    inputs, labels = table()
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=labels)
    return tmp_path / "data.npz"


def as_folder(file):
    """The arrays of an .npz as a folder of .npy."""
    folder = file.with_suffix("")
    folder.mkdir()
    with np.load(file) as arrays:
        for name in arrays:
            np.save(folder / f"{name}.npy", arrays[name])
    return folder


def same(banks, others):
    for split in SPLITS:
        one, other = banks[split], others[split]
        everything = np.arange(len(one))
        np.testing.assert_array_equal(one.take(everything), other.take(everything))
        np.testing.assert_array_equal(one.digests(), other.digests())
        assert (one.class_names, one.offsets.tolist()) == (other.class_names, other.offsets.tolist())
        assert one.inputs == other.inputs


def test_each_class_has_its_own_examples(data):
    inputs, labels = table()
    for bank in load_arrays(data).values():
        for c, name in enumerate(bank.class_names):
            found = bank.take(np.arange(*bank.offsets[c : c + 2]))
            np.testing.assert_array_equal(found, inputs[labels == int(name)].astype(np.float32))


def test_a_folder_is_mapped_and_has_the_same_banks(data):
    banks, mapped = load_arrays(data), load_arrays(as_folder(data))
    same(banks, mapped)
    owner = mapped["train"].examples.arrays[0]
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)


def test_an_array_for_each_class_is_the_same_data(data, tmp_path):
    inputs, labels = table()
    np.savez(tmp_path / "classes.npz", **{str(c): inputs[labels == c] for c in (4, 0, 3, 1, 5, 2)})
    same(load_arrays(data), load_arrays(tmp_path / "classes.npz"))
    same(load_arrays(data), load_arrays(as_folder(tmp_path / "classes.npz")))


def test_labels_may_be_texts(data, tmp_path):
    inputs, labels = table()
    np.savez(tmp_path / "named.npz", inputs=inputs, labels=np.array(list("fedcba"))[labels])
    bank = load_array_pool(tmp_path / "named.npz")
    assert bank.class_names == tuple("abcdef")
    np.testing.assert_array_equal(bank.take(np.arange(4)), inputs[labels == 5].astype(np.float32))


@pytest.mark.parametrize("shape", [(5,), (6, 3), (2, 3, 4)])
def test_features_have_mean_0_and_deviation_1_over_the_training_classes(tmp_path, shape):
    inputs, labels = table(shape=shape)
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=labels)
    banks = load_arrays(tmp_path / "data.npz")
    train = inputs[np.isin(labels, np.array(banks["train"].class_names, int))].reshape(-1, shape[-1])
    for bank in banks.values():
        np.testing.assert_allclose(bank.inputs.mean, train.mean(0), rtol=1e-6)
        np.testing.assert_allclose(bank.inputs.std, train.std(0), rtol=1e-3)  # float32 inputs 1000 deviations from 0
    prepared = banks["train"].inputs.prepare(banks["train"].take(np.arange(len(banks["train"])))).numpy()
    flat = prepared.reshape(-1, shape[-1]).astype(np.float64)
    assert np.abs(flat.mean(0)).max() < 1e-3 and np.abs(flat.std(0) - 1).max() < 1e-3


def test_parts_give_the_same_scale_as_the_whole(data, monkeypatch):
    whole = load_arrays(data)["train"].inputs
    monkeypatch.setattr("tf_mamlpp.data.array_bank._CHUNK", 3 * 5 * 4)
    parts = load_arrays(data)["train"].inputs
    np.testing.assert_allclose([parts.mean, parts.std], [whole.mean, whole.std], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
def test_a_feature_that_never_changes_becomes_0(tmp_path, value):
    inputs, labels = table()
    inputs[:, 1] = value
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=labels)
    form = load_arrays(tmp_path / "data.npz")["train"].inputs
    assert form.std[1] == 1.0 and abs(form.prepare(inputs.astype(np.float32)).numpy()[:, 1]).max() < 0.1


def test_numbers_may_stay_as_they_are(data):
    bank = load_banks("arrays", data, normalise=False)["train"]
    assert bank.inputs.mean is None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "uint32", ">i4"])
def test_whole_numbers_stay(tmp_path, dtype):
    tokens = np.arange(24).reshape(12, 2)
    np.savez(tmp_path / "data.npz", inputs=tokens.astype(dtype), labels=np.repeat(np.arange(4), 3))
    bank = load_arrays(tmp_path / "data.npz")["train"]
    assert (bank.dtype, bank.inputs.dtype, bank.inputs.mean) == (np.int32, "int32", None)
    names = [int(name) for name in bank.class_names]
    np.testing.assert_array_equal(bank.take(np.arange(len(bank))).reshape(-1, 3, 2), tokens.reshape(4, 3, 2)[names])


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f8"])
def test_other_numbers_become_float32(tmp_path, dtype):
    np.savez(tmp_path / "data.npz", inputs=np.eye(12, 3, dtype=dtype), labels=np.repeat(np.arange(4), 3))
    assert load_arrays(tmp_path / "data.npz")["train"].take(np.array([0])).dtype == np.float32


def test_splits_as_for_pictures(data, tmp_path):
    lists = {"train": ["3", "1", "0"], "validation": ["5"], "test": ["2"]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    banks = load_banks("arrays", data, split_file=tmp_path / "lists.json")
    assert {split: bank.class_names for split, bank in banks.items()} == {
        **{s: tuple(sorted(n)) for s, n in lists.items()}
    }
    shares = load_banks("arrays", data, split_fractions=(0.5, 0.5, 0.0))
    assert [len(shares[split].class_names) for split in SPLITS] == [3, 3, 0] and shares["train"].by_fractions
    seeds = [load_banks("arrays", data, split_seed=seed)["train"].class_names for seed in range(5)]
    assert len(set(seeds)) > 1


@pytest.mark.parametrize("form", ["{}.npz", "{}"])
def test_files_of_splits(tmp_path, form):
    for place, split in enumerate(("train", "val", "test")):
        inputs, labels = table(classes=2, seed=place)
        target = tmp_path / "sets" / form.format(split)
        target.parent.mkdir(exist_ok=True)
        arrays = {"inputs": inputs, "labels": labels + 2 * place}
        if target.suffix:
            np.savez(target, **arrays)
        else:
            target.mkdir()
            for name, array in arrays.items():
                np.save(target / f"{name}.npy", array)
    banks = load_banks("arrays", tmp_path / "sets")
    assert [banks[split].class_names for split in SPLITS] == [("0", "1"), ("2", "3"), ("4", "5")]
    inputs, labels = table(classes=2, seed=2)
    np.testing.assert_array_equal(banks["test"].take(np.arange(4)), inputs[labels == 0].astype(np.float32))
    assert len(load_array_pool(tmp_path / "sets").class_names) == 6 and not banks["train"].by_fractions


def test_the_same_example_in_two_splits_is_told(tmp_path):
    inputs, labels = table()
    row, twin = np.flatnonzero(labels == 0)[0], np.flatnonzero(labels == 1)[2]
    inputs[twin] = inputs[row]
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=labels)
    lists = {"train": ["1", "2", "3"], "validation": ["4"], "test": ["0"]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    told = rf"^arrays train and arrays test share 1 example, such as inputs\[{twin}\] and inputs\[{row}\]: remove them"
    with pytest.warns(UserWarning, match=told):
        load_banks("arrays", tmp_path / "data.npz", split_file=tmp_path / "lists.json")


def test_queries_keep_the_order_of_their_file(data, tmp_path):
    inputs, labels = table()
    examples, truths = load_queries(data)
    np.testing.assert_array_equal(examples.take(np.arange(24)), inputs.astype(np.float32))
    assert truths == [str(label) for label in labels]
    np.save(tmp_path / "queries.npy", inputs)
    alone, truths = load_queries(tmp_path / "queries.npy")
    np.testing.assert_array_equal(alone.take(np.arange(24)), examples.take(np.arange(24)))
    assert truths is None


def test_a_class_with_too_few_examples_is_left_out_or_refused(tmp_path):
    inputs, labels = table()
    keep = (labels != 3) | (np.cumsum(labels == 3) <= 1)
    np.savez(tmp_path / "data.npz", inputs=inputs[keep], labels=labels[keep])
    bank = load_array_pool(tmp_path / "data.npz")
    with pytest.warns(
        UserWarning, match=r"^arrays all: 1 of its 6 classes have fewer than .* 1 \+ 2 examples .* 3 has 1$"
    ):
        check_bank(bank, way=5, shot=1, query_shot=2)
    with pytest.raises(UserError, match=r"only 5 of its 6 classes have .* examples, fewer than way=6; add examples"):
        check_bank(bank, way=6, shot=1, query_shot=2)


GOOD, LABELS = np.ones((6, 3)), np.arange(6)
WITH_NAN = np.where(np.arange(18).reshape(6, 3) == 7, np.nan, 1.0)

BAD = {
    "lengths": ({"inputs": GOOD, "labels": LABELS[:3]}, "has 6 inputs and 3 labels: give each example one"),
    "matrix": ({"inputs": GOOD, "labels": np.eye(6)}, r"labels has the shape \(6, 6\): give a vector"),
    "fractions": ({"inputs": GOOD, "labels": LABELS / 2}, "labels is of float64: give whole numbers or texts"),
    "objects": (
        {"inputs": GOOD, "labels": np.array([{}, 1, 2, 3, 4, 5], object)},
        "labels.* Python objects, which are never",
    ),
    "rows": ({"inputs": np.array([[1], [2, 3]], object), "labels": LABELS[:2]}, "inputs.* Python objects"),
    "nan": ({"inputs": WITH_NAN, "labels": LABELS}, r"inputs\[2\] has NaN or infinite numbers"),
    "infinite": ({"inputs": GOOD * np.inf, "labels": LABELS}, r"inputs\[0\] has NaN or infinite"),
    "too large": ({"inputs": GOOD * 1e300, "labels": LABELS}, r"inputs\[0\] has NaN or infinite"),
    "beyond int32": (
        {"inputs": np.full((6, 3), 2**40), "labels": LABELS},
        r"inputs\[0\] has whole numbers beyond int32",
    ),
    "unknown": (
        {"inputs": GOOD, "labels": LABELS, "weights": LABELS},
        "has an array 'weights' beside inputs or labels",
    ),
    "no labels": ({"inputs": GOOD}, "has only the array inputs; expected"),
    "no inputs": ({"labels": LABELS}, "has only the array labels; expected"),
    "nothing": ({}, "has no arrays; expected"),
    "empty": ({"inputs": GOOD[:0], "labels": LABELS[:0]}, "has no examples"),
    "scalars": (
        {"inputs": LABELS, "labels": LABELS},
        r"inputs has the shape \(6,\), no numbers for each example; expected",
    ),
    "no numbers": ({"inputs": np.ones((6, 0)), "labels": LABELS}, r"inputs has the shape \(6, 0\)"),
    "one number": ({"inputs": np.array(3.0), "labels": LABELS}, r"inputs has the shape \(\)"),
    "texts": ({"inputs": np.array([["a"]] * 6), "labels": LABELS}, "inputs is of <U1: give numbers"),
    "truths": ({"inputs": GOOD > 0, "labels": LABELS}, "inputs is of bool: give numbers, such as inputs.astype"),
    "complex": ({"ant": GOOD * 1j, "bee": GOOD}, "ant is of complex128: give numbers"),
    "shapes": (
        {"ant": GOOD, "bee": GOOD[:, :2]},
        r"ant has float64 \(3,\), bee has float64 \(2,\): give all",
    ),
    "mixed": ({"ant": GOOD, "bee": GOOD.astype(int)}, "bee has int64 .* and whole numbers or others"),
}


@pytest.mark.parametrize("arrays, message", BAD.values(), ids=BAD)
@pytest.mark.parametrize("form", ["file", "folder"])
def test_bad_arrays_are_one_line(tmp_path, arrays, message, form):
    np.savez(tmp_path / "data.npz", **arrays)
    path = tmp_path / "data.npz"
    if form == "folder":
        path = tmp_path / "data"
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
    with pytest.raises(UserError, match=message) as error:
        load_banks("arrays", path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00", b"no array at all"])
@pytest.mark.parametrize("name", ["data.npz", "folder/inputs.npy"])
def test_damaged_files_are_one_line(tmp_path, content, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    path = tmp_path / name if name.endswith("npz") else tmp_path / "folder"
    with pytest.raises(UserError, match="cannot be read") as error:
        load_arrays(path)
    assert "\n" not in str(error.value)


def test_every_byte_of_a_file_may_be_damaged(data, fuzz):
    whole = data.read_bytes()

    def damaged(place, value):
        content = bytearray(whole)
        content[place % len(whole)] = value
        data.write_bytes(content)
        try:
            load_arrays(data)
        except UserError as error:
            assert "\n" not in str(error)

    fuzz(damaged, 15, place=st.integers(0, 10**6), value=st.integers(0, 255))


def test_what_does_not_fit_into_memory(data, monkeypatch):
    def too_much(*args):
        raise MemoryError

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", too_much)
    with pytest.raises(
        UserError, match="data.npz: inputs does not fit into memory: unpack it to a folder of .npy files"
    ):
        load_arrays(data)


def test_a_file_beside_the_arrays(data):
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("readme.txt", "about these numbers")
    with pytest.raises(UserError, match="data.npz: readme.txt: cannot be read"):
        load_arrays(data)


def test_a_file_cut_short(data):
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(UserError, match="data.npz: .*cannot be read"):
        load_arrays(data)


def test_paths_that_hold_no_arrays(tmp_path, data):
    np.save(tmp_path / "inputs.npy", GOOD)
    for path, message in (
        (tmp_path / "none", "no such file or folder; expected"),
        (tmp_path / "inputs.npy", "is one array; expected"),
    ):
        with pytest.raises(UserError, match=message):
            load_banks("arrays", path)
    with pytest.raises(UserError, match="^data source 'arrays' needs a path: where its examples are$"):
        load_banks("arrays")
    with pytest.raises(UserError, match="^channels has no use with data.name=arrays: it is for pictures$"):
        load_banks("arrays", data, channels=3)


def test_incomplete_and_overlapping_splits(tmp_path):
    folder = tmp_path / "sets"
    folder.mkdir()
    for split in ("train", "val"):
        np.savez(folder / f"{split}.npz", ant=GOOD)
    with pytest.raises(
        UserError, match="train.npz, val.npz look like splits, but it needs one of each: train, val and test"
    ):
        load_banks("arrays", folder)
    np.savez(folder / "test.npz", bee=GOOD)
    with pytest.raises(UserError, match="arrays train and arrays validation share 1 classes, such as ant"):
        load_banks("arrays", folder)
    np.savez(folder / "test.npz", bee=GOOD[:, :2])
    with pytest.raises(UserError, match="train.npz ant has float64 .*, test.npz bee has float64"):
        load_banks("arrays", folder)
