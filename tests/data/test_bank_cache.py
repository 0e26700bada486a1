import io
import json
import multiprocessing
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tf_mamlpp.data import ImageBank, bank_cache, build_or_load, resize
from tf_mamlpp.data.bank import shared_examples
from tf_mamlpp.data.bank_cache import cache_root
from tf_mamlpp.data.picture_reader import PictureReader
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
    assert shared_examples(one, other) == [("one0", "other3"), ("one2", "other1")]
    assert shared_examples(one, ImageBank(one.images, one.offsets, one.class_names, "in memory")) == []


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
    assert bank_cache._load(tmp_path / "bank", "bank train", PictureReader((4, 4), 1)) is not None


def _publish(root, number):
    """Publishes the same bank often, beside another process that does the same."""
    for _ in range(50):
        building = root / f"building{number}"
        building.mkdir(exist_ok=True)
        np.save(building / "images.npy", np.zeros((2, 4, 4, 1), np.uint8))
        np.save(building / "digests.npy", np.zeros(2, np.uint64))
        (building / "index.json").write_text(json.dumps({"class_names": ["a"], "offsets": [0, 2]}))
        (building / "pictures.json").write_text(json.dumps(["one", "two"]))
        bank_cache._publish(building, root / "bank", "bank train", PictureReader((4, 4), 1))
    os._exit(0)


def test_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the picture cache.*TF_MAMLPP_CACHE"):
        build(cache_dir=tmp_path / "file" / "below")


@pytest.mark.parametrize("fails", ["list", "pictures"])
def test_an_error_of_the_source_is_none_of_the_cache(tmp_path, fails):
    def unplugged():
        raise OSError(5, "Input/output error", "/disk/cat.png")
        yield

    def open_pictures():
        return Pictures(("cat",), (1,), unplugged) if fails == "pictures" else next(unplugged())

    message = r"cats train: its pictures cannot be read \(\[Errno 5\] Input/output error: '/disk/cat.png'\)"
    with pytest.raises(UserError, match=message):
        bank_cache.build_or_load(
            "k", open_pictures, name="cats train", image_size=(4, 4), channels=1, cache_dir=tmp_path
        )
    assert list(tmp_path.iterdir()) == []


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


def test_progress_in_a_log_is_one_line(capfd):
    build()
    assert re.fullmatch(r"decoding made train: 5 in \d+\.\d s\n", capfd.readouterr().err)
    build()
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_a_live_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    build()
    draws = sys.stderr.getvalue().split("\r")
    assert "decoding made train:   0%" in draws[1] and "0/5" in draws[1]
    assert "100%" in draws[-1] and "5/5" in draws[-1] and draws[-1].endswith("\n")


def test_an_error_ends_the_bar_s_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    listed = Pictures(("a",), (1,), lambda: iter([(0, "ants/1.png", b"no picture")]))
    with pytest.raises(UserError, match="ants/1.png: cannot be read"):
        build_or_load("key", lambda: listed, name="made train", image_size=(8, 8), channels=1)
    assert "0/1" in sys.stderr.getvalue() and sys.stderr.getvalue().endswith("\n")


def test_cache_root(monkeypatch, tmp_path):
    assert cache_root("here") == Path("here")
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("TF_MAMLPP_CACHE")
    assert cache_root() == Path.home() / ".cache" / "tf_mamlpp"
