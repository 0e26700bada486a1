"""A process for each contestant of the benchmark, so that its memory can be measured.  Imports no TensorFlow."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tf_mamlpp.errors import UserError


class Worker:
    """A fresh process that makes a function.  Calls of the worker are calls of that function in the process.

    Args:
        make_function: returns the function; it is called in the process, so it must be one that a module defines.
        arguments: of `make_function`.

    Raises:
        UserError: when called, if the process has ended; the system ends one that takes too much memory.
        RuntimeError: when called, if the function raises; with the traceback.

    Example:
        >>> from functools import partial
        >>> with Worker(partial, max) as largest:  # partial(max) is made in the process
        ...     largest(3, 5)
        5
    """

    def __init__(self, make_function: Callable[..., Callable[..., Any]], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, make_function, arguments), daemon=True)
        self._process.start()
        far_end.close()

    def __call__(self, *arguments: Any) -> Any:
        try:
            self._pipe.send(arguments)
            result, error = self._pipe.recv()
        except (EOFError, OSError) as broken:
            self._process.join()
            raise UserError(
                f"a process of the benchmark ended with status {self._process.exitcode}"
                + (": out of memory?" if self._process.exitcode == -9 else "")
            ) from broken
        if error:
            raise RuntimeError(f"in a process of the benchmark:\n{error}")
        return result

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _serve(pipe: Connection, make_function: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    function = None
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            function = function or make_function(*arguments)
            pipe.send((function(*call), None))
        except Exception:
            pipe.send((None, traceback.format_exc()))
