"""Folders of pictures, and a stand-in for a deployed model that knows its pictures by their grey."""

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel


class NearestGrey:
    """A deployed model's interface around nearest neighbours of mean grey."""

    way, query_statistics = 3, "support"
    inputs = PictureFormat((6, 6), 1, mean=(0.0,), std=(1.0,), resize_policy="crop")
    add, remove, check_task = DeployedModel.add, DeployedModel.remove, DeployedModel.check_task
    threshold = 0.5  # greys that are further off than 32 are unknown

    def __init__(self):
        self.sizes = []

    def adapt(self, images, labels, class_names):
        assert images.dtype == np.uint8 and images.shape[1:] == (6, 6, 1)
        return AdaptedTask(images.mean((1, 2, 3)).astype(np.float32), tuple(class_names), images, np.asarray(labels))

    def predict(self, task, images):
        self.sizes.append(len(images))
        distance = np.abs(images.mean((1, 2, 3))[:, None] - task.state)
        nearest = np.eye(len(task.class_names), dtype=np.float32)[task.labels[distance.argmin(1)]]
        return 0.8 * nearest + 0.2 / len(task.class_names)

    def predict_known(self, task, images):
        distance = np.abs(images.mean((1, 2, 3))[:, None] - task.state).min(1)
        return self.predict(task, images), 1 / (1 + (distance / 32) ** 2)


GREYS = {"black": 0, "grey": 128, "white": 255}


@pytest.fixture
def model():
    return NearestGrey()


@pytest.fixture
def support(tmp_path):
    for name, value in GREYS.items():
        (tmp_path / "support" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (9, 7), value).save(tmp_path / "support" / name / f"{i}.png")
    return tmp_path / "support"


@pytest.fixture
def query(tmp_path):
    """Class folders of pictures of many formats and modes."""
    kinds = [("L", "png"), ("RGB", "jpg"), ("P", "gif"), ("RGBA", "png"), ("1", "png"), ("RGB", "bmp"), ("L", "webp")]
    for name, value in (("black", 10), ("white", 250)):
        folder = tmp_path / "query" / name
        folder.mkdir(parents=True)
        for i, (mode, form) in enumerate(kinds):
            Image.new("L", (20 + i, 15), value).convert(mode).save(folder / f"{i}.{form}")
        Image.fromarray(np.full((5, 8), value * 257, np.uint16)).save(folder / "deep.png")
    return tmp_path / "query"
