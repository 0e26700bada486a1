"""What a run shows in TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.callbacks import SaveCheckpoints

_GREEN, _RED, _WHITE = np.array([0.1, 0.65, 0.25]), np.array([0.85, 0.15, 0.15]), np.ones(3)


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars each epoch, the running loss every `every` updates, and pictures of tasks with predictions.

    Args:
        folder: of the event files.
        saver: knows the update and the time.
        tasks: meta-batches of one task, to draw; not drawn where the data are no pictures.
        every: updates between points of the running loss.
    """

    def __init__(self, folder: Path, saver: SaveCheckpoints, tasks: tf.data.Dataset, every: int = 25):
        super().__init__()
        self.folder, self.saver, self.tasks, self.every = folder, saver, tasks, every
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.folder))
            self._curves = tf.function(self.model.curves, reduce_retracing=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._then, self._from = time.monotonic(), self.saver.update

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        update = self.saver.update + 1
        if update % self.every == 0:
            with self._writer.as_default(step=update):
                for name, value in logs.items():
                    tf.summary.scalar(f"running/{name}", value)
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        learner = self.model
        with self._writer.as_default(step=self.saver.update):
            for name, value in logs.items():
                split, name = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
                group = f"{split}_{learner.metric_name}_after_inner_step" if name.startswith("step_") else split
                tf.summary.scalar(f"{group}/{name.removeprefix('step_')}", value)
            updates = self.saver.update - self._from
            tf.summary.scalar("speed/updates_per_second", updates / max(self._trained - self._then, 1e-9))
            tf.summary.scalar("schedule/outer_rate", learner.optimizer.learning_rate.numpy())
            tf.summary.scalar("schedule/second_order", float(learner.second_order))
            for k, weight in enumerate(learner.loss_weights.numpy()):
                tf.summary.scalar(f"schedule_loss_weights/step_{k}", weight)
            for path, rates in zip(learner.adapted_paths, learner.inner_rates.table.numpy(), strict=True):
                for k, rate in enumerate(rates):
                    tf.summary.scalar(f"inner_rates/{path.split('/', 1)[-1]}/step_{k}", rate)
            pictures = [self._picture(task) for task in self.tasks if len(task["query_images"].shape) == 5]
            if pictures:
                tf.summary.image("tasks/support_then_query", np.stack(pictures), max_outputs=len(pictures))
        self._writer.flush()

    def _picture(self, task: dict[str, tf.Tensor]) -> np.ndarray:
        predicted = tf.argmax(self._curves(task)[0, -1], -1).numpy()
        arrays = {name: value[0].numpy() for name, value in task.items()}
        return task_picture(**arrays, predicted=predicted)


def task_picture(
    support_images: np.ndarray,
    support_labels: np.ndarray,
    query_images: np.ndarray,
    query_labels: np.ndarray,
    predicted: np.ndarray,
) -> np.ndarray:
    """A task as one picture: a row a class, its support pictures, then its query pictures.

    A query picture has a green border if its class was predicted, else a red one with, beside it, the first support
    picture of the class that was predicted.

    Args:
        support_images, query_images: `[S, H, W, C]` and `[Q, H, W, C]`, any range.
        support_labels, query_labels, predicted: `[S]`, `[Q]` and `[Q]`.

    Returns:
        float32 RGB in 0..1, `[height, width, 3]`.
    """
    low, high = support_images.min(), max(support_images.max(), support_images.min() + 1e-6)

    def cell(image: np.ndarray, border: np.ndarray) -> np.ndarray:
        shown = np.broadcast_to(np.clip((image - low) / (high - low), 0, 1), (*image.shape[:2], 3))
        framed = np.full((image.shape[0] + 4, image.shape[1] + 4, 3), border)
        framed[2:-2, 2:-2] = shown
        return np.pad(framed, ((2, 2), (2, 2), (0, 0)), constant_values=1.0)

    first = {label: image for label, image in zip(support_labels[::-1], support_images[::-1], strict=True)}
    rows = []
    for label in sorted(set(support_labels.tolist())):
        row = [cell(image, _WHITE) for image in support_images[support_labels == label]]
        gap = np.ones((row[0].shape[0], 8, 3))
        row.append(gap)
        for image, guess in zip(query_images[query_labels == label], predicted[query_labels == label], strict=True):
            right = guess == label
            row.append(cell(image, _GREEN if right else _RED))
            row.append(np.ones_like(row[0]) if right else cell(first[guess] * 0.5 + low * 0.5, _WHITE))
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0).astype(np.float32)
