"""Recurrent layers in the passes whose gradients are differentiated again."""

import keras
import pytest

from tf_mamlpp.layers.recurrence import plain_recurrences
from tf_mamlpp.meta.meta_learner import MetaLearner

layers = keras.layers


class Watched(layers.LSTM):
    """Notes with what setting it is called."""

    settings: list = []

    def call(self, sequences, initial_state=None, mask=None, training=False):
        self.settings.append(self.use_cudnn)
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)


@pytest.mark.slow_cases("False-expected0")
@pytest.mark.parametrize(("first_order", "expected"), [(False, {False, "auto"}), (True, {"auto"})])
def test_cudnn_is_left_out_of_support_passes_of_second_order_alone(make_tasks, first_order, expected):
    recurrent = Watched(2)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Reshape((8, 8)), recurrent, layers.Dense(3)])
    Watched.settings.clear()
    learner = MetaLearner(model, way=3, inner_steps=1, first_order=first_order)
    learner.meta_gradient(make_tasks(dtype="float32"))
    assert set(Watched.settings) == expected and recurrent.use_cudnn == "auto"


def test_it_reaches_layers_inside_of_others_and_ends_with_an_error():
    inner = layers.GRU(2)
    model = keras.Sequential([keras.Input((4, 2)), layers.Bidirectional(inner)])
    inside = [layer for layer in model._flatten_layers() if isinstance(layer, layers.GRU)]
    with pytest.raises(KeyError), plain_recurrences(model):
        assert [layer.use_cudnn for layer in inside] == [False] * len(inside) and len(inside) >= 2
        raise KeyError
    assert {layer.use_cudnn for layer in inside} == {"auto"}
