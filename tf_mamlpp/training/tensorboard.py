"""What a run shows in TensorBoard."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb

from tf_mamlpp.errors import writing
from tf_mamlpp.meta.settings import Learner
from tf_mamlpp.plotting import as_image
from tf_mamlpp.records.run_files import UPDATE_LOGS
from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints
from tf_mamlpp.training.pictures import rates_heatmap, task_picture

_PICTURES = 20  # epochs of a run that pictures are written for: of a long run's events they would be nearly all


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars each epoch, those of training every `every` updates, and pictures of tasks with predictions.

    Pictures are written for about 20 epochs of a run, the last among them.  The page Custom Scalars groups the scalars
    by what one asks first: is it learning, is it stable, how fast.

    Args:
        folder: of the event files.
        saver: knows the update and the time.
        tasks: meta-batches of one task, to draw; None where the data are no pictures.
        every: updates between points of training: the running means, and the largest loss and gradient since the last.

    Example: `train.train_and_evaluate` writes everything; here the page Custom Scalars alone.
        >>> import keras, tf_mamlpp as mp
        >>> board = TensorBoard(tmp_path, saver=None, tasks=None)
        >>> board.set_model(mp.MetaLearner(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), way=2))
        >>> board.on_train_begin()
        >>> len(list(tmp_path.glob("events.out.tfevents.*")))
        1
    """

    def __init__(self, folder: Path, saver: SaveCheckpoints, tasks: tf.data.Dataset | None, every: int = 25):
        super().__init__()
        self.folder, self.saver, self.tasks, self.every = folder, saver, tasks, every
        self._writer: Any = None
        self._largest: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        if self._writer is None:
            self._curves = tf.function(self.model.curves, reduce_retracing=True, autograph=False)
            with self._at(0):
                page = custom_scalars(self.model.metric_name, self.every)
                tf.summary.experimental.write_raw_pb(page.SerializeToString())

    @contextlib.contextmanager
    def _at(self, step: int) -> Iterator[None]:
        """Writes events of outer update `step`."""
        with writing(self.folder, tf.errors.OpError):
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(os.fsencode(self.folder))
            with self._writer.as_default(step=step):
                yield

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._then, self._from = time.monotonic(), self.saver.update

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        update = self.saver.update + 1
        for name in UPDATE_LOGS:
            if name in logs:
                self._largest[name] = max(self._largest.get(name, -np.inf), float(logs[name]))
        if update % self.every == 0:
            with self._at(update):
                for name, value in logs.items():
                    if name not in UPDATE_LOGS:
                        tf.summary.scalar(f"running/{name}", value)
                for name, value in self._largest.items():
                    tf.summary.scalar(f"stability/largest_{name}", value)
            self._largest.clear()
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        learner, epochs = self.model, (self.params or {}).get("epochs", 1)
        drawn = epoch + 1 == epochs or (epoch + 1) % math.ceil(epochs / _PICTURES) == 0
        pictures = [self._picture(task) for task in (self.tasks or () if drawn else ())]
        with self._at(self.saver.update):
            for name, value in logs.items():
                if name in UPDATE_LOGS:
                    continue
                split, name = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
                if name.startswith("step_"):
                    tf.summary.scalar(f"{learner.metric_name}_after_inner_step/{name.removeprefix('step_')}", value)
                else:  # pages in the order of their tags begin with the accuracy
                    tf.summary.scalar(f"{name}/{split}", value)
            updates = self.saver.update - self._from
            tf.summary.scalar("speed/updates_per_second", updates / max(self._trained - self._then, 1e-9))
            tf.summary.scalar("schedule/outer_rate", learner.optimizer.learning_rate.numpy())
            record = learner.epoch_record()
            if "inner_rates" in record:
                self._write_inner_loop(record, learner.settings, drawn)
            if pictures:
                tf.summary.image("tasks/support_then_query", np.stack(pictures), max_outputs=len(pictures))
            self._writer.flush()

    @staticmethod
    def _write_inner_loop(record: Mapping[str, Any], settings: Learner, drawn: bool) -> None:
        tf.summary.scalar("schedule/second_order", float(record["second_order"]))
        for k, weight in enumerate(record["loss_weights"], 1):
            tf.summary.scalar(f"schedule_loss_weight_of_inner_step/{k}", weight)
        if not (settings.learned_rates or settings.elementwise_rates):
            return
        tf.summary.scalar("rates/smallest", record["inner_rate_minimum"])
        tf.summary.scalar("rates/largest", record["inner_rate_maximum"])
        rates = np.array(list(record["inner_rates"].values()), np.float32)  # [tensors, steps]
        for k in range(rates.shape[1]):
            tf.summary.histogram(f"rates/inner_step_{k + 1}", rates[:, k])
        if drawn:
            table = rates_heatmap(record["inner_rates"], "learned rates")
            tf.summary.image("rates/table", as_image(table)[np.newaxis])

    def _picture(self, task: dict[str, tf.Tensor]) -> np.ndarray:
        predicted = tf.argmax(self._curves(task)[0, -1], -1).numpy()
        arrays = {name: value[0].numpy() for name, value in task.items()}
        return task_picture(**arrays, predicted=predicted)


