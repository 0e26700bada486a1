"""What bin/benchmark.py refuses before it times anything."""

import json

import pytest


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--growth", "--case=all"], "--growth takes no --case:"),
        (["--growth", "--peers=pytorch", "--last_step_loss"], "--growth takes no --peers and no --last_step_loss:"),
        (["--model=x", "--growth", "--updates=30"], "--model takes no --growth and no --updates:"),
        (["--model=x", "--case=all", "--peers=pytorch"], "--model takes no --peers and no --case:"),
        (["--model=x", "--last_step_loss"], "--model takes no --last_step_loss:"),
        (["--model=x", "--compare=x"], "--model takes no --compare:"),
        (["--growth", "--compare=x"], "--growth takes no --compare:"),
        (["--peers=pytorch", "--compare=x"], "--peers takes no --compare:"),
    ],
)
def test_options_that_would_be_passed_over(command, flags, message):
    assert_refused(command("benchmark", *flags), message)


def test_a_file_to_compare_with_that_is_none(command, tmp_path):
    file = tmp_path / "earlier"
    file.write_text(json.dumps({"machine": {"cores": 2}, "cases": {"omniglot_5way_1shot": {}}}))
    assert_refused(
        command("benchmark", f"--compare={file}"), f"'{file}' does not say what case 'omniglot_5way_1shot' was: it has"
    )


def assert_refused(run, message):
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert (run.returncode, run.stdout) == (1, "")
