import keras
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.inputs import input_layer
from tf_mamlpp.models.resnet12 import resnet12


@pytest.mark.parametrize(
    "policy, dtype", [(None, "float32"), ("float64", "float64"), ("mixed_float16", "float32"), ("bfloat16", "bfloat16")]
)
def test_dtype_is_that_of_the_weights(policy, dtype):
    layer = input_layer((4, 5), policy)
    assert (layer.dtype, layer.shape) == (dtype, (None, 4, 5))
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("make", [conv4, resnet12])
def test_networks_of_pictures_refuse_other_inputs(make):
    with pytest.raises(UserError, match=rf"^{make.__name__} takes pictures .*, not inputs of shape \(28, 28\): give"):
        make((28, 28), 5)
