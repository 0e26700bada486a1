"""What one visitor of the page has taught: classes with their pictures, and the picture that is asked about."""

from __future__ import annotations

import dataclasses
import string
import time
from collections.abc import Iterator, Sequence
from itertools import chain, count

import numpy as np

from tf_mamlpp.data.images import decode_file
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.demo.taught import Answer, Example, TaughtClass
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel, check_classes
from tf_mamlpp.errors import UserError

_FEWEST = 2  # classes of a model for any number
_LONGEST = 60  # characters of a name


def pictures_of(model: DeployedModel) -> PictureFormat:
    """What the pictures of a model are.

    Raises:
        UserError: it takes no pictures.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data import ArrayFormat
        >>> pictures_of(SimpleNamespace(inputs=ArrayFormat((3,), "float32")))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: the model takes arrays: the page shows pictures
    """
    if not isinstance(model.inputs, PictureFormat):
        raise UserError(f"the model takes {model.inputs.kind.name}: the page shows pictures")
    return model.inputs


def check_shown(model: DeployedModel) -> None:
    """Refuses a model that cannot be taught by single pictures on a screen.

    Raises:
        UserError: it takes other pictures than grey and RGB, or needs all query pictures at once.

    Example:
        >>> from types import SimpleNamespace
        >>> pictures = PictureFormat((28, 28), channels=4, mean=(0.5,), std=(0.5,))
        >>> check_shown(SimpleNamespace(inputs=pictures, query_statistics="support"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: the model takes pictures of 4 channels: the page shows grey (1) and RGB (3)
    """
    channels = pictures_of(model).channels
    if channels not in (1, 3):
        raise UserError(f"the model takes pictures of {channels} channels: the page shows grey (1) and RGB (3)")
    if model.query_statistics == "batch":
        raise UserError(
            "the model was exported with --query_statistics=batch, and so needs all query pictures at once: export the "
            "run again with --query_statistics=support"
        )


def warm_up(model: DeployedModel) -> None:
    """Teaches and asks a model once, because its first time takes seconds.

    Example:
        ```python
        warm_up(DeployedModel("models/omniglot/1"))
        ```

        >>> warm_up.__name__
        'warm_up'
    """
    session, blank = Session(model), Example(np.zeros(model.inputs.shape, np.uint8))
    for index in range(session.fewest):
        session.add(index, [blank])
    session.ask(blank)


