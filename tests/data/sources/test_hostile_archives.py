"""Damaged and hostile archives: pictures, or one UserError that names the archive; nothing is ever unpacked."""

import gzip
import io
import os
import stat
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import strategies as st

from tf_mamlpp.data.sources import archives
from tf_mamlpp.data.sources.archives import members, open_zip, read_zipped
from tf_mamlpp.data.sources.omniglot import omniglot_splits
from tf_mamlpp.errors import UserError

CONTENT = {f"train/{c}/{i}.png": np.random.default_rng([ord(c), i]).bytes(200) for c in "ab" for i in range(2)}


@pytest.fixture
def zipped(tmp_path):
    """Writes a .zip archive: zipped(info or name, content, ...)."""

    def write(*files, method=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "images.zip", "w", method) as archive:
            for name, content in (*CONTENT.items(), *files):
                archive.writestr(name, content)
        return tmp_path / "images.zip"

    return write


def of_kind(name, kind):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, kind << 16
    return info


@pytest.mark.parametrize(
    "name, message",
    [
        ("/etc/a/1.png", "leads out of the archive"),
        ("a/../../b/1.png", "leads out of the archive"),
        ("..", "leads out of the archive"),
        (of_kind("a/b/1.png", stat.S_IFLNK | 0o777), "is a link, a device or a sparse file"),
        (of_kind("a/b/1.png", stat.S_IFIFO), "is a link, a device or a sparse file"),
        (of_kind("a/b/1.png", stat.S_IFCHR), "is a link, a device or a sparse file"),
        (of_kind("a/b/1.png", stat.S_IFBLK), "is a link, a device or a sparse file"),
        (of_kind("a/b/1.png", stat.S_IFSOCK), "is a link, a device or a sparse file"),
    ],
)
def test_hostile_zips_are_refused(zipped, name, message):
    with pytest.raises(UserError, match=f"images.zip: '.*' {message}; no archive of pictures does") as caught:
        open_zip(zipped((name, b"x")))
    assert "\n" not in str(caught.value)


def test_plain_members_of_zips_are_none_of_these(zipped):
    file = zipped((of_kind("a/b/", stat.S_IFDIR | 0o755), b""), (of_kind("a/b/1.png", stat.S_IFREG | 0o644), b"x"))
    with open_zip(file) as opened:
        assert read_zipped(opened, "a/b/1.png") == b"x"
        assert all(read_zipped(opened, name) == content for name, content in CONTENT.items())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_in_a_zip(zipped):
    with pytest.raises(UserError, match="holds 'a/b/1.png' twice"):
        open_zip(zipped(("a/b/1.png", b"x"), ("a/b/1.png", b"y")))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_that_unpack_to_far_more_than_their_size_are_refused(zipped, monkeypatch, method):
    monkeypatch.setattr(archives, "_GRACE", 1 << 16)
    with pytest.raises(UserError, match="images.zip: unpacks to over 10 times its size"):
        open_zip(zipped(("a/b/1.png", bytes(1 << 20)), method=method))
    monkeypatch.setattr(archives, "_MOST_BYTES", 1 << 19)
    with pytest.raises(UserError, match="'a/b/1.png' unpacks to 1 MB"):
        open_zip(zipped(("a/b/1.png", bytes(1 << 20)), method=method))


def test_a_zip_whose_file_is_larger_than_it_declares_yields_no_more(zipped):
    """The checks are of the sizes that the archive declares: so those must bind."""
    file = zipped(("a/b/1.png", bytes(1 << 20)))
    content = file.read_bytes()
    file.write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with open_zip(file) as opened, pytest.raises(UserError, match="images.zip/a/b/1.png: damaged"):
        read_zipped(opened, "a/b/1.png")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_zips(fuzz, no_hang, zipped, method):
    file = zipped(method=method)
    whole = file.read_bytes()

    def check(flips, length):
        file.write_bytes(damaged(whole, flips, length))
        try:
            with open_zip(file) as opened:
                for name in opened.namelist():
                    content = read_zipped(opened, name)
                    assert name not in CONTENT or content == CONTENT[name]
        except UserError as error:
            assert str(file) in str(error)

    fuzz(check, 50, **DAMAGE)


def damaged(content, flips, length):
    content = bytearray(content)
    for place, value in flips:
        content[place % len(content)] ^= value
    return bytes(content[: round(length * len(content))])


DAMAGE = {
    "flips": st.lists(st.tuples(st.integers(0, 10**5), st.integers(1, 255)), min_size=1, max_size=3),
    "length": st.sampled_from([1.0, 1.0, 1.0, 0.99, 0.5, 0.0]),
}


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_damaged_tars(fuzz, no_hang, tmp_path, where):
    """Outside: what gzip's checksum sees.  Inside: headers that were never whole."""
    file = tmp_path / "train.tar.gz"
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(content), {"comment": "é"}
            archive.addfile(info, io.BytesIO(content))
    whole = plain.getvalue()

    def check(flips, length):
        if where == "outside":
            file.write_bytes(damaged(gzip.compress(whole, 1), flips, length))
        else:
            file.write_bytes(gzip.compress(damaged(whole, flips, length), 1))
        try:
            found = {str(name): content for name, content in members(file)}
        except UserError as error:
            assert str(file) in str(error)
            return
        assert all(".." not in name.split("/") and not name.startswith("/") for name in found)
        assert where == "inside" or found == CONTENT

    fuzz(check, 100, **DAMAGE)


def test_what_is_no_file_of_pictures(tmp_path, no_hang):
    for part in ("images_background", "images_evaluation"):
        os.mkfifo(tmp_path / f"{part}.zip")
    with pytest.raises(UserError, match="images_background.zip"):
        omniglot_splits(tmp_path, 0)
    os.mkfifo(tmp_path / "train.tar.gz")
    with pytest.raises(UserError, match="train.tar.gz"):
        list(members(tmp_path / "train.tar.gz"))
