"""All tasks as one batch, and in one line what cannot be batched."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_mamlpp.errors import UserError


class _ConversionErrors(logging.Filter):
    """Keeps TensorFlow's reports of an operation that it cannot batch, hundreds of lines each, and notes the first."""

    first: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        found = re.search(r'while pfor was converting op name: "(.*)"\nop: "(.*)"', text)
        if found and not self.first:  # the innermost one: those that call it come after it
            self.first = f"{found[2]} ('{found[1]}')"
        return not found and "\ncreated at:\n" not in text


def batched_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """`tf.vectorized_map` without its loop for what it cannot batch.

    Args:
        function: of one element.
        elements: nested tensors with a leading axis.

    Raises:
        UserError: naming the operation that cannot be batched.

    Example:
        >>> batched_map(lambda x: x**2, tf.constant([1.0, 2.0])).numpy()
        array([1., 4.], dtype=float32)
        >>> batched_map(lambda x: tf.nn.conv2d(tf.ones((1, 2, 2, 1)), x, 1, "VALID"), tf.ones((2, 1, 1, 1, 1)))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: batched_tasks cannot batch operation Conv2D ('loop_body/Conv2D') of this model: ...
    """
    errors, logger = _ConversionErrors(), tf.get_logger()
    logger.addFilter(errors)
    try:
        return tf.vectorized_map(function, elements, fallback_to_while_loop=False)
    except ValueError as error:
        if isinstance(error, UserError) or not re.search("pfor|loop invariant", str(error)):
            raise
        # Of an operation that it does not know there is no report, but for that of the function which it is in.
        unknown = re.search(r'No pfor vectorization defined for (\w+)\s+name: "(.*)"', str(error))
        operation = f"{unknown[1]} ('{unknown[2]}')" if unknown else errors.first or "(TensorFlow does not say which)"
        raise UserError(f"batched_tasks cannot batch operation {operation} of this model: turn it off") from error
    finally:
        logger.removeFilter(errors)
