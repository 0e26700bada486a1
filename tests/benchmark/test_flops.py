import pytest
import tensorflow as tf

from tf_mamlpp.benchmark.flops import count_gflop

TASKS = {"support_labels": tf.zeros((3, 2), tf.int32), "x": tf.ones((3, 4, 8, 6, 2))}


class Learner:
    """Whose meta-gradient is any function of its tasks."""

    def __init__(self, function):
        self.meta_gradient = lambda tasks: (function(tasks["x"]),)


def gflop(function):
    return count_gflop(Learner(function), TASKS)


def test_a_convolution_and_its_two_gradients_cost_the_same():
    kernel = tf.ones((3, 3, 2, 5))
    pass_gflop = 3 * 2 * (3 * 3 * 2 * 5) * (4 * 8 * 6) / 1e9

    def output(x):
        return tf.nn.conv2d(x[0], kernel, 1, "SAME")

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = output(x) ** 2
        return tape.gradient(y, [x, kernel])

    assert gflop(output) == pytest.approx(pass_gflop)
    assert gflop(gradients) == pytest.approx(3 * pass_gflop)


@pytest.mark.parametrize("transpose", [False, True])
def test_matmuls_count_two_for_each_product(transpose):
    matrix = tf.ones((7, 5) if transpose else (5, 7))
    right = tf.ones((7, 11))
    assert gflop(lambda x: tf.matmul(matrix, right, transpose_a=transpose)) == pytest.approx(3 * 2 * 5 * 7 * 11 / 1e9)
    left, right = tf.ones((4, 7, 5) if transpose else (4, 5, 7)), tf.ones((4, 7, 11))
    many = gflop(lambda x: tf.matmul(left, right, transpose_a=transpose))
    assert many == pytest.approx(3 * 4 * 2 * 5 * 7 * 11 / 1e9)


def test_only_what_the_gradient_needs_counts():
    matrix = tf.ones((5, 5))

    def wasteful(x):
        tf.matmul(matrix, matrix)
        return matrix @ tf.ones((5, 1))

    assert gflop(wasteful) == pytest.approx(3 * 2 * 25 / 1e9)


def test_looks_into_a_map_over_tasks():
    mapped = gflop(lambda x: tf.map_fn(lambda one: tf.ones((5, 5)) @ tf.ones((5, 5)), x))
    assert mapped == pytest.approx(3 * 2 * 125 / 1e9)


def test_every_call_of_a_function_counts_for_what_it_is_used():
    @tf.function
    def called(n):
        return tf.ones((n, n)) @ tf.ones((n, n)), tf.ones((7, 7)) @ tf.ones((7, 7))

    assert gflop(lambda x: called(5)[0] + called(5)[0]) == pytest.approx(3 * 2 * 2 * 125 / 1e9)
    assert gflop(lambda x: called(5)) == pytest.approx(3 * 2 * (125 + 343) / 1e9)
