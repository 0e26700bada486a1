"""A progress bar on stderr for work that comes before training."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_WIDTH = 30


_REDRAW_SECONDS = 0.1


class Progress:
    """Counts up to `total`: a live bar on a terminal, and elsewhere (a log file) one line at the end.

    Args:
        label: what is being done, for example "decoding omniglot train".
        total: how many items there are.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, max(total, 1), 0
        self._started = time.monotonic()
        self._drawn = -_REDRAW_SECONDS
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self._live:
            self._draw()
            print(file=sys.stderr)
        elif kind is None:
            print(f"{self._label}: {self._done} in {self._elapsed():.1f} s", file=sys.stderr)

    def add(self, items: int) -> None:
        """Counts `items` more as done."""
        self._done += items
        if self._live and time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._draw()

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        filled = _WIDTH * self._done // self._total
        left = self._elapsed() * (self._total - self._done) / max(self._done, 1)
        bar = "=" * filled + "." * (_WIDTH - filled)
        text = f"\r{self._label} [{bar}] {self._done}/{self._total}, {left:.0f} s left "
        print(text, end="", file=sys.stderr, flush=True)
