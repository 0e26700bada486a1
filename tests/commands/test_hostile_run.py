"""Commands on a damaged run: one line that names the file, and not a byte of the folder changes."""

import shutil

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        ("config.json", b"{"),
        ("config.json", b"\xff"),
        ("classes.json", b"[1]"),
        ("checkpoints/best.json", b"[1]"),
        ("checkpoints/best.json", None),
        ("checkpoints/best-*.index", b"x"),
        ("checkpoints/best-*.data*", b""),
        ("checkpoints/update-*.index", b""),
    ],
)
@pytest.mark.parametrize("name", ["evaluate", "export", "train"])
def test_commands_tell_and_change_nothing(finished, command, train_arguments, tmp_path, name, damage):
    workdir = shutil.copytree(finished.workdir, tmp_path / "run")
    for file in workdir.glob(damage[0]):
        file.unlink() if damage[1] is None else file.write_bytes(damage[1])
    before = contents(workdir)
    arguments = {"evaluate": [], "export": [f"--output={tmp_path / 'model'}"]}
    done = command(name, *(arguments[name] + [f"--workdir={workdir}"] if name != "train" else train_arguments(workdir)))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert contents(workdir) == before


def contents(folder):
    return {str(f): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file() and f.name != ".lock"}
