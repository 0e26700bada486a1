"""What an export of a run refuses before it reads anything.  Exports of runs: tests/cli."""

import pytest

from tf_mamlpp.deploy.export import export_run
from tf_mamlpp.errors import UserError


@pytest.mark.parametrize("form", ["saved_model", "tflite"])
def test_a_taken_output_is_told_before_the_run_is_read(tmp_path, form):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("taken", "taken/mine.txt", "link"):
        with pytest.raises(UserError, match=f"{name}' exists already: choose another output, or remove it"):
            export_run(tmp_path / "no_run", tmp_path / name, form=form)


def test_an_unknown_form_is_told(tmp_path):
    with pytest.raises(UserError, match="form is one of saved_model, tflite, not 'onnx'"):
        export_run(tmp_path / "no_run", tmp_path / "model", form="onnx")
