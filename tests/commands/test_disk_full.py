"""Full and unwritable disks: one error that names the folder, what was saved stays whole, the same command goes on."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from tf_mamlpp.data.bank_cache import _reserve
from tf_mamlpp.training import build
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.workdir import read_config

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk of so many KB, or changes it: disk("64k"), disk("64k", "ro")."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size, *more):
        options = ",".join([f"size={size}", "nr_inodes=0", *more, *(["remount"] if os.path.ismount(folder) else [])])
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount: {done.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


def told(done, folder):
    """Asserts that a process ended with one line about the folder, after whatever else it had to say."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ") and str(folder) in line, line
    assert "No space left" in line or "Read-only file system" in line, line
    return line


@pytest.mark.parametrize("size", ["4k", "40k", "64k", "96k", "160k"])
def test_a_run_on_a_disk_that_fills(disk, command, train_arguments, finished, size):
    workdir = disk(size) / "run"
    done = command("train", *train_arguments(workdir))
    line = told(done, workdir)
    print(size, line)
    checkpoints = workdir / "checkpoints"
    if any(checkpoints.glob("update-*.index")):
        config = read_config(workdir)
        update = Checkpoints(checkpoints, build.make_learner(config), 2).restore_latest()
        assert update > 0
    disk("64m")
    done = command("train", *train_arguments(workdir))
    assert done.returncode == 0, done.stderr
    results = [json.loads((folder / "results.json").read_text()) for folder in (workdir, finished.workdir)]
    assert results[0]["accuracy_per_inner_step"] == results[1]["accuracy_per_inner_step"]
    assert (workdir / "updates.csv").read_bytes() == (finished.workdir / "updates.csv").read_bytes()


def test_a_run_on_a_disk_that_became_read_only(disk, command, train_arguments, finished):
    workdir = shutil.copytree(finished.workdir, disk("64m") / "run")
    disk("64m", "ro")
    told(command("train", *train_arguments(workdir)), workdir)
    done = command("evaluate", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", ["8k", "600k"])
def test_the_picture_cache(disk, command, train_arguments, tmp_path, size):
    cache = disk(size) / "cache"
    done = command("train", *train_arguments(tmp_path / "run"), f"--config.data.cache_dir={cache}")
    assert "picture cache" in told(done, cache)
    assert not any(f.is_file() for f in cache.rglob("*"))


@pytest.mark.parametrize(
    "form, name, size",
    [
        ("saved_model", "model", "4k"),
        ("saved_model", "model", "300k"),
        ("tflite", "model.tflite", "4k"),
        ("tflite", "model.tflite", "60k"),
    ],
)
def test_export(disk, command, finished, form, name, size):
    if form == "tflite":
        pytest.importorskip("ai_edge_litert")
    output = disk(size) / name
    before = (finished.workdir / "checkpoints" / "best.json").read_bytes()
    arguments = [f"--workdir={finished.workdir}", f"--output={output}", f"--format={form}", "--tasks=0"]
    told(command("export", *arguments), output)
    assert list(output.parent.iterdir()) == []
    assert (finished.workdir / "checkpoints" / "best.json").read_bytes() == before
    disk("64m")
    assert command("export", *arguments).returncode == 0


@pytest.mark.parametrize("size", ["4k", "60k"])
def test_an_ablation(disk, command, train_arguments, size):
    folder = disk(size) / "study"
    arguments = [a for a in train_arguments(folder) if not a.startswith("--workdir")]
    done = command("ablate", *arguments, f"--workdir={folder}", "--methods=maml", "--seeds=0")
    told(done, folder)
    disk("64m")
    done = command("ablate", *arguments, f"--workdir={folder}", "--methods=maml", "--seeds=0")
    assert done.returncode == 0, done.stderr
    assert (folder / "maml" / "seed-0" / "results.json").exists()


def test_memory_is_not_written_to_pages_that_do_not_exist(tmp_path):
    """What `bank_cache` does first: a file of the whole size that takes its space, not a sparse one."""
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(1 << 20,))
    _reserve(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 1 << 20
