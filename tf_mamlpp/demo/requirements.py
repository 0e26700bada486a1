"""What the page needs of the machine, told before a model is loaded.  Imports no TensorFlow."""

from __future__ import annotations

import importlib.metadata
import socket

from tf_mamlpp.errors import UserError

OLDEST = (6, 17)
"""Gradio's first version that loads nothing from the net, and has all that the page uses."""


def check_gradio() -> None:
    """Refuses to go on without Gradio, or with one that is too old.

    Raises:
        UserError: saying how to install it.

    Example:
        ```python
        check_gradio()
        ```

        >>> OLDEST >= (6,)
        True
    """
    mend = "pip install 'tf_mamlpp[demo]' (in a checkout: pip install -e '.[demo]')"
    try:
        version = importlib.metadata.version("gradio")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the page needs Gradio, which is not installed: {mend}") from None
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise UserError(f"Gradio {version} is too old for the page: {mend}")


def check_port(port: int) -> None:
    """Refuses a port of the loopback address that another program uses.

    Raises:
        UserError: naming the port.

    Example:
        >>> with socket.socket() as taken:
        ...     taken.bind(("127.0.0.1", 0))
        ...     taken.listen()
        ...     check_port(taken.getsockname()[1])
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: port ... cannot be used (Address already in use): choose another with --port
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from error
