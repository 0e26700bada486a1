"""Arrays as a model takes them."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.data.array_format import ArrayFormat
from tf_mamlpp.data.input_format import read_format
from tf_mamlpp.errors import UserError


def test_each_feature_has_its_own_scale():
    arrays = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    mean, std = (1.0, -2.0, 0.5), (0.1, 3.0, 2.0)
    prepared = tf.function(ArrayFormat((7, 3), "float32", mean, std).prepare)(arrays)
    np.testing.assert_allclose(prepared, (arrays - mean) / std, rtol=1e-5)


def test_without_a_scale_nothing_changes():
    tokens = np.array([[2**30, -5]], np.int32)
    prepared = ArrayFormat((2,), "int32").prepare(tokens)
    assert prepared.dtype == tf.int32 and (prepared.numpy() == tokens).all()


@pytest.mark.parametrize("form", [ArrayFormat((2,), "int32"), ArrayFormat((3, 1), "float32", (0.1,), (1 / 3,))])
def test_what_is_written_is_read_again_to_the_bit(form):
    assert read_format(json.loads(json.dumps({"arrays": form.describe()}))) == form


@pytest.mark.parametrize(
    "described",
    [
        {"shape": [3], "dtype": "float64", "mean": None, "std": None},
        {"shape": 3, "dtype": "float32", "mean": None, "std": None},
        {"shape": [3], "dtype": "float32"},
        {"shape": [3], "dtype": "float32", "mean": [0.0], "std": [1.0]},
        {"shape": [3], "dtype": "float32", "mean": [0.0, 0.0, 0.0], "std": None},
        {"shape": [3], "dtype": "float32", "mean": [0.0, 0.0, 0.0], "std": [1.0, 0.0, 1.0]},
        [],
    ],
)
def test_a_damaged_description_is_one_line(described):
    with pytest.raises(UserError, match="arrays"):
        read_format({"arrays": described})
