import json
import zipfile

import numpy as np
import pytest

from tf_mamlpp.data import load_banks
from tf_mamlpp.errors import UserError

MEMBERS = [("images_background", f"Alphabet{i // 50}/character{i % 50:02}") for i in range(964)] + [
    ("images_evaluation", f"Other{i // 50}/character{i % 50:02}") for i in range(659)
]


@pytest.fixture(scope="module")
def archives(tmp_path_factory, request):
    """Zips of the official layout and size in classes, with one tiny picture each."""
    folder = tmp_path_factory.mktemp("omniglot")
    make_png = request.getfixturevalue("make_png")
    zips = {part: zipfile.ZipFile(folder / f"{part}.zip", "w") for part in dict(MEMBERS)}
    for number, (part, class_folder) in enumerate(MEMBERS):
        zips[part].writestr(f"{part}/{class_folder}/{number:04}_01.png", make_png(number))
    for archive in zips.values():
        archive.close()
    return folder


@pytest.fixture(scope="module")
def make_png():
    import io

    from PIL import Image

    def make(number):
        buffer = io.BytesIO()
        image = np.full((6, 6), number % 251, np.uint8)
        image[1] = 40 * (number // 251)  # no two alike
        Image.fromarray(image).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture
def copy(archives, tmp_path):
    for archive in archives.iterdir():
        (tmp_path / archive.name).write_bytes(archive.read_bytes())
    return tmp_path


@pytest.mark.slow
def test_zips_and_unpacked_folders_give_equal_banks(copy, make_png):
    zipped = load_banks("omniglot", copy, image_size=(6, 6))
    for archive in list(copy.glob("*.zip")):
        zipfile.ZipFile(archive).extractall(copy)
        archive.unlink()
    unpacked = load_banks("omniglot", copy, image_size=(6, 6))
    assert [len(bank.class_names) for bank in zipped.values()] == [1150, 50, 423]
    for split, bank in zipped.items():
        assert bank.class_names == unpacked[split].class_names
        np.testing.assert_array_equal(bank.images, unpacked[split].images)
    bank, number = zipped["train"], MEMBERS.index(("images_background", "Alphabet3/character07"))
    everywhere = {n: v.images[i, 0, 0, 0] for v in zipped.values() for i, n in enumerate(v.class_names)}
    assert everywhere["Alphabet3/character07"] == number % 251
    assert len(everywhere) == 1623


def test_split_seed_moves_classes(archives):
    one, two = (load_banks("omniglot", archives, split_seed=seed) for seed in (0, 1))
    assert set(one["test"].class_names) != set(two["test"].class_names)


def test_split_file_moves_classes(archives, tmp_path):
    names = ["Alphabet3/character07", "Other2/character00", "Alphabet0/character00"]
    lists = {split: [name] for split, name in zip(("train", "validation", "test"), names, strict=True)}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    banks = load_banks("omniglot", archives, split_file=tmp_path / "lists.json")
    assert [bank.class_names for bank in banks.values()] == [(name,) for name in names]


def test_foreign_members_are_ignored(copy, make_png):
    with zipfile.ZipFile(copy / "images_background.zip", "a") as archive:
        archive.writestr("__MACOSX/A/character03/._x.png", make_png(0))
    assert sum(len(bank.class_names) for bank in load_banks("omniglot", copy).values()) == 1623


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"<html>not found</html>"])
def test_truncated_or_foreign_archive_is_named(copy, damage):
    archive = copy / "images_evaluation.zip"
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(UserError, match="images_evaluation.zip: truncated, or not a zip archive"):
        load_banks("omniglot", copy)


def test_flipped_bytes_inside_an_archive_name_the_member(copy):
    archive = copy / "images_background.zip"
    content = bytearray(archive.read_bytes())
    at = content.index(b"\x89PNG", len(content) // 4)
    content[at + 20 : at + 40] = bytes(20)
    archive.write_bytes(content)
    with pytest.raises(UserError, match=r"images_background.zip/images_background/.*_01.png: damaged"):
        load_banks("omniglot", copy)


def test_corrupt_picture_is_named(copy):
    for archive in list(copy.glob("*.zip")):
        zipfile.ZipFile(archive).extractall(copy)
        archive.unlink()
    (copy / "images_evaluation/Other0/character01/0965_01.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(UserError, match="Other0/character01/0965_01.png: cannot be read as a picture"):
        load_banks("omniglot", copy)


def test_missing_folder_part_or_classes_are_named(copy, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder; expected images_background"):
        load_banks("omniglot", tmp_path / "nowhere")
    with pytest.raises(UserError, match="needs a path"):
        load_banks("omniglot")
    evaluation = (copy / "images_evaluation.zip").read_bytes()
    (copy / "images_evaluation.zip").unlink()
    with pytest.raises(UserError, match="has no images_evaluation.zip"):
        load_banks("omniglot", copy)
    (copy / "images_background.zip").write_bytes(evaluation)
    (copy / "images_evaluation.zip").write_bytes(evaluation)
    with pytest.raises(UserError, match="holds 659 characters, not Omniglot's 1623"):
        load_banks("omniglot", copy)


@pytest.mark.slow
def test_real_omniglot(real_omniglot, shared_cache):
    banks = load_banks("omniglot", real_omniglot, cache_dir=shared_cache)
    assert [bank.images.shape for bank in banks.values()] == [
        (23000, 28, 28, 1),
        (1000, 28, 28, 1),
        (8460, 28, 28, 1),
    ]
    assert all((np.diff(bank.offsets) == 20).all() for bank in banks.values())
    ink = 255 - banks["test"].images.astype(np.int64)
    assert 0.05 < ink.mean() / 255 < 0.15 and ink.max(axis=(1, 2, 3)).min() > 100
    assert any(name == "Greek/character01" for bank in banks.values() for name in bank.class_names)
