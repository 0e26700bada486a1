"""Trees of class folders that nobody meant: banks, or one UserError that names the place; never a hang."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import strategies as st

from tf_mamlpp.data import load_banks
from tf_mamlpp.data.sources import image_folder
from tf_mamlpp.errors import UserError

CLASSES = {name: 1 for name in "abcdef"}


def banks_or_one_error(root, **settings):
    try:
        banks = load_banks("image_folder", root, image_size=(4, 4), channels=1, **settings)
    except UserError as error:
        assert str(root) in str(error)
        return None
    assert set(banks) == {"train", "validation", "test"}
    assert all(bank.images.shape == (bank.offsets[-1], 4, 4, 1) for bank in banks.values())
    return banks


def bytes_name(name):
    """A name of any bytes that a file can have."""
    return os.fsdecode(name.replace(b"/", b"").replace(b"\0", b"") or b"x")


@pytest.mark.filterwarnings("ignore")
def test_trees(fuzz, no_hang, tmp_path, png):
    picture = png(np.zeros((2, 2), np.uint8))
    contents = {"picture": picture, "empty": b"", "cut": picture[:40], "text": b"no picture"}
    names = st.sampled_from(["a", "b", "train", "val", "test", "c.png", ".h", "__MACOSX", "d e", "\n", "é", "-", "*"])
    names |= st.binary(min_size=1, max_size=6).map(bytes_name).filter(lambda name: name not in (".", ".."))
    kinds = st.sampled_from(["picture", "picture", "picture", "empty", "cut", "text", "folder", "pipe", "up", "loop"])
    counter = iter(range(10**9))

    def check(entries):
        root = tmp_path / str(next(counter))
        root.mkdir()
        for path, kind in entries:
            place = root.joinpath(*path).with_name(path[-1] + ("" if kind == "folder" else ".png"))
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(place):
                    continue
                if kind == "folder":
                    place.mkdir(exist_ok=True)
                elif kind == "pipe":
                    os.mkfifo(place)
                elif kind in ("up", "loop"):
                    place.symlink_to("../.." if kind == "up" else place.name)
                else:
                    place.write_bytes(contents[kind])
            except OSError:
                continue  # below a file
        banks_or_one_error(root)
        shutil.rmtree(root)

    paths = st.lists(names, min_size=1, max_size=3)
    fuzz(check, 25, entries=st.lists(st.tuples(paths, kinds), max_size=10))


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "/dev/null", "/proc/self/mem"])
def test_paths_that_lead_nowhere(path):
    with pytest.raises(UserError):
        load_banks("image_folder", path)


def test_names_that_are_no_text(make_tree, tmp_path):
    names = [os.fsdecode(b"\xff\xfe" + bytes([i])) for i in range(97, 103)]
    root = make_tree(tmp_path / "tree", dict.fromkeys(names, 1))
    for _ in ("decoded", "from the cache"):
        banks = banks_or_one_error(root)
        assert sorted(name for bank in banks.values() for name in bank.class_names) == names


# --- The files beside the pictures -----------------------------------------------------------------------------


def test_split_files(fuzz, make_tree, tmp_path):
    root, file = make_tree(tmp_path / "tree", CLASSES), tmp_path / "lists.json"
    whole = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}

    def check(content):
        file.write_bytes(content)
        try:
            splits = image_folder.folder_splits(root, 0, file)
        except UserError as error:
            assert str(file) in str(error)
            return
        assert set(splits) == set(whole)

    text = json.dumps(whole).encode()
    flipped = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 255)).map(
        lambda f: text[: f[0]] + bytes([text[f[0]] ^ f[1]]) + text[f[0] + 1 :]
    )
    deep = st.sampled_from([b"[" * 100_000, b'{"train": ' * 50_000, pickle.dumps(whole)])
    fuzz(check, 100, content=flipped | deep | st.binary(max_size=20))


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("file", ["images.npy", "digests.npy", "index.json", "pictures.json"])
def test_a_pickle_in_the_cache_is_never_loaded(make_tree, tmp_path, file):
    root, ran = make_tree(tmp_path / "tree", CLASSES), tmp_path / "ran"
    before = {split: bank.images.copy() for split, bank in banks_or_one_error(root).items()}
    for place in (tmp_path / "cache").glob(f"*/{file}"):
        if file.endswith("npy"):
            np.save(place, np.array([Planted(ran)] * len(before["train"]), object), allow_pickle=True)
        else:
            place.write_bytes(pickle.dumps(Planted(ran)))
    after = banks_or_one_error(root)
    assert not ran.exists()
    assert all((after[split].images == images).all() for split, images in before.items())
    pickle.loads(pickle.dumps(Planted(ran))).close()
    assert ran.exists()


def test_a_damaged_cache_is_rebuilt(fuzz, make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", CLASSES)
    before = {split: bank.images.copy() for split, bank in banks_or_one_error(root).items()}
    headers = sorted((tmp_path / "cache").glob("*/*"))

    def check(file, place, bit, how):
        content = bytearray(file.read_bytes())
        place %= min(len(content), 128)  # of a .npy file, the header: pixels are no one's to check
        if how == "flip":
            content[place] ^= 1 << bit
        file.write_bytes(content[:place] if how == "cut" else content)
        for split, bank in banks_or_one_error(root).items():
            assert bank.images.shape == before[split].shape and bank.images.dtype == np.uint8
            assert bank.offsets.tolist() == list(range(len(bank.class_names) + 1))

    how = st.sampled_from(["flip", "flip", "flip", "cut"])
    fuzz(check, 10, file=st.sampled_from(headers), place=st.integers(0, 10**4), bit=st.integers(0, 7), how=how)
