import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import tf_mamlpp.data.sources.tfds_mini_imagenet  # noqa: F401  registers it
from tf_mamlpp.data import load_banks
from tf_mamlpp.errors import UserError

CLASSES = {"train": 4, "val": 2, "test": 3}


@pytest.fixture(scope="module")
def manual_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("manual") / "mini_imagenet"
    generator = np.random.default_rng(0)
    for split, classes in CLASSES.items():
        for name in range(classes):
            folder = root / split / f"n{split}{name}"
            folder.mkdir(parents=True)
            for number in range(3):
                buffer = io.BytesIO()
                Image.fromarray(generator.integers(0, 256, (84, 84, 3), dtype=np.uint8)).save(buffer, "JPEG")
                (folder / f"{number}.jpg").write_bytes(buffer.getvalue())
    return root


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, manual_dir):
    folder = tmp_path_factory.mktemp("tfds")
    config = tfds.download.DownloadConfig(manual_dir=manual_dir.parent)
    tfds.load("mini_imagenet", data_dir=folder, download_and_prepare_kwargs={"download_config": config})
    return folder


def test_tfds_load_gives_the_splits(data_dir):
    splits, info = tfds.load("mini_imagenet", data_dir=data_dir, with_info=True)
    assert {split: info.splits[split].num_examples for split in splits} == {"train": 12, "validation": 6, "test": 9}
    assert info.features["label"].num_classes == 9
    labels = {split: {int(e["label"]) for e in examples.as_numpy_iterator()} for split, examples in splits.items()}
    assert [info.features["label"].int2str(n) for n in sorted(labels["validation"])] == ["nval0", "nval1"]
    image, _ = next(iter(tfds.load("mini_imagenet", split="test", data_dir=data_dir, as_supervised=True)))
    assert image.shape == (84, 84, 3)


@pytest.mark.slow
def test_as_a_source_it_keeps_its_splits_and_pictures(data_dir, manual_dir):
    through_tfds, from_files = load_banks("tfds:mini_imagenet", data_dir), load_banks("mini_imagenet", manual_dir)
    for split, bank in from_files.items():
        assert through_tfds[split].class_names == bank.class_names
        for c in range(len(bank.class_names)):
            one, other = (b.images[b.offsets[c] : b.offsets[c + 1]] for b in (bank, through_tfds[split]))
            assert sorted(p.tobytes() for p in one) == sorted(p.tobytes() for p in other)


def test_without_the_manual_folder_the_error_names_it(tmp_path):
    with pytest.raises(UserError, match="tfds:mini_imagenet: neither prepared in .*[Mm]anual"):
        load_banks("tfds:mini_imagenet", tmp_path)
