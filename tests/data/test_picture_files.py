"""Which files of a tree are pictures; links, pipes and folders that nobody meant."""

import itertools
import math
import os
import sys

import numpy as np
import pytest

from tf_mamlpp.data import picture_files
from tf_mamlpp.data.picture_files import checked_stat, class_folders, read_file, walk
from tf_mamlpp.errors import UserError

CLASSES = {name: 1 for name in "abcdef"}


def test_class_folders_are_sorted_and_those_without_pictures_are_no_classes(make_tree, tmp_path):
    root = make_tree(tmp_path / "tree", {"b": 1, "b/two": 2, "a": 1, "empty": 0})
    (root / "loose.png").touch()
    (root / "a" / "NOTES.txt").touch()
    (root / "a" / "1.JPG").touch()
    found = {name: [os.path.relpath(file, root) for file in files] for name, files in class_folders(root).items()}
    assert list(found.items()) == [
        ("a", ["a/00.png", "a/1.JPG"]),
        ("b", ["b/00.png"]),
        ("b/two", ["b/two/00.png", "b/two/01.png"]),
    ]


def test_files_that_must_not_be_read(tmp_path, no_hang):
    os.mkfifo(tmp_path / "pipe.png")
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate((1 << 30) + 1)
    for name, message in (("pipe.png", "it is a folder, a pipe or a device"), ("large.png", "it has 1024 MB")):
        with pytest.raises(OSError, match=message):
            checked_stat(tmp_path / name)
        with pytest.raises(UserError, match=f"{name}: cannot be read .{message}"):
            read_file(str(tmp_path / name))
    with pytest.raises(UserError, match="none.png: cannot be read .No such file"):
        read_file(str(tmp_path / "none.png"))


def test_links_that_lead_sideways_end(make_tree, tmp_path, no_hang):
    """a/to_b, b/to_a, ...: no link leads up, and yet every path goes on."""
    root = make_tree(tmp_path / "tree", dict.fromkeys("abcd", 1))
    for one, other in itertools.permutations("abcd", 2):
        (root / one / f"to_{other}").symlink_to(root / other)
    assert len(class_folders(root)) == sum(math.perm(4, length) for length in (1, 2, 3, 4))


def test_links_that_double_at_every_step_are_refused(tmp_path, no_hang, monkeypatch):
    monkeypatch.setattr(picture_files, "_MOST_PATHS", 20)
    for i in range(40):
        (tmp_path / str(i)).mkdir()
        for name in "xy":
            (tmp_path / str(i) / name).symlink_to(f"../{i + 1}")
    (tmp_path / "40").mkdir()
    with pytest.raises(UserError, match="links make over 20 paths"):
        class_folders(tmp_path)


def test_a_link_out_of_the_tree_and_up_there_is_cut(make_tree, tmp_path, no_hang):
    make_tree(tmp_path / "elsewhere", {"far/deep": 1, "other": 1})
    root = make_tree(tmp_path / "tree", {"a": 1})
    (root / "link").symlink_to(tmp_path / "elsewhere" / "far")
    (tmp_path / "elsewhere" / "far" / "up").symlink_to("..")
    (root / "a" / "root").symlink_to("/")
    assert sorted(class_folders(root)) == ["a", "link/deep"]


def test_deeper_than_python_recurses(tmp_path, no_hang, png, monkeypatch):
    limit, depth = sys.getrecursionlimit(), 400
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    with open("0.png", "wb") as file:
        file.write(png(np.zeros((2, 2), np.uint8)))
    try:
        sys.setrecursionlimit(350)
        assert list(class_folders(tmp_path)) == ["/".join("d" * depth)]
    finally:  # `shutil.rmtree` recurses too
        sys.setrecursionlimit(limit)
        os.remove("0.png")
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")


def test_a_folder_that_cannot_be_read_is_named(make_tree, tmp_path, monkeypatch):
    root = make_tree(tmp_path / "tree", CLASSES)
    scandir = os.scandir

    def refusing(path):  # a superuser, who may run the tests, may read everything
        if os.fspath(path).endswith("c"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(picture_files.os, "scandir", refusing)
    with pytest.raises(UserError, match="tree/c: cannot be read .Permission denied"):
        list(walk(root))
