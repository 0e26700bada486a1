import gzip
import io
import tarfile
from pathlib import PurePosixPath

import numpy as np
import pytest

from tf_mamlpp.data.sources import archives
from tf_mamlpp.data.sources.archives import members
from tf_mamlpp.errors import UserError

FILES = {"train/a/1.jpg": b"one", "train/b/2.jpg": b"two" * 9000}


def member(name, **attributes):
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.fixture
def make_archive(tmp_path):
    def make(*extra, files=FILES):
        file = tmp_path / "train-1of2.tar.gz"
        with tarfile.open(file, "w:gz") as archive:
            archive.addfile(member("train", type=tarfile.DIRTYPE))
            for name, content in files.items():
                archive.addfile(member(name, size=len(content)), io.BytesIO(content))
            for info in extra:  # the header alone: Python 3.13's `addfile` wants the content that it tells of
                header = info.tobuf(archive.format, archive.encoding, archive.errors)
                archive.fileobj.write(header)
                archive.offset += len(header)
        return file

    return make


def test_members_and_their_content(make_archive):
    assert list(members(make_archive())) == [(PurePosixPath(name), content) for name, content in FILES.items()]


@pytest.mark.parametrize(
    "hostile, message",
    [
        (member("/etc/a/1.jpg"), "leads out of the archive"),
        (member("train/../../a/1.jpg"), "leads out of the archive"),
        (member("train/a/3.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link, a device or a sparse file"),
        (
            member("train/a/3.jpg", type=tarfile.LNKTYPE, linkname="train/a/1.jpg"),
            "is a link, a device or a sparse file",
        ),
        (member("train/a/3.jpg", type=tarfile.FIFOTYPE), "is a link, a device or a sparse file"),
        (member("train/a/3.jpg", type=tarfile.CHRTYPE), "is a link, a device or a sparse file"),
        (member("train/a/3.jpg", size=1 << 40), "unpacks to 1048576 MB"),
        (
            member("train/a/3.jpg", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}),
            "is a link, a device or a sparse file",
        ),
        (
            member("train/a/3.jpg", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 20)}),
            "is a link, a device or a sparse file",
        ),
    ],
)
def test_hostile_members_are_refused(make_archive, hostile, message):
    file = make_archive(hostile)
    with pytest.raises(UserError, match=rf"train-1of2.tar.gz: '.*jpg' {message}"):
        list(members(file))


@pytest.mark.parametrize("where", ["content", "header", "many members", "after the end"])
def test_archives_that_unpack_to_far_more_than_their_size_are_refused(make_archive, monkeypatch, where):
    monkeypatch.setattr(archives, "_GRACE", 1 << 16)
    zeros = bytes(1 << 20)
    if where == "content":
        file = make_archive(files={"train/a/1.jpg": zeros})
    elif where == "header":
        file = make_archive(member("train/a/1.jpg", pax_headers={"comment": "0" * (1 << 20)}))
    elif where == "many members":
        file = make_archive(files={f"train/a/{i}.jpg": b"" for i in range(2000)})
    else:
        file = make_archive()
        file.write_bytes(file.read_bytes() + gzip.compress(zeros))
    with pytest.raises(UserError, match="unpacks to over 10 times its size"):
        list(members(file))


def test_damage_is_named(make_archive):
    file = make_archive(files={"train/a/1.jpg": np.random.default_rng(0).bytes(50000)})
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    header = bytearray(gzip.decompress(whole))
    header[512 + 148] ^= 1  # the checksum of the second header, where tarfile would stop in silence
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"<html>not found</html>", b"", whole[:-5]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="train-1of2.tar.gz: truncated, damaged, or not a .tar.gz"):
            list(members(file))
