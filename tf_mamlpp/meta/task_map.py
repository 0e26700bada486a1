"""A function of each task, one after the other or a few at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def task_map(function: Callable[[Any], Any], elements: Any, signature: Any, at_once: int | None = None) -> Any:
    """`tf.map_fn`, which leaves nothing behind when `function` raises an error.

    While it traces, `tf.map_fn` gives the variable scope of the program a caching device, and after an error it never
    takes it back: from then on no variable can be made under a distribution strategy in the process.

    Args:
        function: of one element.
        elements: nested tensors with a leading axis.
        signature: nested `tf.TensorSpec` of what the function returns.
        at_once: how many elements may be computed at once; None for TensorFlow's own number.

    Example:
        >>> task_map(lambda x: x**2, tf.constant([1.0, 2.0, 3.0]), tf.TensorSpec((), tf.float32)).numpy()
        array([1., 4., 9.], dtype=float32)
    """
    scope = tf.compat.v1.get_variable_scope()
    before = scope.caching_device
    try:
        return tf.map_fn(function, elements, parallel_iterations=at_once, fn_output_signature=signature)
    except BaseException:
        if not tf.executing_eagerly():
            scope.set_caching_device(before)
        raise