class Session:
    """One visitor's classes, learned anew whenever they have changed.

    A model for a fixed number of classes gets just so many of them, and answers once each has a picture.  One for any
    number answers once two have.

    Args:
        model: deployed; see `check_shown`.

    Attributes:
        classes: what is taught; only methods change it.
        picture: what is asked about, None for nothing.
        seconds: that the last adaptation took.

    Example:
        ```python
        session = Session(DeployedModel("models/omniglot/1"))
        for i in range(5):
            session.add(i, [session.read(Path(f"{i}.png").read_bytes())])
        session.ask(session.read(Path("new.png").read_bytes())).best
        ```

        >>> from types import SimpleNamespace
        >>> session = Session(SimpleNamespace(way=5))
        >>> session.rename(0, "alpha")
        >>> session.missing
        ['alpha', 'B', 'C', 'D', 'E']
    """

    def __init__(self, model: DeployedModel):
        self.model = model
        self.reset()

    def reset(self) -> None:
        """Begins anew, with empty classes."""
        self.classes: list[TaughtClass] = []
        self.picture: Example | None = None
        self.seconds = 0.0
        self._task: AdaptedTask | None = None
        self._fill()

    def _fill(self, index: int | None = None) -> None:
        """Inserts empty classes, up to as many as the model needs."""
        while len(self.classes) < self.fewest:
            at = len(self.classes) if index is None else index
            self.classes.insert(at, TaughtClass(next(self._free_names())))

    def _free_names(self) -> Iterator[str]:
        taken = {each.name for each in self.classes}
        names = chain(string.ascii_uppercase, map(str, count(len(string.ascii_uppercase) + 1)))
        return (name for name in names if name not in taken)

    @property
    def fewest(self) -> int:
        """Classes with pictures that an answer takes."""
        return self.model.way or _FEWEST

    @property
    def taught(self) -> list[TaughtClass]:
        """The classes that have pictures."""
        return [each for each in self.classes if each.examples]

    @property
    def missing(self) -> list[str]:
        """The names of the classes without a picture."""
        return [each.name for each in self.classes if not each.examples]

    @property
    def is_ready(self) -> bool:
        """Whether there is enough to learn from."""
        return len(self.taught) >= self.fewest

    def read(self, content: bytes, name: str = "a picture") -> Example:
        """A picture file, brought to the model's size.

        Args:
            content: of the file.
            name: what to call it in an error.

        Raises:
            UserError: it cannot be read; names it.
        """
        pictures = pictures_of(self.model)
        picture = decode_file(content, pictures.channels, name)
        sized = pictures.resize(picture)
        return Example(sized.numpy().astype(np.uint8))

    def add_class(self) -> None:
        """One class more.

        Raises:
            UserError: the model is for a fixed number.
        """
        self._check_any_way()
        self.classes.append(TaughtClass(next(self._free_names())))

    def remove_class(self, index: int) -> None:
        """Forgets a class with its pictures; a fixed number of classes gets an empty one in its place.

        Raises:
            UserError: there is no such class.
        """
        self.classes.remove(self._class(index))
        self._task = None
        self._fill(index)

    def rename(self, index: int, name: str) -> None:
        """Calls a class otherwise; what was learned stays.

        Raises:
            UserError: the name is empty or another class's.
        """
        renamed, name = self._class(index), " ".join(name.split())[:_LONGEST]
        if not name:
            raise UserError(f"class '{renamed.name}' needs a name: give it one")
        if any(each.name == name for each in self.classes if each is not renamed):
            raise UserError(f"two classes would be called '{name}': give each a name of its own")
        renamed.name = name
        if self._task is not None:
            self._task = dataclasses.replace(self._task, class_names=tuple(each.name for each in self.taught))

    def add(self, index: int, examples: Sequence[Example]) -> None:
        """Gives a class pictures.

        Raises:
            UserError: there is no such class.
        """
        self._class(index).examples.extend(examples)
        self._task = None

    def remove(self, index: int, position: int) -> None:
        """Takes a picture from a class.

        Raises:
            UserError: there is no such class or picture.
        """
        examples = self._class(index).examples
        if not 0 <= position < len(examples):
            raise UserError(f"class '{self.classes[index].name}' has no picture {position + 1}")
        del examples[position]
        self._task = None

    def teach(self) -> AdaptedTask:
        """Adapts to all pictures; what is learned already is not learned again.

        Raises:
            UserError: there is not enough to learn from.
        """
        if not self.is_ready:
            raise UserError(f"not enough to learn from: {self.fewest} classes need a picture")
        if self._task is None:
            started = time.perf_counter()
            images = np.stack([each.pixels for taught in self.taught for each in taught.examples])
            labels = [label for label, taught in enumerate(self.taught) for _ in taught.examples]
            self._task = self.model.adapt(images, labels, [taught.name for taught in self.taught])
            self.seconds = time.perf_counter() - started
        return self._task

    def ask(self, picture: Example) -> Answer:
        """Classifies a picture.

        Raises:
            UserError: there is not enough to learn from.
        """
        task, images, threshold = self.teach(), picture.pixels[None], self.model.threshold
        if threshold is None:
            return Answer(_named(task, self.model.predict(task, images)), None, True)
        probabilities, (known,) = self.model.predict_known(task, images)
        return Answer(_named(task, probabilities), float(known), bool(known >= threshold))

    def save(self) -> bytes:
        """What was learned, with its pictures, as `tf-mamlpp adapt --load_state` takes it too.

        Raises:
            UserError: there is not enough to learn from.
        """
        return self.teach().to_bytes()

    def load(self, content: bytes, name: str = "a file") -> None:
        """Takes classes from what `save` or `tf-mamlpp adapt --save_state` wrote, in place of those here.

        Args:
            content: of the file.
            name: what to call it in an error.

        Raises:
            UserError: it is damaged, or of another model.  Then all stays as it was.
        """
        task = AdaptedTask.from_bytes(content, name)
        if not task.class_names:
            raise UserError(f"state '{name}' holds no class")
        check_classes(task.labels, task.class_names)
        self.model.check_task(task)
        of_class = [[Example(pixels) for pixels in task.images[task.labels == i]] for i in range(len(task.class_names))]
        self.classes = [TaughtClass(*pair) for pair in zip(task.class_names, of_class, strict=True)]
        self._fill()
        self._task, self.seconds = (task if self.is_ready else None), 0.0

    def _class(self, index: int) -> TaughtClass:
        if not 0 <= index < len(self.classes):
            raise UserError(f"there is no class {index + 1}")
        return self.classes[index]

    def _check_any_way(self) -> None:
        if self.model.way is not None:
            raise UserError(f"this model learns exactly {self.model.way} classes: rename one that is there")


def _named(task: AdaptedTask, probabilities: np.ndarray) -> dict[str, float]:
    """The probabilities `[1, classes]` of one picture, by name."""
    return dict(zip(task.class_names, map(float, probabilities[0]), strict=True))
