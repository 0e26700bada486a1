"""Contestants of the benchmark in processes of their own, so that memory is each one's own.  Imports no framework."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tf_mamlpp.errors import UserError


class Worker:
    """A fresh process that makes a function and answers calls of it, one after the other, over a pipe.

    Args:
        make: what returns the function; a module's own, called in the process.
        arguments: of `make`.

    Raises:
        UserError: the process ended, which is what the system does to one that takes too much memory.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_answer, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()

    def __call__(self, *arguments: Any) -> Any:
        try:
            self._pipe.send(arguments)
            answer, error = self._pipe.recv()
        except (EOFError, OSError) as broken:
            self._process.join()
            raise UserError(
                f"a process of the benchmark ended with status {self._process.exitcode}"
                + (": out of memory?" if self._process.exitcode == -9 else "")
            ) from broken
        if error:
            raise RuntimeError(f"in a process of the benchmark:\n{error}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _answer(pipe: Connection, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    function = None
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            function = function or make(*arguments)
            pipe.send((function(*call), None))
        except Exception:
            pipe.send((None, traceback.format_exc()))
