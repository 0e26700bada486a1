"""The runner, with short programs in place of training runs."""

import json
import os
import signal
import sys
import time

import pytest

from tf_mamlpp.config import Config
from tf_mamlpp.errors import UserError
from tf_mamlpp.study.plan import Plan, open_plan
from tf_mamlpp.study.runner import Runner, cores_of

RESULT = "(folder / 'r').write_text(json.dumps({'accuracy': 0.5})); os.replace(folder / 'r', folder / 'results.json')"
PROGRESS = "(folder / 'updates.csv').write_text('update\\n1,1,1,1\\n')"


def failure(diverged):
    text = json.dumps({"error": "bad", "diverged": diverged})
    return f"(folder / 'f').write_text({text!r}); os.replace(folder / 'f', folder / 'failure.json'); sys.exit(1)"


@pytest.fixture
def runner(tmp_path):
    """A runner of `methods` whose runs do what `program(method, attempt)` says."""

    class Fake(Runner):
        def __init__(self, program, jobs=1, methods=("maml", "maml++"), seeds=(0,)):
            self.lines, self.attempts, self.program = [], {}, program
            super().__init__(open_plan(tmp_path, Config(), methods, seeds), jobs, self.lines.append)

        def _command(self, record, slot):
            run = record.method, record.seed
            self.attempts[run] = self.attempts.get(run, 0) + 1
            head = f"import json, os, pathlib, signal, sys, time; folder = pathlib.Path({str(record.folder)!r})\n"
            return [sys.executable, "-c", head + self.program(record.method, self.attempts[run])]

    return Fake


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("tf_mamlpp.study.runner.POLL", 0.02)


def states(runner):
    return [r.state for r in runner.plan.records()]


def test_runs_everything_once(runner):
    study = runner(lambda method, attempt: RESULT, jobs=2, seeds=(0, 1))
    study.run()
    assert states(study) == ["done"] * 4
    assert set(study.attempts.values()) == {1}
    assert study.lines[-1] == "4/4 runs done, 100 %"
    again = runner(lambda method, attempt: RESULT, seeds=(0, 1, 2))
    again.run()
    assert sorted(again.attempts) == [("maml", 2), ("maml++", 2)]


def test_a_process_that_dies_is_tried_once_more_at_the_end(runner):
    study = runner(lambda m, n: RESULT if m == "maml++" or n == 2 else "os.kill(os.getpid(), signal.SIGKILL)")
    study.run()
    assert list(study.attempts) == [("maml", 0), ("maml++", 0)]
    assert study.attempts["maml", 0] == 2
    assert states(study) == ["done", "done"]


def test_one_that_dies_twice_is_shown(runner):
    study = runner(lambda m, n: RESULT if m == "maml++" else f"{PROGRESS}\nos.kill(os.getpid(), signal.SIGKILL)")
    study.run()
    assert states(study) == ["failed", "done"]
    assert study.lines[-1] == "2/2 runs done, 50 %, 1 without result"
    told = json.loads((study.plan.folder("maml", 0) / "failure.json").read_text())
    assert told == {"error": "its process was killed by signal 9 twice; see log.txt in its folder", "diverged": False}
    again = runner(lambda m, n: RESULT)
    again.run()
    assert list(again.attempts) == [("maml", 0)]
    assert states(again) == ["done", "done"]


def test_a_diverged_run_is_a_result_and_not_run_again(runner):
    study = runner(lambda m, n: f"{PROGRESS}\n{failure(True)}" if m == "maml" else RESULT)
    study.run()
    assert states(study) == ["diverged", "done"]
    again = runner(lambda m, n: RESULT)
    again.run()
    assert again.attempts == {}


def test_a_mistake_of_the_first_run_stops_the_plan(runner):
    study = runner(lambda m, n: failure(False))
    with pytest.raises(UserError, match="the first run, maml with seed 0, fails: bad"):
        study.run()
    assert list(study.attempts) == [("maml", 0)]


def test_a_later_failure_does_not(runner):
    study = runner(lambda m, n: RESULT + "\n" + PROGRESS if m == "maml" else failure(False))
    study.run()
    assert states(study) == ["done", "failed"]


def test_a_signal_lets_the_runs_end_and_is_passed_on_once(runner, capsys):
    program = (
        "def end(*_):\n    (folder / 'saved').touch()\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n(folder / 'ready').touch()\ntime.sleep(60)"
    )
    study = runner(lambda m, n: program, jobs=2)
    folders = [r.folder for r in study.plan.records()]
    show = study.show

    def interrupt(line):
        show(line)
        deadline = time.monotonic() + 30
        while not all((f / "ready").exists() for f in folders):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    study.show = interrupt
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        study.run()
    assert end.value.code == 143
    assert all((f / "saved").exists() for f in folders)
    assert signal.getsignal(signal.SIGTERM) == before
    assert "goes on there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cores", "jobs", "shares"),
    [({0, 1, 2, 3}, 1, [[]]), ({0, 1, 2, 3}, 2, [[0, 2], [1, 3]]), ({4, 7, 9}, 2, [[4, 9], [7]]), ({5}, 2, [[5], [5]])],
)
def test_jobs_divide_the_cores(monkeypatch, cores, jobs, shares):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    assert [cores_of(slot, jobs) for slot in range(jobs)] == shares


def test_a_plan_is_run_in_its_order(tmp_path):
    plan = Plan(tmp_path, Config(), (("maml++", 0), ("maml", 0)))
    assert [r.method for r in Runner(plan, 1, print)._queue] == ["maml++", "maml"]
