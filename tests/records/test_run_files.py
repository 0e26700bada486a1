"""The files of a run, whole, cut and damaged."""

import math

import numpy as np
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.records import run_files
from tf_mamlpp.records.run_files import read_metrics, read_updates
from tf_mamlpp.records.run_record import RunRecord


def test_a_file_is_read_up_to_where_it_was_cut(tmp_path):
    file = tmp_path / "updates.csv"
    assert {k: len(v) for k, v in read_updates(file).items()} == dict.fromkeys(("update", *run_files.UPDATE_LOGS), 0)
    file.write_text("update,update_loss,gradient_norm,clipped\n1,1.5,2,0\n2,1.25,inf,0.5\n3,1.2")
    found = read_updates(file)
    np.testing.assert_array_equal(found["update"], [1, 2])
    np.testing.assert_array_equal(found["update_loss"], [1.5, 1.25])
    np.testing.assert_array_equal(found["gradient_norm"], [2, math.inf])
    np.testing.assert_array_equal(found["clipped"], [0, 0.5])


def test_damaged_files(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match="results.json' is damaged"):
        _ = RunRecord("maml", 0, tmp_path, 30).results
    (tmp_path / "metrics.jsonl").write_text('{"update": 1}\n{"upd')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"update": 1}]
