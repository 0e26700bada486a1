"""What a model's second derivatives go through, looked at before anything is trained."""

from __future__ import annotations

from copy import copy

import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.proven import is_proven
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.model_checks import declared_inputs
from tf_mamlpp.meta.task import Task, Tensors


def check_second_derivatives(model: FunctionalModel, task: Task | None = None) -> None:
    """Refuses a model with a gradient of the support loss whose own derivative would be wrong.

    Traces one inner step, which takes as long as tracing does, and runs nothing.

    Args:
        model: of a learner of second order.
        task: tensors without the tasks axis.  None for the model's declared inputs, and a loss in place of the
            learner's, because labels are not known yet: the learner's own is looked at when training is traced.  To
            that is also left a model that declares no inputs or cannot be traced for any number of pictures.  Of one
            that consists of proven layers alone (`layers.proven`) nothing need be traced.

    Raises:
        UserError: naming the operation, its layer and the way out.

    Example:
        >>> import keras, tf_mamlpp as mp
        >>> images = keras.Input((4, 4, 1))
        >>> blurred = keras.layers.Lambda(tf.nn.lrn, name="blur")(keras.layers.Conv2D(2, 3)(images))
        >>> mp.MetaLearner(keras.Model(images, keras.layers.Flatten()(blurred), name="net"), way=8)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net': the second derivatives of operation '...' in layer 'blur' (Lambda) ...
    """
    if task is not None:
        _trace(model, task["support_images"], task["support_labels"])
        return
    inputs = declared_inputs(model.model)
    if inputs is None or is_proven(model.model):
        return
    model = copy(model)
    model.way, model.head = None, None
    model.loss = lambda labels, outputs: tf.reduce_sum(tf.square(outputs))
    try:
        _trace(model, inputs, tf.TensorSpec(()))
    except UserError:
        raise
    except Exception:  # a layer's own, about sizes that are not known yet: it may well be right in training
        return


def _trace(model: FunctionalModel, *support: tf.Tensor) -> None:
    def step(images: tf.Tensor, labels: tf.Tensor) -> Tensors:
        task = {"support_images": images, "support_labels": labels}
        start, state = model.begin(task, model.state, training=True)
        return model.step(
            model.fast(start), state, task, 0, start=start, second_order=True, checked=True, training=True, record=True
        )[0]

    specifications = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), support)
    tf.function(step, autograph=False).get_concrete_function(*specifications)
