"""A run all of whose paths have what a shell, a URL, a format or TensorFlow takes for something else."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.export import export_run
from tf_mamlpp.deploy.folders import adapt_to_folder, predict_folder
from tf_mamlpp.deploy.predictions import write_predictions
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.results import evaluate_run
from tf_mamlpp.training.train import train_and_evaluate

ODD = "-a [1] *?\\ %s {x} $b ~ #c 漢字é"


def draw(folder, classes, each=3):
    for name in range(classes):
        (folder / f"c{name} {ODD}").mkdir(parents=True)
        for number in range(each):
            pixels = np.random.default_rng([name, number]).integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(folder / f"c{name} {ODD}" / f"{number} {ODD}.png")


@pytest.mark.slow
def test_from_pictures_to_predictions(tiny_config, tmp_path):
    top = tmp_path / ODD
    draw(top / "tree", 9)
    names = sorted(folder.name for folder in (top / "tree").iterdir())
    lists = {"train": names[:3], "validation": names[3:6], "test": names[6:]}
    (top / "split.json").write_text(json.dumps(lists))
    shutil.copytree(top / "tree" / names[0], tmp_path / "run")  # what the folder's name would match as a pattern

    config = tiny_config("data.name=image_folder", "data.way=3", "data.image_size=8,8", "training.updates=3")
    data = {"path": str(top / "tree"), "split_file": str(top / "split.json"), "cache_dir": str(top / "cache")}
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    found = train_and_evaluate(config, top / "run")
    assert train_and_evaluate(config, top / "run") == found  # resumed
    (again,) = evaluate_run(top / "run", [None])
    assert again["accuracy_per_inner_step"] == found["accuracy_per_inner_step"]
    assert any((top / "cache").glob("*/images.npy")) and any((top / "run" / "tensorboard").iterdir())

    with pytest.raises(UserError, match="takes for a pattern, so that it could not load the model"):
        export_run(top / "run", top / "model", tasks=0)
    export_run(top / "run", tmp_path / "model", tasks=0)
    model = DeployedModel(shutil.copytree(tmp_path / "model", top / "model"))
    draw(top / "support", 3)
    task = adapt_to_folder(model, top / "support")
    task.save(top / f"{ODD}.npz")
    predictions = predict_folder(model, AdaptedTask.load(top / f"{ODD}.npz"), top / "support", evaluate=True)
    write_predictions(predictions, task, top / "answers")
    assert sorted(file.name for file in (top / "answers").iterdir()) == ["contact_sheet.png", "predictions.csv"]
