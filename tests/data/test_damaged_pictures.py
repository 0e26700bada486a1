"""Pictures that cannot be read: all are named at once, or they are left out where that is asked for."""

import errno
import os
import re
import warnings
import zipfile

import numpy as np
import pytest

from tf_mamlpp.data import build_or_load, decode_file, episodes, load_banks
from tf_mamlpp.data.bulk_decoding import decoded_chunks
from tf_mamlpp.data.damaged_pictures import DamagedPictures
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.data.sources.omniglot import omniglot_splits
from tf_mamlpp.errors import UserError

CLASSES = {f"{split}/{c}": 3 for split, classes in (("train", "abc"), ("val", "de"), ("test", "fg")) for c in classes}


@pytest.fixture
def tree(make_tree, tmp_path):
    return make_tree(tmp_path / "pets", CLASSES)


def spoil(root):
    """Six pictures of all splits, each damaged in another way; what is left of class b is nothing."""
    whole = (root / "train/a/00.png").read_bytes()
    (root / "train/a/01.png").write_bytes(b"")
    (root / "train/b/00.png").write_bytes(b"no picture")
    (root / "train/b/01.png").write_bytes(whole[:60])
    (root / "train/b/02.png").unlink()
    os.symlink(root / "nowhere", root / "train/b/02.png")
    (root / "val/d/02.png").write_bytes(whole[:-40] + bytes(40))
    (root / "test/g/00.png").write_bytes(whole[:-300])
    return ["train/a/01", "train/b/00", "train/b/01", "train/b/02", "val/d/02", "test/g/00"]


def test_all_are_named_at_once(tree):
    damaged = spoil(tree)
    with pytest.raises(DamagedPictures, match="^6 pictures cannot be read: ") as caught:
        load_banks("image_folder", tree, image_size=(8, 8))
    text = str(caught.value)
    assert [f"{tree}/{name}.png" for name in damaged] == re.findall(r"(\S+\.png): cannot be read", text)
    assert text.endswith("Replace or remove them, or leave them out with data.skip_damaged=true")
    assert "\n" not in text and "0x" not in text and "<" not in text and "it is empty, or of no known kind" in text


def test_of_many_the_first_are_named(make_tree, tmp_path):
    root = make_tree(tmp_path / "pets", {name: 7 for name in "abcdefg"})
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DamagedPictures, match="^49 pictures cannot be read: .*; and 29 more. Replace") as caught:
        load_banks("image_folder", root)
    assert str(caught.value).count("cannot be read as a picture") == 20


def test_one_is_named_as_before(tree):
    (tree / "val/d/02.png").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"val/d/02.png: cannot be read as a picture \(.*\); replace or remove it, or leave"
    ):
        load_banks("image_folder", tree)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_no_name_of_an_open_file_is_told(tmp_path, content):
    (tmp_path / "cat.png").write_bytes(content)
    for source, name in ((content, "cat.png"), (tmp_path / "cat.png", None)):
        with pytest.raises(UserError, match=r"cat.png: cannot be read as a picture \([^<>]*\); replace") as caught:
            decode_file(source, 3, name)
        assert str(caught.value).count("cat.png") == 1


def test_they_are_left_out_where_that_is_asked_for(tree):
    whole = load_banks("image_folder", tree, image_size=(8, 8))
    spoil(tree)
    for _ in ("decoded", "from the cache"):
        with pytest.warns(
            UserWarning, match="image_folder: left out 6 damaged pictures, such as .*train/a/01.png: "
        ) as told:
            banks = load_banks("image_folder", tree, image_size=(8, 8), skip_damaged=True)
        assert len(told) == 1
        assert {split: len(bank.damaged) for split, bank in banks.items()} == {"train": 4, "validation": 1, "test": 1}
        assert banks["train"].class_names == ("a", "c")  # nothing of b is left
        assert banks["train"].offsets.tolist() == [0, 2, 5]
        kept = {"train": [0, 2, 6, 7, 8], "validation": [0, 1, 3, 4, 5], "test": [0, 1, 2, 4, 5]}
        for split, rows in kept.items():
            np.testing.assert_array_equal(banks[split].images, whole[split].images[rows])
    with pytest.raises(DamagedPictures, match="6 pictures"):  # what was left out is no cache for those who did not ask
        load_banks("image_folder", tree, image_size=(8, 8))