def custom_scalars(metric: str, every: int) -> Any:
    """The page Custom Scalars, as a summary proto: a group for each question, and in it a chart for each line of tags.

    Args:
        metric: the metric's name.
        every: updates between points of training.

    Example:
        >>> [value.tag for value in custom_scalars("accuracy", every=25).value]
        ['custom_scalars__config__']
    """
    shown = metric.replace("_", " ")
    groups = {
        "Is it learning?": {
            f"{shown}: training (mean of the epoch) and validation": [f"{metric}/train", f"{metric}/validation"],
            f"validation {shown} after each inner step": [f"{metric}_after_inner_step/.*"],
            "loss of the last inner step: training and validation": ["loss/train", "loss/validation"],
        },
        "Is it stable?": {
            f"meta-gradient norm, largest of {every} updates": ["stability/largest_gradient_norm"],
            f"outer loss, largest of {every} updates": ["stability/largest_update_loss"],
            f"fraction of the gradient's entries clipped, largest of {every} updates": ["stability/largest_clipped"],
            "learned inner rates, smallest and largest": ["rates/smallest", "rates/largest"],
        },
        "How fast?": {
            "updates per second": ["speed/updates_per_second"],
            "outer learning rate": ["schedule/outer_rate"],
            "weight of each inner step's loss": ["schedule_loss_weight_of_inner_step/.*"],
        },
    }
    categories = [
        layout_pb2.Category(
            title=question,
            chart=[
                layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{t}$" for t in tags]))
                for title, tags in charts.items()
            ],
        )
        for question, charts in groups.items()
    ]
    return custom_scalar.pb(layout_pb2.Layout(category=categories))


@contextlib.contextmanager
def _new_events(folder: Path, suffix: str) -> Iterator[None]:
    with writing(folder, tf.errors.OpError):
        writer = tf.summary.create_file_writer(os.fsencode(folder), filename_suffix=suffix)
        with writer.as_default(step=0):
            yield
        writer.close()


def write_hparams(folder: Path, trial: str, values: Mapping[str, Any], metric: str) -> None:
    """Puts a run into TensorBoard's page HParams.

    Args:
        folder: of the run's event files.
        trial: the run's name there.
        values: its hyperparameters: strings, numbers and booleans.
        metric: the metric's name; the page shows its test and its validation.

    Example:
        >>> write_hparams(tmp_path, "maml, seed 0", {"method": "maml", "seed": 0}, "accuracy")
        >>> [file.suffix for file in tmp_path.iterdir()]
        ['.hparams']
    """
    metrics = [
        hparams.Metric(f"test/{metric}", display_name=f"test {metric}, ensemble"),
        hparams.Metric(f"test/{metric}_of_best_epoch", display_name=f"test {metric}, best epoch"),
        hparams.Metric(f"{metric}/validation", display_name=f"validation {metric}, last"),
        hparams.Metric("speed/updates_per_second", display_name="updates per second"),
    ]
    with _new_events(folder, ".hparams"):
        hparams.hparams_config(hparams=[hparams.HParam(name) for name in values], metrics=metrics)
        hparams.hparams(dict(values), trial_id=trial)


def write_end(folder: Path, results: Mapping[str, Any] | None, metric: str) -> None:
    """Adds a run's test to its scalars, or that it failed, and closes it in HParams.

    Args:
        folder: of the run's event files.
        results: of `results.run_results`; None if the run failed.
        metric: the metric's name.

    Example:
        >>> write_end(tmp_path, None, "accuracy")
        >>> [file.suffix for file in tmp_path.iterdir()]
        ['.test']
    """
    status = api_pb2.STATUS_SUCCESS if results else api_pb2.STATUS_FAILURE
    with _new_events(folder, ".test"):
        if results:
            tf.summary.scalar(f"test/{metric}", results[metric], results["train_steps"])
            tf.summary.scalar(f"test/{metric}_of_best_epoch", results["single_model"][metric], results["train_steps"])
        tf.summary.experimental.write_raw_pb(session_end_pb(status).SerializeToString())
