import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.resnet12 import resnet12


def test_resnet12_is_the_network_of_the_literature():
    model = resnet12((84, 84, 3), 5)
    kernels = [v.shape for v in model.trainable_variables if v.path.endswith("kernel")]
    assert [k for k in kernels if k[0] == 3 and len(k) == 4] == [
        (3, 3, before, width)
        for start, width in ((3, 64), (64, 160), (160, 320), (320, 640))
        for before in (start, width, width)
    ]
    # 12 convolutions and 4 shortcuts, and the head: 640 * 5 + 5
    assert sum(int(np.prod(k)) for k in kernels) == 12_414_848 + 640 * 5
    assert model.get_layer("pool3").output.shape == (None, 5, 5, 640)
    assert model.output.shape == (None, 5)


def test_a_residual_block_by_hand(scatter):
    model = scatter(resnet12((5, 4, 2), 3, widths=(4,), dtype="float64"))
    x = y = tf.constant(np.random.default_rng(6).normal(size=(2, 5, 4, 2)))

    def conv_norm(x, name):
        return model.get_layer(f"norm{name}")(model.get_layer(f"conv{name}")(x))

    def rise(x):
        return tf.maximum(x, 0.1 * x)

    y = conv_norm(rise(conv_norm(rise(conv_norm(y, "0_0")), "0_1")), "0_2") + conv_norm(x, "0_shortcut")
    y = tf.nn.max_pool2d(rise(y), 2, 2, "VALID")
    np.testing.assert_allclose(model(x), model.get_layer("dense")(tf.reduce_mean(y, [1, 2])), rtol=0, atol=1e-7)


def test_resnet12_refuses_pictures_too_small():
    with pytest.raises(UserError, match="resnet12 halves pictures 4 times"):
        resnet12((15, 28, 1), 5)


@pytest.mark.slow
def test_finite_differences(make_tasks, plus_learner, worst_deviation):
    learner = plus_learner(resnet12((8, 8, 1), 3, widths=(2, 3), dtype="float64"))
    assert worst_deviation(learner, make_tasks(tasks=1)) < 1e-6
