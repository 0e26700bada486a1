"""`tf-mamlpp`: its list of commands, their help, and what it refuses."""

import importlib
import subprocess
import sys
from pathlib import Path

import absl.flags
import pytest

from tf_mamlpp.commands import console

ROOT = Path(__file__).parents[2]


def test_each_command_is_listed_and_has_its_script():
    files = {file.stem for file in (ROOT / "bin").glob("*.py")}
    assert set(console.COMMANDS) == files
    assert all(f"  {name} " in console.overview() for name in files)


@pytest.mark.parametrize("name", console.COMMANDS)
def test_the_help_of_a_command(name, capsys):
    console.run(name, ["--workdir=nowhere", "--help"])
    printed = capsys.readouterr().out
    assert f"\n    tf-mamlpp {name} --" in printed and printed.endswith("Show the traceback of errors.\n")
    command = importlib.import_module(f"tf_mamlpp.commands.{name}")
    values = vars(command.flags)["_values"]
    assert all(f"  --{f}=" in printed or f"  --[no]{f}\n" in printed for f in values)


def test_help_loads_no_framework():
    code = (
        "import sys; from tf_mamlpp.commands import console\n"
        "for name in console.COMMANDS: console.run(name, ['--help'])\n"
        "assert not {'tensorflow', 'keras', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_one_command_does_not_know_the_flags_of_another():
    from tf_mamlpp.commands import adapt, train

    assert train.flags.parse(["--config=a", "--workdir=b", "--model=c"]) == ["--model=c"]
    adapt.flags.parse(["--model=c"])
    assert "config" not in absl.flags.FLAGS and "model" not in absl.flags.FLAGS


def test_what_was_given_before_is_forgotten():
    from tf_mamlpp.commands import adapt

    adapt.flags.parse(["--model=c", "--shot=3"])
    adapt.flags.parse(["--model=c"])
    assert adapt.flags["shot"].value == 1 and not adapt.flags["shot"].present


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_list_of_commands(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tf-mamlpp", *arguments])
    console.main()
    assert capsys.readouterr().out == console.overview() + "\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["evalute"], "tf-mamlpp: there is no command 'evalute'; did you mean evaluate? `tf-mamlpp --help` lists them"),
        (["--workdir=a"], "tf-mamlpp: there is no command '--workdir=a'; `tf-mamlpp --help` lists them"),
        (["train"], "tf-mamlpp train: --config is missing; --workdir is missing; --help lists the flags"),
        (
            ["adapt", "--model=m", "--shot=none"],
            "tf-mamlpp adapt: flag --shot=none: invalid literal for int() with base 10: 'none'; --help lists the flags",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tf-mamlpp", *arguments])
    with pytest.raises(SystemExit) as ended:
        console.main()
    assert ended.value.code == line


def test_as_a_module_and_as_a_script():
    """A mistake in the config, and its traceback, from both ways in."""
    for start in (["-m", "tf_mamlpp", "train"], ["bin/train.py"]):
        command = [sys.executable, *start, "--config=quickstrat", "--workdir=never"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 1
        assert done.stderr.startswith("error: config file 'quickstrat' not found: give a Python file, or one of ")
        assert done.stderr.count("\n") == 1
