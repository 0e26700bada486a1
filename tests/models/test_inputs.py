import keras
import pytest

from tf_mamlpp.models.inputs import input_layer


@pytest.mark.parametrize(
    "policy, dtype", [(None, "float32"), ("float64", "float64"), ("mixed_float16", "float32"), ("bfloat16", "bfloat16")]
)
def test_dtype_is_that_of_the_weights(policy, dtype):
    layer = input_layer((4, 5), policy)
    assert (layer.dtype, layer.shape) == (dtype, (None, 4, 5))
    assert keras.config.dtype_policy().name == "float32"
