import io
import sys

from tf_mamlpp.data.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_live_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("decoding", 4) as progress:
        progress.add(1)
        progress.add(3)
    draws = sys.stderr.getvalue().split("\r")
    assert "1/4" in draws[1] and "4/4, 0 s left" in draws[-1] and draws[-1].endswith("\n")


def test_one_line_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress("decoding", 2) as progress:
        progress.add(2)
    assert sys.stderr.getvalue().startswith("decoding: 2 in ") and sys.stderr.getvalue().count("\n") == 1
