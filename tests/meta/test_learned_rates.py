"""The table of rates and the inner update."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.inner_loop import descend
from tf_mamlpp.meta.learned_rates import LearnedRates


@pytest.mark.parametrize("learned", [True, False])
def test_the_outer_loop_trains_the_table_or_not(learned):
    rates = LearnedRates(3, 2, 0.25, learned)
    np.testing.assert_array_equal(rates.table.numpy(), np.full((3, 2), 0.25))
    assert len(rates.trainable_variables) == learned
    assert len(rates.variables) == 1


def test_a_float64_rate_is_not_rounded():
    assert LearnedRates(1, 1, 0.1, dtype="float64").table.numpy() == 0.1


@pytest.mark.parametrize(("step", "column"), [(0, 0), (1, 1), (2, 1), (9, 1)])
def test_steps_past_the_table_take_its_last_column(step, column):
    rates = LearnedRates(3, 2, 0.0)
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    rates.table.assign(table)
    np.testing.assert_array_equal(rates.at(step), table[:, column])


def test_a_rate_for_each_weight_of_each_tensor():
    rates = LearnedRates(2, 1, 0.5, shapes=[(2, 3), (3,)])
    table = np.arange(9, dtype=np.float32)[:, None]
    rates.table.assign(table)
    for step in (0, 4):
        kernel, bias = rates.at(step)
        np.testing.assert_array_equal(kernel, [[0, 1, 2], [3, 4, 5]])
        np.testing.assert_array_equal(bias, [6, 7, 8])
    np.testing.assert_array_equal(rates.means(), [[2.5], [7.0]])


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_step_may_be_a_tensor_and_the_table_another(step):
    rates, table = LearnedRates(3, 2, 0.0), tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    np.testing.assert_array_equal(rates.at(tf.constant(step), table), table[:, min(step, 1)])


def test_descend_scales_each_tensor_by_its_own_rate():
    weights = [tf.constant([1.0, 2.0]), tf.constant([[3.0]])]
    gradients = [tf.constant([10.0, 20.0]), tf.constant([[30.0]])]
    new = descend(weights, [tf.constant(0.1), tf.constant(-0.5)], gradients)
    np.testing.assert_allclose(new[0], [0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(new[1], [[18.0]])


def test_descend_refuses_lists_of_other_lengths():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        descend([tf.constant(1.0)], [], [tf.constant(1.0)])
