"""A model of the user's own, called as it is, but with weights of the learner's."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.layers.per_step_batch_norm import row_of
from tf_mamlpp.layers.step_context import current_pass


class BorrowedModel(keras.Model):
    """The code of another model, whatever it is, with a copy of its weights.

    For models that cannot be copied layer by layer: subclassed ones, and those with layers that no config tells all of.
    The other model is never changed: in each call its variables stand for the values of these.  Its batch norms may
    have a row of weights and of moving statistics for each inner step (BNWB, BNRS) all the same: each pass gives them
    the row of its step.

    Args:
        model: built.
        inner_steps, per_step_weights, per_step_statistics: see `PerStepBatchNormalization`.

    Example:
        >>> class Net(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.norm, self.head = keras.layers.BatchNormalization(), keras.layers.Dense(2)
        ...
        ...     def call(self, x):
        ...         return self.head(self.norm(x))
        >>> net = Net()
        >>> _ = net(tf.zeros((1, 3)))
        >>> borrowed = BorrowedModel(net, inner_steps=5, per_step_weights=True)
        >>> [tuple(v.shape) for v in borrowed.trainable_variables]
        [(5, 3), (5, 3), (3, 2), (2,)]
    """

    def __init__(
        self,
        model: keras.Model,
        inner_steps: int,
        per_step_weights: bool = False,
        per_step_statistics: bool = False,
    ):
        super().__init__(name=model.name, dtype=model.dtype_policy)
        self.inner_steps = inner_steps
        tabled: set[int] = set()
        learnable: set[int] = set()  # frozen or not
        for layer in model._flatten_layers():
            learnable |= {id(v) for v in layer._trainable_variables}
            if isinstance(layer, keras.layers.BatchNormalization):
                tabled |= {id(v) for v in layer._trainable_variables if per_step_weights}
                tabled |= {id(v) for v in layer._non_trainable_variables if per_step_statistics}
        pairs = []
        for variable in model.variables:
            has_rows = id(variable) in tabled
            pairs.append((variable, self._own_variable(variable, id(variable) in learnable, has_rows), has_rows))
        # Keras does not look into a namespace: what it found there would be weights of this model too.
        self._lent = SimpleNamespace(model=model, pairs=pairs)
        self.built = True

    def _own_variable(self, variable: Any, is_learnable: bool, has_rows: bool) -> Any:
        own = self.add_weight(
            name=variable.name,
            shape=(self.inner_steps, *variable.shape) if has_rows else variable.shape,
            initializer="zeros",
            dtype=variable.dtype,
            trainable=is_learnable,
            autocast=False,
            aggregation=variable.aggregation,
        )
        own.trainable = variable.trainable
        own._path = variable.path  # by which weights are chosen and named
        own.assign(tf.broadcast_to(variable.value, own.shape))
        return own

    def call(self, *inputs: Any, training: bool = False) -> Any:
        model, pairs = self._lent.model, self._lent.pairs
        this_pass = current_pass.get()
        last = self.inner_steps - 1
        row = last if this_pass is None else tf.minimum(this_pass.step, last)
        given = [row_of(own, row, has_rows) for _, own, has_rows in pairs]
        scope = keras.StatelessScope(
            [(theirs, value) for (theirs, *_), value in zip(pairs, given, strict=True)], collect_losses=True
        )
        with scope:
            outputs = model(*inputs, **training_argument(model, training))
            losses = list(model.losses)
        for (theirs, own, has_rows), before in zip(pairs, given, strict=True):
            after = scope.get_current_value(theirs)
            if after is before or own.trainable:
                continue
            if has_rows:
                after = tf.tensor_scatter_nd_update(tf.convert_to_tensor(own), [[row]], after[tf.newaxis])
            own.assign(after)
        for loss in losses:
            self.add_loss(loss)
        return outputs

    @property
    def lender(self) -> keras.Model:
        """The other model."""
        return self._lent.model

    @property
    def pairs(self) -> list[tuple[Any, Any, bool]]:
        """Each of the other model's variables, in its order, the one that stands for it, and whether that has rows."""
        return list(self._lent.pairs)

    def own(self, variable: Any) -> Any:
        """The variable that stands for one of the other model's; any other as it is."""
        return next((own for theirs, own, _ in self._lent.pairs if theirs is variable), variable)

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> Iterator[keras.layers.Layer]:
        """The other model and its layers, to be looked at; their variables are not this model's, see `own`."""
        yield from self._lent.model._flatten_layers(True, recursive)

    @property
    def losses(self) -> list[Any]:
        return self._get_own_losses()  # of the last call; the other model's own may be of an earlier one

    @property
    def inputs(self) -> Any:
        return getattr(self._lent.model, "inputs", None)

    @property
    def outputs(self) -> Any:
        return getattr(self._lent.model, "outputs", None)

    @property
    def output_shape(self) -> Any:
        return getattr(self._lent.model, "output_shape", None)

    def get_build_config(self) -> Any:
        return self._lent.model.get_build_config()


def training_argument(model: keras.Model, training: bool) -> dict[str, bool]:
    """`training` as an argument of a model's call; nothing for one that has no such argument, as in Keras's `fit`.

    Example:
        >>> training_argument(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), True)
        {'training': True}
    """
    return {"training": training} if model._call_has_training_arg else {}
