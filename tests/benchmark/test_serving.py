import pytest

import tf_mamlpp as mp
from tf_mamlpp.benchmark.serving import run_serving
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.saved_model import export_saved_model
from tf_mamlpp.deploy.task_learner import task_learner


@pytest.mark.slow
def test_times_every_part(tmp_path):
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=1)
    pictures = PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,))
    export_saved_model(task_learner(learner, pictures), tmp_path / "model")
    found = run_serving(tmp_path / "model", seconds=0.05)
    assert set(found) == {
        *(f"{name}_milliseconds{end}" for name in ("adapt_1shot", "adapt_5shot", "predict") for end in ("", "_95")),
        "adapt_1shot_tasks_per_second",
        "adapt_5shot_tasks_per_second",
        "predict_pictures_per_second",
    }
    assert all(value > 0 for value in found.values())
    for name in ("adapt_1shot", "adapt_5shot", "predict"):
        assert found[f"{name}_milliseconds"] <= found[f"{name}_milliseconds_95"]
