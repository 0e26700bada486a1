from pathlib import Path

import pytest

from tf_mamlpp.data import load_banks
from tf_mamlpp.data.sources.split_folders import check_pool, split_folders, split_named
from tf_mamlpp.errors import UserError


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Val", "Test"),
        ("TRAIN", "VALID", "TEST"),
        ("training", "validation", "testing"),
        ("Training Set", "Validation Set", "Test Set"),
        ("trn", "val", "tst"),
        ("meta_train", "meta-val", "MetaTest"),
        ("metatrain", "metaval", "metatest"),
        ("train_images", "val_images", "test_images"),
        ("images_train", "images_val", "images_test"),
        ("train", "dev", "test"),
        ("Train", "Val", "Eval"),
        ("train", "eval", "test"),
        ("base", "val", "novel"),
        ("base", "dev", "novel"),
        ("omniglot_train", "omniglot_val", "omniglot_test"),
        ("CUB-train", "CUB-dev", "CUB-test"),
        ("train2017", "val2017", "test2017"),
        ("1_train", "2_val", "3_test"),
    ],
)
@pytest.mark.parametrize("inside", ["", "images/", "archive/images/"])
def test_what_people_call_splits_and_where_they_put_them(tmp_path, names, inside):
    root = folders(tmp_path, *(f"{inside}{name}/c{number}" for number, name in enumerate(names)))
    (root / "README.txt").touch()
    folders(root, "__MACOSX/x", ".git/x")
    found = split_folders(root)
    assert list(found) == ["train", "validation", "test"]
    assert [folder.name for folder in found.values()] == list(names)


@pytest.mark.parametrize(
    "names",
    [
        ("ant", "bee"),
        ("test", "one", "two"),  # classes, as they hold no folders
        ("train", "val", "test"),
        ("trainer/a", "tester/b", "value/c"),
        ("crash_test/a", "bus/b"),
        ("base/a", "other/b"),
        ("images_background/a", "images_evaluation/b"),
        ("vehicles/train/steam", "vehicles/bus", "animals/cat"),
    ],
)
def test_trees_without_splits(tmp_path, names):
    root = folders(tmp_path, *names)
    (root / "test" / ".ipynb_checkpoints").mkdir() if (root / "test").exists() else None
    assert split_folders(root) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Train/a", "b", "c"), "Train/ look like splits, but it needs one folder val/ or valid/ or validation/"),
        (("Train/a", "Test/a"), "Test/ and Train/ look like splits, but it needs one folder val/"),
        (("train/a", "Train/b", "val/c", "test/d"), "Train/, test/, train/ and val/ .* it needs one folder train/"),
        (("train/a", "val/b", "dev/c"), "needs one folder test/"),
        (("train/a", "eval/c"), "needs one folder val/"),
        (("images/train/a", "images/owls/b"), "images: train/ look like splits"),
        (("birds_train/a", "birds_test/b"), "birds_test/ and birds_train/ look like splits, .* val/"),
    ],
)
def test_folders_that_look_like_splits_and_cannot_be(tmp_path, names, message):
    with pytest.raises(UserError, match=message) as caught:
        split_folders(folders(tmp_path, *names))
    assert "data.split_file" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cat/train", "cat/test", "dog/train"), "cat/test/ and cat/train/ .* hold no class folders"),
        (("train", "test", "val"), "test/, train/ and val/ look like splits, but hold no class folders"),
        (("photo/train/a", "photo/test/a", "sketch/b"), "photo/test/ and photo/train/ .*give pets/photo as data.path"),
        (("x/y/Train/a", "x/y/Val/b", "x/y/Test/c", "x/z"), "x/y/Test/, .*give pets/x/y as data.path"),
    ],
)
def test_pools_in_which_a_class_would_be_two(names, message):
    with pytest.raises(UserError, match=message):
        check_pool(Path("pets"), names)


@pytest.mark.parametrize("names", [("test", "a", "b"), ("v/train/steam", "v/bus", "a/cat"), ("a/train", "b/test")])
def test_pools_of_any_other_names(names):
    check_pool(Path("pets"), names)


@pytest.mark.parametrize("name", ["trains", "trainer", "protest", "value", "validity", "latest", "metal", "test2", ""])
def test_words_that_are_no_splits(name):
    assert split_named(name) is None


def test_the_users_own_division_is_kept(make_tree, tmp_path):
    """Capitals were pooled in silence: classes of the user's test were trained on, and one class became two."""
    tree = {f"Train/c{c}": 1 for c in range(4)} | {"Val/d0": 1, "Val/d1": 1, "Test/e0": 1, "Test/e1": 2}
    banks = load_banks("image_folder", make_tree(tmp_path / "tree" / "images", tree).parent, image_size=(8, 8))
    assert {split: bank.class_names for split, bank in banks.items()} == {
        "train": ("c0", "c1", "c2", "c3"),
        "validation": ("d0", "d1"),
        "test": ("e0", "e1"),
    }


def test_one_class_in_two_splits_is_refused(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", {"Train/c00": 1, "Train/c01": 1, "Val/c02": 1, "Test/c00": 1})
    with pytest.raises(UserError, match="share 1 classes, such as c00"):
        load_banks("image_folder", root, image_size=(8, 8))


def test_a_split_file_divides_any_tree(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", {"Train/a": 1, "Test/b": 1, "cat/train": 1, "cat/test": 1})
    file = tmp_path / "lists.json"
    file.write_text('{"train": ["Train/a"], "validation": ["cat/test"], "test": ["Test/b"]}')
    banks = load_banks("image_folder", root, image_size=(8, 8), split_file=file)
    assert [bank.class_names for bank in banks.values()] == [("Train/a",), ("cat/test",), ("Test/b",)]


def test_a_split_file_may_leave_out_the_folders_of_splits(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", {"Train/a": 1, "Train/b": 1, "Val/c": 1, "Test/d": 1, "Test/b": 1})
    file = tmp_path / "lists.json"
    file.write_text('{"train": ["d", "a"], "validation": ["c"], "test": ["Test/b"]}')
    banks = load_banks("image_folder", root, image_size=(8, 8), split_file=file)
    assert [bank.class_names for bank in banks.values()] == [("Test/d", "Train/a"), ("Val/c",), ("Test/b",)]
    file.write_text('{"train": ["b"], "validation": ["c"], "test": ["d"]}')
    with pytest.raises(UserError, match="'b' may be 'Test/b' and 'Train/b' of .*: write its whole name"):
        load_banks("image_folder", root, image_size=(8, 8), split_file=file)
