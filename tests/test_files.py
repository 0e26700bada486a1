"""A folder of one process's, and files that are whole or not there."""

import os
import tempfile
from pathlib import Path

import pytest

from tf_mamlpp.data.bank_cache import cache_root
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import claimed, expanded, new_folder, pattern_problem, plain_path, whole_file, write_json


def test_one_process_at_a_time(tmp_path):
    with (
        claimed(tmp_path / "study", "busy"),
        pytest.raises(UserError, match="busy"),
        claimed(tmp_path / "study", "busy"),
    ):
        pass
    with claimed(tmp_path / "study", "busy"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), claimed(tmp_path / "file" / "study", "busy"):
        pass


def test_write_json_replaces_whole_files(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert file.read_text() == '{\n  "a": 1\n}\n'


def test_an_error_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), whole_file(file) as part:
        part.write_text("new")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(IsADirectoryError), whole_file(Path(".")):
        pass


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "model") as building:
        (building / "weights").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="'.*model' cannot be written: No space left"), new_folder(tmp_path / "model"):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="exists already"), new_folder(tmp_path / "file"):
        pass


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_who_may_read_is_the_umask_s_to_say(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", 1)
        with new_folder(tmp_path / "model"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~mask
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("path", ["~/pictures", "~nobody-of-this-name/pictures"])
def test_without_a_home_folder(path, monkeypatch):
    def unknown(*args):
        raise KeyError("no entry")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(UserError, match=f"'{path}': no home folder is known for it; give a path without '~'"):
        expanded(path)
    monkeypatch.delenv("TF_MAMLPP_CACHE")
    with pytest.raises(UserError, match="no home folder .*set TF_MAMLPP_CACHE or data.cache_dir"):
        cache_root()
    assert expanded("a/~") == expanded("./a/~")


PLAIN = (
    "plain",
    "with space",
    "ünï 漢字",
    "100%s",
    "-a",
    "{x}",
    "a:b",
    "~b",
    "$HOME",
    "#h&;|'\"q",
    ".hidden",
    "b]",
    "c\nd",
)
ODD = ("a [1]", "[", "star*", "what?", "back\\slash", os.fsdecode(b"latin-\xe9"))


@pytest.mark.parametrize("name", PLAIN)
def test_a_path_that_tensorflow_takes_as_it_is_stays(tmp_path, name):
    with plain_path(tmp_path / name) as path:
        assert path == str(tmp_path / name)


@pytest.mark.parametrize("name", ODD)
def test_any_other_gets_a_link_for_a_while(tmp_path, name, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / name, tmp_path.__class__(name)):  # absolute and relative
        with plain_path(folder) as path:
            assert pattern_problem(tmp_path.__class__(path)) is None
            assert os.path.samefile(path, folder)
        assert not os.path.lexists(path) and not os.path.exists(os.path.dirname(path))


def test_a_folder_of_temporary_files_that_is_itself_odd(tmp_path, monkeypatch):
    (tmp_path / "[1]").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[1]"))
    with plain_path(tmp_path / "[1]") as path:
        assert pattern_problem(tmp_path.__class__(path)) is None


def test_a_link_that_cannot_be_made(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    with (
        pytest.raises(UserError, match=r"a\*' has '\*' in its path, .*not permitted.*: rename it"),
        plain_path(tmp_path / "a*"),
    ):
        pass
