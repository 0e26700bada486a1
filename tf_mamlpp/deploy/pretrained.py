"""Models that come with the package: trained, with their weights, LiteRT file and card."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config
from tf_mamlpp.data.bank_cache import cache_root
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.catalogue import ABOUT, FOLDER, about
from tf_mamlpp.deploy.export import export_run, without_machine
from tf_mamlpp.deploy.saved_model import export_saved_model
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import check_new, new_folder, write_json
from tf_mamlpp.meta.confidence import Confidence
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.text import percent
from tf_mamlpp.training.build import make_learner
from tf_mamlpp.training.run_inputs import config_inputs
from tf_mamlpp.training.workdir import open_run

_WEIGHTS, _LITERT, _CARD = "model.weights.h5", "model.tflite", "card.md"


def pretrained(name: str) -> MetaLearner:
    """A meta-trained learner: `adapt` teaches it classes that it has never seen.

    Args:
        name: one of `catalogue.names()`; `catalogue.about(name)` and the model's card say what it was trained on, and
            how good it is.

    Returns:
        The learner, compiled, so that it can be trained further.

    Raises:
        UserError: there is no such model.

    Example:
        >>> import tf_mamlpp as mp
        >>> mp.pretrained("no such model")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: there is no pretrained model 'no such model': ...
    """
    learner = make_learner(_config(name))
    with _without_optimizer(learner):
        learner.load_weights(FOLDER / name / _WEIGHTS)
    assert isinstance(learner, MetaLearner)
    return learner


@contextlib.contextmanager
def _without_optimizer(learner: EpisodicModel) -> Iterator[None]:
    """Keras keeps the optimizer's state in a file of weights, which makes it three times as large."""
    optimizer, learner.optimizer = learner.optimizer, None
    try:
        yield
    finally:
        learner.optimizer = optimizer


def _config(name: str) -> Config:
    return configs.from_dict(about(name)["config"])


def exported(name: str) -> Path:
    """A model as a SavedModel in the cache, written at its first use: for `DeployedModel`.

    Raises:
        UserError: there is no such model, or the cache cannot be written.

    Example:
        >>> exported("no such model")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: there is no pretrained model 'no such model': ...
    """
    told = about(name)
    checksum = zlib.crc32((FOLDER / name / _WEIGHTS).read_bytes())
    folder = cache_root() / "pretrained" / f"{name}-{checksum:08x}"
    if not (folder / "metadata.json").exists():
        confidence = Confidence.of(told.get("confidence"))  # earlier models have none
        pictures = config_inputs(_config(name))
        assert isinstance(pictures, PictureFormat)
        deployed = task_learner(pretrained(name), pictures, query_statistics="support", confidence=confidence)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            kept = ("test", "train_steps", "config", "confidence")
            export_saved_model(deployed, folder, {key: told[key] for key in kept if key in told})
        except UserError:
            if not (folder / "metadata.json").exists():  # else another process was quicker
                raise
    return folder


def publish(workdir: Path, name: str, *, data: str, limits: str, commit: str, folder: Path = FOLDER) -> Path:
    """Writes a run's best epoch as a model of the package: weights, LiteRT file, card.

    Args:
        workdir: of the run.
        name: of the model.
        data: what it was trained on, and under which licence.
        limits: what it is not good for.
        commit: of the code that trained it.
        folder: that gets it.

    Raises:
        UserError: the run cannot be exported, or there is such a model already.

    Example:
        ```python
        publish(Path("runs/omniglot"), "omniglot", data="Omniglot, MIT licence", limits="28x28 grey", commit="0123abc")
        ```

        >>> publish(tmp_path, "mine", data="", limits="", commit="", folder=tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' holds no run: ...
    """
    target = folder / name
    check_new(target)
    config, learner, checkpoints = open_run(workdir)
    best = checkpoints.restore_best(0)
    with new_folder(target) as made:
        described = export_run(workdir, made / _LITERT, form="tflite")
        with _without_optimizer(learner):
            learner.save_weights(made / _WEIGHTS)
        told = {
            "data": data,
            "limits": limits,
            "commit": commit,
            "config": without_machine(config),
            "epoch": best["epoch"] + 1,
            "train_steps": best["update"],
            "test": described["test"],
            **{key: described[key] for key in ("confidence",) if key in described},
        }
        write_json(made / ABOUT, told)
        (made / _CARD).write_text(_card(name, told))
    return target


def _card(name: str, told: dict[str, Any]) -> str:
    test, config = told["test"], told["config"]
    data, model = config["data"], config["model"]
    tasks = f"{test['tasks']} {test['way']}-way {test['shot']}-shot test tasks of {test['query_shot']} query pictures"
    accuracy = f"{percent(test['accuracy'], test['confidence_95'])} on {tasks}"
    height, width = data["image_size"]
    of_any_number = config["learner"].get("head", "learned") != "learned"
    classes = "any number of classes" if of_any_number else f"at most {data['way']} classes"
    rows = {
        "accuracy": f"{accuracy} (95 % interval over tasks); one seed, {config['seed']}",
        **_confidence(told.get("confidence")),
        "measured with": f"the exported functions, one epoch, query statistics '{test['query_statistics']}'",
        "data": told["data"],
        "pictures": f"{height}x{width}, {'grey' if data['channels'] == 1 else 'RGB'}",
        "model": f"{model['name']}, {model['filters']} filters, {classes}",
        "training": f"{configs.from_dict(config).method}, epoch {told['epoch']}; every setting is in {ABOUT}",
        "code": f"commit {told['commit']}",
        "limits": told["limits"],
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""# {name}

    learner = mp.pretrained("{name}")
    tf-mamlpp adapt --model={name} --support=DIR --query=DIR --output=DIR

| | |
|---|---|
{table}
"""


def _confidence(told: dict[str, Any] | None) -> dict[str, str]:
    """The rows of the card on how sure the model is, and rightly so."""
    if told is None:
        return {}
    error = told["expected_calibration_error"]
    tasks = f"on {told['tasks']['test']} test tasks"
    rows = {"calibration error": f"{percent(error['after'])} {tasks}, {percent(error['before'])} before calibration"}
    known = told["known"]
    if known:
        kept, found = percent(known["known_kept"]), percent(known["unknown_found"])
        rows["none of these"] = f"keeps {kept} of known pictures, finds {found} of unknown ones {tasks}"
    return rows
