"""What is built and installed runs without the checkout: the source archive, the wheel from it, and the commands."""

import os
import site
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp import data

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(file.stem for file in (ROOT / "configs").glob("*.py"))
TINY = (
    "--config=quickstart:epochs=1",
    "--config.model.filters=2",
    "--config.training.updates=2",
    "--config.training.tasks=2",
    "--config.evaluation.validation_tasks=4",
    "--config.evaluation.test_tasks=4",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the built wheel: its `bin`.  It takes the libraries from the environment of the tests,
    but not an editable installation of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    built = ["-m", "build", "--outdir", folder / "dist", ROOT]  # the wheel from the source archive
    subprocess.run([sys.executable, *built], check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    pip = [sys.executable, "-m", "pip", "--python", folder / "venv", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", wheel], check=True)
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def installed(environment, tmp_path_factory):
    """Runs a program of the environment in a folder far from the checkout."""
    there = tmp_path_factory.mktemp("there")
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(program, *arguments):
        command = [environment / program, *arguments]
        done = subprocess.run(command, cwd=there, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A support and a query picture of each of three letters."""
    root = tmp_path_factory.mktemp("pictures")
    bank = data.load_banks("glyphs", image_size=(28, 28), channels=1)["test"]
    for letter in range(3):
        for kind, number in (("support", 0), ("query", 1)):
            folder = root / kind / f"letter {letter}"
            folder.mkdir(parents=True)
            Image.fromarray(np.squeeze(bank.images[bank.offsets[letter] + number])).save(folder / "picture.png")
    return root


@pytest.mark.slow
def test_the_package_is_the_installed_one_with_every_config(environment, installed):
    code = "import tf_mamlpp; from tf_mamlpp.config import names; print(tf_mamlpp.__file__, *names(), sep='\\n')"
    file, *names = installed("python", "-c", code).splitlines()
    assert Path(file).is_relative_to(environment.parent)
    assert names == CONFIGS


@pytest.mark.slow
def test_the_quickstart_and_its_export(installed):
    assert "accuracy" in installed("tf-mamlpp", "train", *TINY, "--workdir=run")
    assert "accuracy" in installed("tf-mamlpp", "evaluate", "--workdir=run", "--tasks=2")
    assert "inner steps" in installed("tf-mamlpp", "export", "--workdir=run", "--output=model", "--tasks=0")


@pytest.mark.slow
def test_the_pretrained_model_learns_classes_of_ones_own(installed, pictures):
    folders = (f"--support={pictures / 'support'}", f"--query={pictures / 'query'}", "--output=predictions")
    printed = installed("tf-mamlpp", "adapt", "--model=omniglot", *folders, "--evaluate")
    assert printed.startswith("learned letter 0, letter 1, letter 2 from 3 pictures")
    assert "3 pictures" in printed
