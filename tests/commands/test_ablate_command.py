"""bin/ablate.py: a study that is killed, goes on and is reported."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = (
    "--config=configs/testing.py",
    "--config.model.name=mlp",
    "--config.training.updates=12",
    "--config.training.epochs=2",
    "--config.training.checkpoint_updates=2",
    "--config.evaluation.validation_tasks=8",
    "--config.evaluation.test_tasks=8",
    "--config.evaluation.ensemble=2",
)


@pytest.fixture(scope="module")
def study(command, tmp_path_factory):
    """A study of MAML and MAML++ whose process was killed in its runs, and then finished: its folder, and what the
    second command printed."""
    workdir = tmp_path_factory.mktemp("study") / "study"
    arguments = [sys.executable, str(ROOT / "bin" / "ablate.py"), *TINY, f"--workdir={workdir}", "--jobs=2"]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    folders = [workdir / method / "seed-0" for method in ("maml", "maml++")]

    def saved(folder):
        return max((int(f.stem.removeprefix("update-")) for f in folder.glob("checkpoints/update-*.index")), default=0)

    wait_until(lambda: any(saved(f) >= 2 for f in folders), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    # The runs notice, save a checkpoint and end: their locks come free.
    wait_until(
        lambda: (
            all("the same command resumes" in log(f) or not saved(f) for f in folders) and not any(map(held, folders))
        )
    )
    assert not (workdir / "report.md").exists()
    before = [saved(f) for f in folders]
    done = command("ablate", *TINY, f"--workdir={workdir}", "--jobs=2")
    assert done.returncode == 0, done.stderr
    return workdir, done, before


def log(folder):
    file = folder / "log.txt"
    return file.read_text() if file.exists() else ""


def held(folder):
    """Whether a process has the run's lock."""
    import fcntl

    try:
        with open(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def wait_until(condition, process=None):
    deadline = time.monotonic() + 240
    while not condition():
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(study):
    workdir, done, before = study
    assert max(before) >= 2
    for method, update in zip(("maml", "maml++"), before, strict=True):
        folder = workdir / method / "seed-0"
        assert f"after update {update}" in log(folder) or not update
        updates = (folder / "updates.csv").read_text().splitlines()[1:]
        assert [int(line.split(",")[0]) for line in updates] == list(range(1, 25))
        assert json.loads((folder / "results.json").read_text())["method"] == method
        assert json.loads((folder / "process.json").read_text())["peak_memory_mb"] > 100
    assert "2/2 runs done, 100 %" in done.stdout
    assert "report.html" in done.stdout


@pytest.mark.slow
def test_the_report_has_both(study):
    text = (study[0] / "report.md").read_text()
    assert "2 runs: 2 done" in text
    assert "| MAML++ |" in text
    assert (study[0] / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_finished_study_runs_nothing_and_reports_again(study, command, snapshot):
    workdir = study[0]
    before = snapshot(workdir)
    for extra in ([], ["--report_only"]):
        again = command("ablate", f"--workdir={workdir}", *extra)
        assert again.returncode == 0, again.stderr
    content = {name: value[0] for name, value in snapshot(workdir).items()}
    assert content == {name: value[0] for name, value in before.items()}


@pytest.mark.slow
def test_seeds_of_no_method_are_refused(study, command, snapshot, one_line):
    before = snapshot(study[0])
    done = command("ablate", f"--workdir={study[0]}", "--seeds=3,4")
    assert "--seeds=3,4 needs --methods" in one_line(done)
    assert snapshot(study[0]) == before


@pytest.mark.slow
def test_another_config_is_refused(study, command, snapshot, one_line):
    before = snapshot(study[0])
    done = command("ablate", *TINY, "--config.learner.inner_rate=0.3", f"--workdir={study[0]}", "--methods=all")
    assert "study of another config (learner.inner_rate: 0.1, 0.3)" in one_line(done)
    assert snapshot(study[0]) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "holds no study"),
        (["--report_only"], "holds no study"),
        (["--config=configs/testing.py", "--methods=mamal"], "unknown method 'mamal'"),
        (["--config=configs/testing.py", "--seeds=0,x"], "--seeds takes whole numbers"),
        (["--config.seed=1"], "needs --config"),
    ],
)
def test_mistakes(command, one_line, tmp_path, arguments, message):
    done = command("ablate", *arguments, f"--workdir={tmp_path / 'none'}")
    assert message in one_line(done)


@pytest.mark.slow
def test_a_mistake_of_every_run_is_told_at_once(command, one_line, tmp_path):
    done = command("ablate", "--config=configs/omniglot.py", "--config.data.path=/nowhere", f"--workdir={tmp_path}")
    assert "the first run, maml with seed 0, fails: " in one_line(done)
    assert "/nowhere" in done.stderr