def test_sound_pictures_are_the_same_with_and_without(tree):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, skipping = (load_banks("image_folder", tree, image_size=(8, 8), skip_damaged=s) for s in (False, True))
    for split, bank in plain.items():
        assert bank.class_names == skipping[split].class_names and bank.damaged == skipping[split].damaged == ()
        np.testing.assert_array_equal(bank.images, skipping[split].images)


def test_the_cache_of_a_mended_picture_is_not_the_one_without_it(tree):
    whole = (tree / "val/d/02.png").read_bytes()
    (tree / "val/d/02.png").write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out 1 damaged"):
        load_banks("image_folder", tree, image_size=(8, 8), skip_damaged=True)
    (tree / "val/d/02.png").write_bytes(whole)
    assert len(load_banks("image_folder", tree, image_size=(8, 8), skip_damaged=True)["validation"].images) == 6


def test_a_split_of_which_nothing_is_left_is_an_error(tree):
    for file in (tree / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DamagedPictures, match="6 pictures cannot be read"):
        load_banks("image_folder", tree, skip_damaged=True)


def test_tasks_of_a_source_of_that_name(tree):
    (tree / "train/a/01.png").write_bytes(b"")
    settings = {"split": "train", "way": 3, "shot": 1, "query_shot": 1, "tasks": 1, "image_size": (8, 8)}
    with pytest.raises(UserError, match="a/01.png"):
        episodes("image_folder", tree, **settings)
    with pytest.warns(UserWarning, match="left out 1 damaged"):
        next(iter(episodes("image_folder", tree, skip_damaged=True, **settings)))


def test_more_pictures_than_are_moved_at_a_time(png):
    image = png(np.arange(16, dtype=np.uint8).reshape(4, 4))
    contents = [b"" if row % 5 == 0 else image for row in range(2600)]
    listed = Pictures(("a", "b"), (1000, 1600), lambda: zip(range(2600), map(str, range(2600)), contents, strict=True))
    bank = build_or_load("k", lambda: listed, name="many train", image_size=(4, 4), channels=1, skip_damaged=True)
    assert bank.offsets.tolist() == [0, 800, 2080] and len(bank.damaged) == 520
    assert (bank.images[..., 0] == np.arange(16).reshape(4, 4)).all()


@pytest.mark.parametrize(
    "cause", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.ESTALE, "x")]
)
def test_what_the_system_cannot_do_for_now_is_no_damage(monkeypatch, cause):
    """Else a picture would be missing ever after, as the cache is kept."""
    error = UserError("cat.png: cannot be read")
    error.__cause__ = cause
    damaged = {}
    with pytest.raises(UserError, match="cat.png"):
        list(decoded_chunks(Pictures(("a",), (1,), lambda: iter([(0, "cat.png", error)])), (4, 4), 1, damaged=damaged))
    assert not damaged


def test_damaged_members_of_a_zip_archive(tmp_path, png):
    """Omniglot's archives: each damaged drawing is named, not only the first."""
    for part, characters in (("images_background", 964), ("images_evaluation", 659)):
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            for number in range(characters):
                archive.writestr(f"{part}/{part[7:]}/character{number:03}/0001_01.png", png(np.zeros((2, 2), np.uint8)))
    file = tmp_path / "images_background.zip"
    content = bytearray(file.read_bytes())
    for number in (5, 6):
        place = content.index(b"character%03d/0001_01.png" % number)
        content[place + 40 : place + 50] = bytes(10)
    file.write_bytes(content)
    found = []
    for _, open_pictures in omniglot_splits(tmp_path, split_seed=0).values():
        found += [str(content) for _, _, content in open_pictures().read() if isinstance(content, UserError)]
    assert len(found) == 2
    assert sorted(set(re.findall(r"character00\d", " ".join(found)))) == ["character005", "character006"]
