"""What the page asks of a session, and what it shows of it, both as JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from tf_mamlpp.demo.session import Session, pictures_of
from tf_mamlpp.demo.taught import Answer, Example
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.sheet_parts import COLOURS
from tf_mamlpp.errors import UserError

_MOST_BYTES = 64 << 20  # of one file
_DARK = 0.25  # a mean grey below which most of a picture is black


def describe(model: DeployedModel, name: str) -> dict[str, Any]:
    """What the page says of a model before anything is taught.

    Args:
        model: deployed.
        name: what to call it.

    Returns:
        `title` and `about`; the `size` of the model's pictures, width and height; whether the paper is `dark`; whether
        classes can be added (`any_way`).

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> pictures = PictureFormat((28, 28), 1, mean=(1.0,), std=(-1.0,))
        >>> model = SimpleNamespace(way=5, trained_way=5, inputs=pictures, threshold=None)
        >>> described = describe(model, "omniglot")
        >>> described["about"]
        'It learns exactly 5 classes, from one or more pictures of each (28x28, grey). It names one of them for any ...
        >>> described["dark"]
        False
    """
    height, width, channels = pictures_of(model).shape
    kind = "grey" if channels == 1 else "colour"
    classes = f"exactly {model.way} classes" if model.way else f"2 classes or more ({model.trained_way} in training)"
    unknown = (
        "It names one of them for any picture: this model does not tell “none of these”."
        if model.threshold is None
        else "It says when a picture is none of them."
    )
    return {
        "title": f"Teach {name} by hand",
        "about": f"It learns {classes}, from one or more pictures of each ({width}x{height}, {kind}). {unknown}",
        "size": [width, height],
        "dark": is_paper_dark(model),
        "any_way": model.way is None,
    }


def is_paper_dark(model: DeployedModel) -> bool:
    """Whether drawings for a model are white on black, as far as its normalisation tells.

    A negative deviation inverts dark ink on white paper.  Otherwise, most of a drawing is paper, so that a low mean is
    that of black paper.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> is_paper_dark(SimpleNamespace(inputs=PictureFormat((28, 28), 1, mean=(1.0,), std=(-1.0,))))  # Omniglot
        False
        >>> is_paper_dark(SimpleNamespace(inputs=PictureFormat((28, 28), 1, mean=(0.13,), std=(0.31,))))  # white digits
        True
    """
    pictures = pictures_of(model)
    return min(pictures.std) > 0 and max(pictures.mean) < _DARK


def act(session: Session, action: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Does what a visitor asks for.

    Args:
        session: the visitor's.
        action: a name in `ACTIONS`.
        details: its arguments; files as `{"name": ..., "content": base64}`.

    Returns:
        What `show` returns, with an `error` of one line where it was refused, and a `file` where one was asked for.

    Raises:
        KeyError, TypeError: not what the page sends.

    Example:
        >>> from types import SimpleNamespace
        >>> session = Session(SimpleNamespace(way=2))
        >>> [each["name"] for each in act(session, "rename", {"index": 0, "name": "alpha"})["classes"]]
        ['alpha', 'B']
        >>> act(session, "rename", {"index": 0, "name": "B"})["error"]
        "two classes would be called 'B': give each a name of its own"
    """
    file = error = None
    try:
        file = ACTIONS[action](session, **details)
        shown = show(session)
    except UserError as refused:
        error, shown = " ".join(str(refused).split()), show(session)
    return {**shown, "error": error, "file": file}


def show(session: Session) -> dict[str, Any]:
    """What the page shows of a session.

    Returns:
        `classes` with `name`, `colour`, `pictures` (addresses) and `probability`; the `picture` asked about and the
        `answer`; `status`, a sentence on what was learned or is missing; whether it is `ready` to answer.

    Example:
        >>> from types import SimpleNamespace
        >>> show(Session(SimpleNamespace(way=2)))["status"]
        'Give each of the 2 classes a picture. Still without: A, B.'
    """
    answer = _answer(session)
    return {
        "classes": [
            {
                "name": each.name,
                "colour": COLOURS[i % len(COLOURS)],
                "pictures": [example.url for example in each.examples],
                "probability": answer and answer.probabilities.get(each.name),
            }
            for i, each in enumerate(session.classes)
        ],
        "picture": session.picture and session.picture.url,
        "answer": _told(answer, session.model.threshold) if answer else _invitation(session),
        "status": _status(session),
        "ready": session.is_ready,
        "error": None,
        "file": None,
    }


def _answer(session: Session) -> Answer | None:
    """Learns what has changed; answers if there is a picture to ask about."""
    if not session.is_ready:
        return None
    session.teach()
    return session.ask(session.picture) if session.picture else None


def _invitation(session: Session) -> dict[str, Any]:
    """In place of an answer."""
    detail = "Draw or drop a picture to ask." if session.is_ready else "Draw a picture, then add it to a class."
    return {"label": "", "chance": "", "detail": detail, "is_known": None}


def _told(answer: Answer, threshold: float | None) -> dict[str, Any]:
    best, chance = answer.best, _percent(answer.probabilities[answer.best])
    known = "" if answer.known is None else f"Known at all: {_percent(answer.known)}"
    if answer.is_known:
        return {"label": best, "chance": chance, "detail": known, "is_known": True}
    detail = f"{known}, below {_percent(threshold or 0)}. Most like {best}: {chance}"
    return {"label": "None of these", "chance": "", "detail": detail, "is_known": False}


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _status(session: Session) -> str:
    if not session.is_ready and session.model.way is None:
        return f"Give at least {session.fewest} classes a picture."
    if not session.is_ready:
        return f"Give each of the {session.fewest} classes a picture. Still without: {', '.join(session.missing)}."
    pictures = sum(len(each.examples) for each in session.taught)
    took = f" in {1000 * session.seconds:.0f} ms" if session.seconds else ""
    return f"Learned {len(session.taught)} classes from {pictures} pictures{took}."


def _ask(session: Session, picture: Mapping[str, str] | None) -> None:
    session.picture = None  # also if it cannot be read
    session.picture = _read(session, picture) if picture else None


def _add(session: Session, index: int, pictures: list[Mapping[str, str]], is_asked: bool = False) -> None:
    """Adds those that can be read, then names one that cannot.  A picture that was asked about now has its answer."""
    read, errors = [], []
    for picture in pictures:
        try:
            read.append(_read(session, picture))
        except UserError as error:
            errors.append(error)
    session.add(index, read)
    if is_asked:
        session.picture = None
    if errors:
        raise errors[0]


def _load(session: Session, file: Mapping[str, str]) -> None:
    session.load(_content(file), str(file["name"]))


def _save(session: Session) -> dict[str, str]:
    return {"name": "learned.npz", "content": base64.b64encode(session.save()).decode()}


ACTIONS: dict[str, Callable[..., Any]] = {
    "ask": _ask,
    "add": _add,
    "remove": Session.remove,
    "rename": Session.rename,
    "add_class": Session.add_class,
    "remove_class": Session.remove_class,
    "load": _load,
    "save": _save,
    "reset": Session.reset,
}
"""What a page can ask for, by name."""


def _read(session: Session, file: Mapping[str, str]) -> Example:
    return session.read(_content(file), str(file["name"]))


def _content(file: Mapping[str, str]) -> bytes:
    if len(file["content"]) > _MOST_BYTES * 4 // 3:
        raise UserError(f"{file['name']}: it has over {_MOST_BYTES >> 20} MB")
    try:
        return base64.b64decode(file["content"], validate=True)
    except binascii.Error as error:
        raise UserError(f"{file['name']}: it did not arrive whole; try again") from error
