import io
import tarfile

import numpy as np
import pytest

from tf_mamlpp.data import build_or_load, episodes, load_banks
from tf_mamlpp.data.sources.archives import members
from tf_mamlpp.data.sources.mini_imagenet import mini_imagenet_splits
from tf_mamlpp.errors import UserError

CLASSES = {"train": 3, "val": 2, "test": 2}
PER_CLASS = 4


@pytest.fixture
def pictures(png):
    """Path in the tree -> content; no two pictures alike."""
    names = [
        f"{s}/{s}{c}/{p:02}.png" for s, classes in CLASSES.items() for c in range(classes) for p in range(PER_CLASS)
    ]
    return {name: png(np.full((8, 8, 3), number, np.uint8)) for number, name in enumerate(names)}


@pytest.fixture
def pack(tmp_path):
    """Writes a .tar.gz of these pictures into the data folder: pack("train.tar.gz", {path: content})."""

    def write(file, pictures):
        (tmp_path / "data").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "data" / file, "w:gz") as archive:
            for name, content in pictures.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return tmp_path / "data"

    return write


@pytest.fixture
def halves(pack, pictures):
    """Two archives a split: pictures of odd and even numbers."""
    for split in CLASSES:
        mine = [name for name in pictures if name.startswith(split)]
        pack(f"{split}-1of2.tar.gz", {name: pictures[name] for name in mine[1::2]})
        folder = pack(f"{split}-2of2.tar.gz", {name: pictures[name] for name in mine[::2]})
    return folder


def load(path, **settings):
    return load_banks("mini_imagenet", path, image_size=(8, 8), **settings)


def test_every_archive_of_a_split_is_taken_and_equals_the_unpacked_tree(halves, tmp_path, pictures):
    (halves / "README.txt").write_text("x")
    packed = load(halves)
    for name, content in pictures.items():
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    unpacked = load(tmp_path / "tree")
    assert [bank.images.shape for bank in packed.values()] == [(12, 8, 8, 3), (8, 8, 8, 3), (8, 8, 8, 3)]
    for split, bank in packed.items():
        assert bank.class_names == unpacked[split].class_names
        np.testing.assert_array_equal(bank.offsets, unpacked[split].offsets)
        np.testing.assert_array_equal(bank.images, unpacked[split].images)
    assert packed["train"].class_names == ("train0", "train1", "train2")
    assert packed["test"].images[:, 0, 0, 0].tolist() == list(range(20, 28))


def test_one_half_is_enough_and_a_second_decodes_anew(halves):
    second = (halves / "val-2of2.tar.gz").read_bytes()
    (halves / "val-2of2.tar.gz").unlink()
    assert np.diff(load(halves)["validation"].offsets).tolist() == [2, 2]
    (halves / "val-2of2.tar.gz").write_bytes(second)
    assert np.diff(load(halves)["validation"].offsets).tolist() == [4, 4]


def test_other_files_in_an_archive_are_ignored(pack, halves, pictures):
    extra = {
        "train/train0/._00.png": b"x",
        "train/labels.csv": b"x",
        "./train/train0/99.png": pictures["val/val0/00.png"],
    }
    with pytest.warns(UserWarning, match="share 1 picture"):
        banks = load(pack("train-3.tar.gz", extra))
    assert np.diff(banks["train"].offsets).tolist() == [5, 4, 4]


def test_pictures_in_two_archives_or_in_the_wrong_one_are_named(pack, halves, pictures):
    some = {name: pictures[name] for name in ("train/train1/00.png", "train/train1/01.png")}
    pack("train.tar.gz", some)
    with pytest.raises(UserError, match="train.tar.gz: train1/00.png is in train-2of2.tar.gz and train.tar.gz"):
        load(halves)
    pack("train.tar.gz", {"val/val0/77.png": pictures["val/val0/00.png"]})
    with pytest.raises(UserError, match="train.tar.gz: val/val0/77.png lies in no class folder of train/"):
        load(halves)
    pack("train.tar.gz", {"train/77.png": pictures["val/val0/00.png"]})
    with pytest.raises(UserError, match="lies in no class folder"):
        load(halves)


def test_a_class_in_two_splits_is_refused(pack, halves, png):
    pack("train-3.tar.gz", {"train/test1/new.png": png(np.full((8, 8, 3), 99, np.uint8))})
    with pytest.raises(UserError, match="mini_imagenet train and mini_imagenet test share 1 classes, such as test1"):
        load(halves)


def test_missing_folder_or_splits_are_named(halves, tmp_path):
    with pytest.raises(UserError, match="needs a path"):
        load(None)
    with pytest.raises(UserError, match="nowhere: no such folder; expected archives train"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: has neither archives nor folders of splits"):
        load(tmp_path / "empty")
    for file in halves.glob("val*"):
        file.unlink()
    with pytest.raises(UserError, match=r"data: has no archive val\*.tar.gz beside the others"):
        load(halves)


def test_archives_without_pictures_and_damaged_ones_are_named(halves, pack):
    pack("val-1of2.tar.gz", {"val/readme.txt": b"x"})
    (halves / "val-2of2.tar.gz").unlink()
    with pytest.raises(UserError, match="val-1of2.tar.gz: holds no pictures"):
        load(halves)
    (halves / "val-1of2.tar.gz").write_bytes(b"<html>")
    with pytest.raises(UserError, match="val-1of2.tar.gz: truncated, damaged"):
        load(halves)
    pack("val-1of2.tar.gz", {"val/val0/00.png": b"\x89PNG broken"})
    with pytest.raises(UserError, match="val-1of2.tar.gz/val0/00.png: cannot be read as a picture"):
        load(halves)


@pytest.mark.slow
def test_real_mini_imagenet_is_listed_whole_and_its_test_split_decoded(real_mini_imagenet, shared_cache):
    splits = mini_imagenet_splits(real_mini_imagenet)
    listed = {split: open_pictures() for split, (_, open_pictures) in splits.items()}
    assert [len(pictures.class_names) for pictures in listed.values()] == [64, 16, 20]
    assert all(count in (300, 600) for pictures in listed.values() for count in pictures.counts)
    bank = build_or_load(
        splits["test"][0],
        lambda: listed["test"],
        name="mini_imagenet test",
        image_size=(84, 84),
        channels=3,
        cache_dir=shared_cache,
    )
    archive = sorted(real_mini_imagenet.glob("test*.tar.gz"))[0]
    assert next(members(archive))[0].parts[-2] in bank.class_names
    task = next(iter(episodes(bank, split="test", way=5, shot=1, query_shot=15, tasks=2)))
    assert task["query_images"].shape == (2, 75, 84, 84, 3)
    assert abs(float(task["query_images"].numpy().mean())) < 0.5 < float(task["query_images"].numpy().std()) < 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*share 6 pictures")
def test_real_mini_imagenet(real_mini_imagenet, shared_cache):
    banks = load_banks("mini_imagenet", real_mini_imagenet, cache_dir=shared_cache)
    assert [len(bank.class_names) for bank in banks.values()] == [64, 16, 20]
    assert all(bank.images.shape[1:] == (84, 84, 3) for bank in banks.values())
    assert all(size in (300, 600) for bank in banks.values() for size in np.diff(bank.offsets))
