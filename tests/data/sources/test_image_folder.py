import json
import os

import numpy as np
import pytest

from tf_mamlpp.data import check_bank, decode_file, load_banks, resize
from tf_mamlpp.errors import UserError

TEN = {f"class{i}": 2 + i % 3 for i in range(10)}


def test_pool_is_divided_by_class(make_tree, tmp_path):
    banks = load_banks("image_folder", make_tree(tmp_path / "pets", TEN), image_size=(8, 8))
    assert [len(bank.class_names) for bank in banks.values()] == [6, 2, 2]
    assert sorted(name for bank in banks.values() for name in bank.class_names) == sorted(TEN)
    for bank in banks.values():
        for name, first, last in zip(bank.class_names, bank.offsets[:-1], bank.offsets[1:], strict=True):
            files = sorted((tmp_path / "pets" / name).iterdir())
            expected = [resize(decode_file(file, 3), (8, 8)) for file in files]
            np.testing.assert_array_equal(bank.images[first:last], expected)


def test_pool_is_divided_by_other_fractions(make_tree, tmp_path):
    root = make_tree(tmp_path / "pets", TEN)
    usual = load_banks("image_folder", root, image_size=(8, 8))
    banks = load_banks("image_folder", root, image_size=(8, 8), split_fractions=(0.5, 0.5, 0))
    assert [len(bank.class_names) for bank in banks.values()] == [5, 5, 0]
    assert sorted(name for bank in banks.values() for name in bank.class_names) == sorted(TEN)
    assert all(bank.by_fractions for bank in (*usual.values(), *banks.values()))
    again = load_banks("image_folder", root, image_size=(8, 8))
    assert [bank.class_names for bank in again.values()] == [bank.class_names for bank in usual.values()]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"split_fractions": (0.5, 0.4, 0.2)}, "split_fractions is .*: it must be three numbers"),
        ({"split_fractions": (0.5, 0.4, 0.1), "split_file": "lists.json"}, "contradict: choose one"),
        ({"split_fractions": (0.5, 0.4, 0.1), "name": "omniglot"}, "it takes no split fractions"),
    ],
)
def test_fractions_that_have_no_use(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        load_banks(**{"name": "image_folder", "path": tmp_path, **settings})


@pytest.mark.parametrize("by_folders", [False, True])
def test_too_few_classes_of_a_division_name_what_divides(make_tree, tmp_path, by_folders):
    tree = {f"{split}/{split}{c}": 2 for split in ("train", "val", "test") for c in "ab"} if by_folders else TEN
    root = make_tree(tmp_path / "tree", tree)
    for _ in ("decoded", "from the cache"):
        test = load_banks("image_folder", root, image_size=(8, 8))["test"]
        with pytest.raises(UserError, match="test: has 2 classes, fewer than way=5; use a smaller way") as caught:
            check_bank(test, way=5, shot=1, query_shot=1)
        assert ("data.split_fractions, data.split_file" in str(caught.value)) is not by_folders


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_given_splits_and_nested_classes(make_tree, tmp_path, validation):
    tree = {"train/a/one": 2, "train/a/two": 2, f"{validation}/three": 3, "test/four": 1}
    banks = load_banks("image_folder", make_tree(tmp_path / "tree", tree), image_size=(8, 8), channels=1)
    assert {split: bank.class_names for split, bank in banks.items()} == {
        "train": ("a/one", "a/two"),
        "validation": ("three",),
        "test": ("four",),
    }
    assert banks["train"].images.shape == (4, 8, 8, 1)


def test_split_file_divides_the_whole_tree(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", {"train/a": 1, "train/b": 2, "val/c": 3, "test/d": 1})
    lists = {"train": ["val/c"], "validation": ["train/b"], "test": ["train/a"]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    banks = load_banks("image_folder", root, image_size=(8, 8), split_file=tmp_path / "lists.json")
    assert {split: list(bank.class_names) for split, bank in banks.items()} == lists
    assert [len(bank.images) for bank in banks.values()] == [3, 2, 1]
    (tmp_path / "lists.json").write_text(json.dumps({**lists, "train": ["val/c", "test/d"]}))
    banks = load_banks("image_folder", root, image_size=(8, 8), split_file=tmp_path / "lists.json")
    assert banks["train"].class_names == ("test/d", "val/c")


MAC, OTHERS = "cafe\u0301", "caf\u00e9"  # the same name: an accent of its own, or one with its letter


@pytest.mark.parametrize("on_disk, in_file", [(MAC, OTHERS), (OTHERS, MAC), (MAC, MAC)])
def test_accents_in_a_split_file_are_the_same_in_both_forms(make_tree, tmp_path, on_disk, in_file):
    root = make_tree(tmp_path / "tree", {on_disk: 1, "b": 1, "c": 1, "d": 1})
    (tmp_path / "lists.json").write_text(json.dumps({"train": ["b", in_file], "validation": ["c"], "test": ["d"]}))
    banks = load_banks("image_folder", root, image_size=(8, 8), split_file=tmp_path / "lists.json")
    assert banks["train"].class_names == ("b", on_disk)
    (tmp_path / "lists.json").write_text(json.dumps({"train": ["b", MAC], "validation": ["c"], "test": [OTHERS]}))
    with pytest.raises(UserError, match="names the class 'caf.*' twice"):
        load_banks("image_folder", root, image_size=(8, 8), split_file=tmp_path / "lists.json")


@pytest.mark.parametrize("place", ["train", "test"])
def test_one_name_in_both_forms_is_refused(make_tree, tmp_path, place):
    tree = {f"train/{MAC}": 1, f"{place}/{OTHERS}": 1, "val/c": 1, "test/d": 1}
    with pytest.raises(UserError, match="has the class .* twice" if place == "train" else "share 1 classes"):
        load_banks("image_folder", make_tree(tmp_path / "tree", tree), image_size=(8, 8))


def test_a_split_file_tells_both_forms_apart_where_both_are_there(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", {MAC: 1, OTHERS: 1, "c": 1, "d": 1})
    (tmp_path / "lists.json").write_text(json.dumps({"train": [MAC], "validation": ["c"], "test": ["d"]}))
    banks = load_banks("image_folder", root, image_size=(8, 8), split_file=tmp_path / "lists.json")
    assert banks["train"].class_names == (MAC,)


def test_pictures_in_two_splits_are_counted_and_named(tmp_path, png):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (6, 9, 9), dtype=np.uint8)
    places = ["train/a/0", "train/a/1", "val/b/2", "val/b/3", "test/c/4", "test/c/5", "test/c/copy"]
    for place, picture in zip(places, [*pictures, pictures[1]], strict=True):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{place}.png").write_bytes(png(picture))
    message = r"image_folder train and image_folder test share 1 picture, such as .*a/1.png and .*c/copy.png"
    for _ in ("decoded", "from the cache"):
        with pytest.warns(UserWarning, match=message) as caught:
            load_banks("image_folder", tmp_path, image_size=(8, 8), channels=1)
        assert len(caught) == 1


def test_grey_and_colour_pictures_of_mixed_sizes_and_proportions(tmp_path, png):
    shapes = {"a": (30, 10, 3), "b": (10, 30), "c": (9, 9, 4)}
    for name, shape in shapes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png(np.full(shape, 90 + len(shape), np.uint8)))
    banks = load_banks("image_folder", tmp_path, image_size=(8, 6), channels=3, resize="crop")
    levels = {bank.class_names[0]: np.unique(bank.images) for bank in banks.values()}
    assert all(bank.images.shape == (1, 8, 6, 3) for bank in banks.values())
    assert {name: value.tolist() for name, value in levels.items()} == {"a": [93], "b": [92], "c": [196]}


def test_a_class_may_be_called_test(make_tree, tmp_path):
    banks = load_banks("image_folder", make_tree(tmp_path / "tree", {"test": 1, "one": 1, "two": 1}))
    assert sorted(bank.class_names[0] for bank in banks.values()) == ["one", "test", "two"]


def test_other_files_and_empty_folders_are_ignored(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", TEN)
    (root / "readme.txt").write_text("x")
    (root / "class0" / "notes.txt").write_text("x")
    (root / "class0" / ".hidden.png").write_text("x")
    (root / "empty").mkdir()
    banks = load_banks("image_folder", root, image_size=(8, 8))
    assert sum(len(bank.images) for bank in banks.values()) == sum(TEN.values())


def test_changed_picture_is_decoded_anew(make_tree, tmp_path, png):
    root = make_tree(tmp_path / "tree", {"a": 1, "b": 1, "c": 1})
    load_banks("image_folder", root, image_size=(8, 8))
    (root / "a" / "00.png").write_bytes(png(np.full((9, 9), 77, np.uint8)))
    banks = load_banks("image_folder", root, image_size=(8, 8))
    assert any((bank.images == 77).all() for bank in banks.values())


@pytest.mark.parametrize(
    "tree, message",
    [
        ({}, "no such folder; expected a folder of pictures for each class"),
        ({"a": 0, "b": 0}, "has no class folders with pictures"),
        ({"a": 1, "b": 1}, "has 2 classes, too few to divide: 1 for validation and 1 for test leave none"),
        ({"train/a": 1, "test/b": 1}, "needs one folder val/ or valid/ or validation/"),
        ({"train/a": 1, "val/b": 1, "valid/c": 1, "test/d": 1}, "needs one folder val/"),
        ({"train/a": 1, "val/b": 1, "test/c": 0}, "test: has no class folders with pictures"),
        (
            {"train/a": 1, "val/b": 1, "test/a": 1},
            "image_folder train and image_folder test share 1 classes.* a;",
        ),
    ],
)
def test_bad_trees_are_named(make_tree, tmp_path, tree, message):
    with pytest.raises(UserError, match=message) as caught:
        load_banks("image_folder", make_tree(tmp_path / "tree", tree), image_size=(8, 8))
    assert "\n" not in str(caught.value)


def test_corrupt_and_unreadable_pictures_are_named(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", TEN)
    broken = root / "class4" / "01.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match="class4/01.png: cannot be read as a picture"):
        load_banks("image_folder", root)
    broken.unlink()
    os.symlink(tmp_path / "nowhere", broken)
    with pytest.raises(UserError, match="class4/01.png"):
        load_banks("image_folder", root)
