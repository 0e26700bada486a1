"""What a run answered to the query pictures of a test, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tf_mamlpp.config.schema import Data
from tf_mamlpp.data import Bank, drawn_rows


@dataclass(frozen=True)
class Answers:
    """The tasks of a test by the classes and pictures of their bank, with the answers.

    Attributes:
        bank: that the tasks were drawn from.
        shot: support pictures a class.
        rows: of the bank, int `[tasks, way, shot + query_shot]`; the support pictures of a class come first.
        predicted: the class of the bank that each query picture was taken for, int `[tasks, way, query_shot]`.
        probabilities: of that class, `[tasks, way, query_shot]`.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> answers = Answers(bank, 1, np.array([[[2, 3], [0, 1]]]), np.array([[[1], [1]]]), np.array([[[0.9], [0.6]]]))
        >>> answers.classes.tolist(), answers.accuracies.tolist()
        ([[1, 0]], [0.5])
    """

    bank: Bank
    shot: int
    rows: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """The classes of the bank in each task, `[tasks, way]`; their place is their label in the task."""
        return _classes(self.bank, self.rows)

    @property
    def right(self) -> np.ndarray:
        """Whether the true class was predicted, `[tasks, way, query_shot]`."""
        return self.predicted == self.classes[:, :, None]

    @property
    def accuracies(self) -> np.ndarray:
        """The accuracy of each task, `[tasks]`."""
        return self.right.mean((1, 2))

    def hardest(self, count: int) -> list[int]:
        """The numbers of the tasks of lowest accuracy, the worst one first; of equal ones the earlier."""
        return np.argsort(self.accuracies, kind="stable")[:count].tolist()


def answers_of(d: Data, bank: Bank, split: str, probabilities: Sequence[np.ndarray]) -> Answers:
    """The answers to the fixed tasks of a split.

    Args:
        d: the tasks.
        bank: of the split.
        split: its name.
        probabilities: of each meta-batch, `[tasks, way * query_shot, way]`, as `evaluate` gives them.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 2, 4]), ("ant", "bee"), "insects test")
        >>> first_is_right = np.array([[[0.9, 0.1], [0.6, 0.4]]])
        >>> answers_of(Data(way=2), bank, "test", [first_is_right]).accuracies.tolist()
        [0.5]
    """
    task = {"way": d.way, "shot": d.shot, "query_shot": d.query_shot}
    together = np.concatenate(probabilities).reshape(-1, d.way, d.query_shot, d.way)
    rows = np.stack([drawn_rows(bank, **task, seed=0, split=split, index=i) for i in range(len(together))])
    places = together.argmax(-1)
    predicted = np.take_along_axis(_classes(bank, rows)[:, None], places.reshape(len(rows), 1, -1), -1).reshape(
        places.shape
    )
    return Answers(bank, d.shot, rows, predicted, together.max(-1))


def _classes(bank: Bank, rows: np.ndarray) -> np.ndarray:
    return np.searchsorted(bank.offsets, rows[:, :, 0], side="right") - 1
