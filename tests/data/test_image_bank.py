import json
import multiprocessing
import os
import re
from pathlib import Path

import numpy as np
import pytest

from tf_mamlpp.data import ImageBank, build_or_load, image_bank, resize
from tf_mamlpp.data.image_bank import shared_pictures
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
ROWS = (2, 0, 3, 1, 4)  # the place of each: they may come in any order


def build(key="key", opened=None, **changes):
    def open_pictures():
        if opened is not None:
            opened.append(key)
        return Pictures(("a", "b"), (2, 3), lambda: zip(ROWS, "vwxyz", IMAGES, strict=True))

    settings = {"name": "made train", "image_size": (8, 8), "channels": 1, **changes}
    return build_or_load(key, open_pictures, **settings)


def folders(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


def test_bank_holds_resized_pictures_class_by_class():
    bank = build()
    assert bank.class_names == ("a", "b") and bank.offsets.tolist() == [0, 2, 5]
    assert (bank.name, bank.source) == ("made train", "made")
    assert bank.images.dtype == np.uint8
    np.testing.assert_array_equal(bank.images, resize(IMAGES[[1, 3, 0, 2, 4], ..., None], (8, 8)))


def test_second_load_decodes_nothing_and_any_change_decodes_anew(tmp_path):
    opened = []
    first = build(opened=opened)
    np.testing.assert_array_equal(build(opened=opened).images, first.images)
    assert len(opened) == 1
    build("other key", opened)
    build(opened=opened, image_size=(9, 9))
    assert build(opened=opened, channels=3).images.shape == (5, 8, 8, 3)
    assert len(opened) == 4 and len(folders(tmp_path)) == 4


def test_resize_policy_is_obeyed_and_kept_apart(tmp_path):
    wide = np.repeat(IMAGES, 2, axis=2)
    banks = [
        build_or_load(
            "key",
            lambda: Pictures(("a",), (5,), lambda: zip(range(5), "vwxyz", wide, strict=True)),
            name="made train",
            image_size=(8, 8),
            channels=1,
            resize=policy,
        )
        for policy in ("stretch", "crop")
    ]
    np.testing.assert_array_equal(banks[0].images, resize(wide[..., None], (8, 8)))
    np.testing.assert_array_equal(banks[1].images, resize(wide[:, :, 10:30, None], (8, 8)))
    assert len(folders(tmp_path)) == 2


@pytest.mark.parametrize("resident", [0, 1 << 20])
def test_take_copies_rows_and_leaves_the_bank_as_it_was(resident, monkeypatch):
    monkeypatch.setattr(image_bank, "_RESIDENT", resident)
    bank = build()
    taken = bank.take(np.array([[4, 0], [1, 1]]))
    np.testing.assert_array_equal(taken, bank.images[[[4, 0], [1, 1]]])
    taken[:] = 0
    assert bank.images.any() and bank.images.base is not None


def test_memory_does_not_grow_with_the_pictures_seen():
    pictures = np.random.default_rng(0).integers(0, 256, (400, 256, 256), dtype=np.uint8)  # 26 MB
    bank = build_or_load(
        "key",
        lambda: Pictures(("a",), (400,), lambda: ((i, str(i), p) for i, p in enumerate(pictures))),
        name="large train",
        image_size=(256, 256),
        channels=1,
    )
    before = _resident("RssFile") + _resident("RssAnon")
    for row in range(400):
        assert (bank.take(np.array([row]))[0, ..., 0] == pictures[row]).all()
    assert _resident("RssFile") + _resident("RssAnon") - before < 8e6


def _resident(kind):
    """Bytes of this process's resident memory that are of a kind, as Linux counts them."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's /proc to see resident memory")
    return int(re.search(rf"{kind}:\s+(\d+) kB", status.read_text())[1]) * 1024


def test_pictures_that_change_while_they_are_read_are_no_bank(tmp_path):
    listed = Pictures(("a",), (6,), lambda: zip(range(5), "vwxyz", IMAGES, strict=True))
    with pytest.raises(UserError, match="made train: only 5 of its 6 pictures could be read"):
        build_or_load("key", lambda: listed, name="made train", image_size=(8, 8), channels=1)
    assert folders(tmp_path) == []


def test_shared_pictures_are_found_by_their_pixels():
    def bank(name, pictures):
        names = [f"{name}{i}" for i in range(len(pictures))]
        listed = Pictures(("a",), (len(names),), lambda: zip(range(len(names)), names, pictures, strict=True))
        return build_or_load("key", lambda: listed, name=f"made {name}", image_size=(8, 8), channels=1)

    one, other = bank("one", IMAGES[:3]), bank("other", [IMAGES[3], IMAGES[2], IMAGES[4], IMAGES[0], IMAGES[2]])
    assert shared_pictures(one, other) == [("one0", "other3"), ("one2", "other1")]
    assert shared_pictures(one, ImageBank(one.images, one.offsets, one.class_names, "in memory")) == []


def test_pictures_of_one_size_are_resized_together_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(image_bank, "_CHUNK", 3 * IMAGES[0].nbytes)
    mixed = [image.reshape(10, 40) if row == 3 else image for row, image in zip(ROWS, IMAGES, strict=True)]
    chunks = list(image_bank._decoded_chunks(Pictures(("a",), (5,), lambda: zip(ROWS, "vwxyz", mixed, strict=True)), 1))
    assert [(rows, "".join(names)) for rows, names, _ in chunks] == [([2, 0], "vw"), ([3], "x"), ([1, 4], "yz")]
    assert [images.shape for _, _, images in chunks] == [(2, 20, 20, 1), (1, 10, 40, 1), (2, 20, 20, 1)]
    np.testing.assert_array_equal(np.concatenate([images.ravel() for _, _, images in chunks]), IMAGES.ravel())


@pytest.mark.parametrize(
    "damage", ["short", "long", "no images", "bad json", "wrong json", "not npy", "no digests", "no names"]
)
def test_damaged_cache_is_rebuilt(tmp_path, damage):
    expected = build().images.copy()
    images, index = folders(tmp_path)[0] / "images.npy", folders(tmp_path)[0] / "index.json"
    content = images.read_bytes()
    missing = {
        "no images": images,
        "no digests": images.with_name("digests.npy"),
        "no names": images.with_name("pictures.json"),
    }
    if damage in missing:
        missing[damage].unlink()
    elif damage.endswith("json"):
        index.write_text("{" if damage == "bad json" else json.dumps({"class_names": ["a"], "offsets": [0, 5, 5]}))
    else:
        images.write_bytes({"short": content[:-1], "long": content + b"x", "not npy": b""}[damage])
    opened = []
    np.testing.assert_array_equal(build(opened=opened).images, expected)
    assert opened and len(folders(tmp_path)) == 1


def test_interrupted_build_leaves_nothing(tmp_path):
    def read():
        yield 0, "one", IMAGES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_or_load(
            "key",
            lambda: Pictures(("a",), (2,), read),
            name="made train",
            image_size=(8, 8),
            channels=1,
        )
    assert folders(tmp_path) == []


def test_two_builders_at_once(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=_publish, args=(tmp_path, i)) for i in (1, 2)]
    [p.start() for p in processes]
    [p.join() for p in processes]
    assert [p.exitcode for p in processes] == [0, 0]
    assert [f.name for f in tmp_path.iterdir() if not f.name.startswith("building")] == ["bank"]
    assert image_bank._load(tmp_path / "bank", "bank train", (4, 4, 1)) is not None


def _publish(root, number):
    """Publishes the same bank often, beside another process that does the same."""
    for _ in range(50):
        building = root / f"building{number}"
        building.mkdir(exist_ok=True)
        np.save(building / "images.npy", np.zeros((2, 4, 4, 1), np.uint8))
        np.save(building / "digests.npy", np.zeros(2, np.uint64))
        (building / "index.json").write_text(json.dumps({"class_names": ["a"], "offsets": [0, 2]}))
        (building / "pictures.json").write_text(json.dumps(["one", "two"]))
        image_bank._publish(building, root / "bank", "bank train", (4, 4, 1))
    os._exit(0)


def test_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the picture cache.*TF_MAMLPP_CACHE"):
        build(cache_dir=tmp_path / "file" / "below")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_told_before_pages_are_written_that_it_cannot_hold(tmp_path, monkeypatch):
    sizes = []

    def full(descriptor, offset, size):
        sizes.append(size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="cannot write the picture cache.*No space left on device"):
        build()
    assert sizes == [128 + 5 * 8 * 8] and folders(tmp_path) == []


def test_progress_stays_quiet_in_a_log(capfd):
    build()
    assert capfd.readouterr().err.count("\n") == 1
    build()
    assert capfd.readouterr() == ("", "")
