"""`MetaLearner`: MAML and MAML++ around any Keras model."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.batch_norms import per_step_drift
from tf_mamlpp.layers.borrowed_model import training_argument
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.copying import copied
from tf_mamlpp.layers.inexact import check_layers
from tf_mamlpp.layers.stock import stock_copy
from tf_mamlpp.meta.adaptation import Adaptation, Adapted
from tf_mamlpp.meta.adapted_weights import adapted_variables, head_positions
from tf_mamlpp.meta.construction_check import check_second_derivatives
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.heads import Head
from tf_mamlpp.meta.label_permutations import mean_over_rotations
from tf_mamlpp.meta.learned_rates import LearnedRates
from tf_mamlpp.meta.model_checks import check_built, check_one_dtype, check_one_output, check_width
from tf_mamlpp.meta.multi_step_loss import loss_weights, task_loss
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.output_kind import OutputKind, output_kind
from tf_mamlpp.meta.schedules import Phase, phase_of
from tf_mamlpp.meta.settings import Learner
from tf_mamlpp.meta.task import Loss, Task, Tensors, no_loss


@keras.saving.register_keras_serializable("tf_mamlpp")
class MetaLearner(EpisodicModel):
    """Meta-trains a Keras model so that a few gradient steps on a small support set teach it a new task.

    A `keras.Model`: `compile(optimizer, loss=..., metrics=[...])`, `fit(episodes, ...)`, `evaluate(episodes)`,
    `predict(episodes)` and callbacks work as usual, under `tf.distribute` too.  One element of the data is a meta-batch
    of tasks, a dict of `support_x` `[tasks, S, ...]`, `support_y` `[tasks, S]`, `query_x` `[tasks, Q, ...]` and
    `query_y` `[tasks, Q]`, or with the names that `tf_mamlpp.episodes` gives them, `support_images`,
    `support_labels`, `query_images` and `query_labels`.  Inputs may be dicts and tuples of tensors.

    The six modifications of "How to train your MAML" (section 4) are switches, all off by default, which is
    MAML; `presets` names the usual combinations: `MetaLearner(model, way=5, **presets["maml++"])`.

    Args:
        model: maps images `[B, ...]` to logits or probabilities (a last softmax) `[B, way]`; Sequential, functional or
            subclassed, and built.
            A copy is learned, `self.model`, with stock normalisation layers converted (see `convert_normalization`);
            inside layers and models of your own they compute exactly as they are.  A model that Keras cannot copy
            lends its code; its own weights stay as they are.
            Layers whose `trainable` is False stay frozen: neither loop changes them.  Its regularisers, activity
            regularisers and `add_loss` are added to the loss of every inner step and to every query loss.
        way: classes of a task, checked against the model's output; None for regression.
        loss: of both loops, unless `compile` is given one; `(labels, outputs) -> [B]` or scalar, a Keras loss or its
            name; None for cross-entropy.  The name of a cross-entropy takes logits or probabilities, as the model gives
            them; a loss with a `from_logits` of its own has to agree with the model (`output_kind.output_kind`).
        metric: `(labels, outputs) -> [B]`, a Keras metric or its name; None for accuracy, or the loss of a regression.
            It measures each task by itself, and the mean over tasks is reported.
        name: of the Keras model.
        **settings: the fields of `settings.Learner`, which explains them: `inner_steps`, `inner_rate`; the six
            modifications `multi_step_loss`, `derivative_order_annealing`, `per_step_statistics`, `per_step_weights`,
            `learned_rates`, `cosine_annealing`, with `multi_step_loss_epochs`, `second_order_from_epoch` and
            `minimum_rate`; `elementwise_rates`, `first_order`, `adapted`, `head`, `label_permutations`,
            `query_statistics`, `evaluation_statistics`, `gradient_clip`, `parallel_tasks`, `batched_tasks`,
            `rematerialise`.  They are kept as the attribute `settings`, which is frozen: to change one, make another
            learner.

    Raises:
        UserError: a setting that is unknown or contradicts another, a model that does not fit, or, but in first order,
            an operation in it whose second derivative TensorFlow does not have right.

    Example:
        >>> import numpy as np, tf_mamlpp as mp
        >>> model = mp.conv4((28, 28, 1), way=3, filters=4)
        >>> learner = mp.MetaLearner(model, way=3, inner_steps=2, **mp.presets["maml++"])
        >>> pictures = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype("float32")
        >>> adapted = learner.adapt(pictures, [0, 1, 2])
        >>> learner.predict_adapted(adapted, pictures[:1]).shape
        TensorShape([1, 3])

    References:
        Antoniou, Edwards, Storkey, "How to train your MAML", arXiv 1810.09502.
        Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning", arXiv 1703.03400.
        Raghu et al., "Rapid Learning or Feature Reuse?" (ANIL), arXiv 1909.09157.
        Oh et al., "BOIL: Towards Representation Change for Few-shot Learning", arXiv 2008.08882.
        Li et al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", arXiv 1707.09835.
        Ye, Chao, "How to Train Your MAML to Excel in Few-Shot Classification" (UNICORN-MAML, label permutations),
            arXiv 2106.16245.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        way: int | None = None,
        loss: str | Loss | None = None,
        metric: str | Loss | None = None,
        name: str = "meta_learner",
        **settings: Any,
    ):
        chosen = Learner.of(settings)
        if chosen.prototypes:
            raise UserError("prototypes has no inner loop: use PrototypicalNetworks in place of MetaLearner")
        super().__init__(chosen, way=way, inner_steps=chosen.inner_steps, name=name)
        self._keep_arguments(way=way, loss=loss, metric=metric)
        converted = convert_normalization(
            model, chosen.inner_steps, chosen.per_step_weights, chosen.per_step_statistics, chosen.batched_tasks
        )
        check_built(converted)
        self.model = copied(model) if converted is model else converted  # once: Keras tracks what is assigned
        check_one_output(self.model)
        check_one_dtype(self.model)
        if not chosen.first_order:
            check_layers(self.model)
        shape = getattr(self.model, "output_shape", None)
        if isinstance(shape, tuple):
            check_width(self.model, shape[-1], way)
        weights = self.model.trainable_variables
        dtype = weights[0].dtype
        adapted = adapted_variables(self.model, chosen.adapted)
        self.adapted_paths = [weights[i].path for i in adapted]
        self.inner_rates = self._make_rates([weights[i].shape for i in adapted], dtype)
        self.loss_weights = self.add_weight(
            name="loss_weights", shape=(self.inner_steps,), trainable=False, dtype=dtype, aggregation="mean"
        )
        head = self._make_head(adapted, way)
        functional = FunctionalModel(self.model, adapted, self.inner_rates, no_loss, way, head)
        self.any_way = functional.any_way
        if not chosen.first_order:
            check_second_derivatives(functional)
        self._looked_through = chosen.first_order
        self._phase: Phase | None = None
        self._finish(functional, loss, metric)

    def _make_head(self, adapted: list[int], way: int | None) -> Head | None:
        if self.settings.head == "learned" or way is None:
            return None
        positions = head_positions(self.model, adapted, way, self.settings.head)
        return Head(self.model, self.settings.head, positions, self.settings.temperature)

    def _agreement(self, loss: str | Loss | None) -> tuple[OutputKind, str | Loss]:
        kind, agreed = output_kind(self.model, loss, self.way)
        if kind.independent and self.settings.label_permutations > 1:
            raise UserError("label_permutations needs one class a row: the loss takes a yes or no for each output")
        return kind, agreed

    def _decide(self, loss: str | Loss | None, metrics: Any, may_wait: bool = False) -> None:
        super()._decide(loss, metrics, may_wait)
        self.functional_model.one_hot = self.output_kind.one_hot
        self._adaptation = Adaptation(self.functional_model, self.output_kind)

    def _make_rates(self, shapes: list[Any], dtype: str) -> LearnedRates:
        learned, elementwise = self.settings.learned_rates, self.settings.elementwise_rates
        return LearnedRates(
            len(shapes),
            self.inner_steps if learned or not elementwise else 1,
            self.settings.inner_rate,
            learned or elementwise,
            shapes if elementwise else None,
            name="inner_rates",
            dtype=dtype,
        )

    # --- What changes between epochs ---------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Derivative order and losses of this epoch."""
        assert self._phase is not None  # `set_epoch` came before
        return self._phase

    def set_epoch(self, epoch: int) -> bool:
        counting = self.settings.multi_step_loss_epochs if self.settings.multi_step_loss else 0
        self.loss_weights.assign(loss_weights(epoch, self.inner_steps, counting))
        before, self._phase = self._phase, phase_of(epoch, self.settings)
        return self._phase != before

    def epoch_record(self) -> dict[str, Any]:
        rates = self.inner_rates.table.numpy()
        means = self.inner_rates.means().numpy()
        return {
            "second_order": self.phase.second_order,
            "loss_weights": self.loss_weights.numpy().tolist(),
            "inner_rate_minimum": float(rates.min()),
            "inner_rate_maximum": float(rates.max()),
            "inner_rates": {
                self._short(path): row.tolist() for path, row in zip(self.adapted_paths, means, strict=True)
            },
            "batch_norm_drift": {self._short(path): row.tolist() for path, row in per_step_drift(self.model)},
        }

    def _short(self, path: str) -> str:
        """A variable's path without the model's name, which those of a functional model do not have."""
        return path.removeprefix(f"{self.model.name}/")

    # --- One task ------------------------------------------------------------------------------------

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        start, state, head = self.functional_model.start, self.functional_model.state, self.functional_model.head
        if head is not None and head.kind == "shared":
            for i in head.positions:  # of which variables hold more than is used
                start[i] = tf.repeat(start[i][..., :1], start[i].shape[-1], -1)
        outputs, state = self.model.stateless_call(start, state, images, **training_argument(self.model, training))
        if training:
            for variable, value in zip(self.model.non_trainable_variables, state, strict=True):
                variable.assign(value)
        return outputs

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, list[tf.Tensor]]:
        if not self._looked_through and not tf.inside_function():  # eagerly there is no graph to look through
            check_second_derivatives(self.functional_model, task)
            self._looked_through = True
        total, state, loss, outputs = task_loss(
            self.functional_model,
            task,
            state,
            settings=self.settings,
            phase=self.phase,
            weights=self.loss_weights,
            scale=self.loss_scale,
        )
        return total, state, loss, self.reading.measure(task["query_labels"], outputs)

    def task_curve(self, task: Task, steps: int, statistics: str) -> tuple[tf.Tensor, tf.Tensor | None]:
        model = self.functional_model
        passes = []

        def query(fast: Tensors, state: Tensors, k: int) -> Tensors:
            passes.append(model.query_outputs(fast, state, task, k, statistics=statistics, training=False))
            return state

        start, state = model.begin(task, model.state)
        fast = model.fast(start)
        query(fast, state, 0)
        model.adapt(task, state, steps, after_step=query, fast=fast)
        return tf.stack([outputs for outputs, _, _ in passes]), passes[-1][-1]

    def task_predictions(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        """`task_curve`, or one of the same kind with its probabilities averaged over `label_permutations`."""
        permutations = self.settings.label_permutations

        def curve(labels: tf.Tensor) -> tf.Tensor:
            return self.task_curve({**task, "support_labels": labels}, steps, statistics)[0]

        if permutations == 1 or self.way is None:
            return curve(task["support_labels"])
        return mean_over_rotations(curve, task["support_labels"], permutations, self.way, self.output_kind, self._float)

    # --- Use ------------------------------------------------------------------------------------------

    def adapt(
        self,
        support_images: Any,
        support_labels: Any,
        inner_steps: int | None = None,
        query_statistics: str = "support",
    ) -> Adapted:
        """Learns one task from its support set; see the class's example.

        Args:
            support_images: `[S, ...]`, prepared as in training; of several inputs a dict or tuple of such.
            support_labels: `[S]`, or as the loss takes them.
            inner_steps: None for as many as trained.
            query_statistics: what `predict_adapted` normalises with: `support` (a prediction never depends on its
                neighbours), `running`, or `batch`.

        Returns:
            What `predict_adapted` needs.
        """
        steps, statistics = self._use(inner_steps, query_statistics)
        labels = tf.convert_to_tensor(support_labels)
        self.reading.labels.check_support(labels)
        return self._adaptation.adapt(support_images, labels, steps, statistics)

    def predict_adapted(self, adapted: Adapted, images: Any) -> tf.Tensor:
        """Predicts under what `adapt` learned; see the class's example.

        Args:
            adapted: what `adapt` returned.
            images: `[Q, ...]`, prepared as in training; of several inputs as for `adapt`.

        Returns:
            Probabilities `[Q, way]`; of a regression its outputs.
        """
        return self._adaptation.predict(adapted, images)

    def adapted_model(self, adapted: Adapted) -> keras.Model:
        """What `adapt` learned as a `keras.Model` of its own, to predict with, to train further, or to save.

        Args:
            adapted: what `adapt` returned.

        Returns:
            A copy of the model that was given to the learner, with stock layers and the adapted weights.  It gives what
            that model gives, such as logits, where `predict_adapted` gives probabilities.

        Raises:
            UserError: `query_statistics` is `batch`, which a stock batch norm does not do in `predict`; or the model
                cannot be copied.

        Example:
            >>> import numpy as np, tf_mamlpp as mp
            >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2)
            >>> pictures = np.zeros((3, 8, 8, 1), "float32")
            >>> model = learner.adapted_model(learner.adapt(pictures, [0, 1, 2]))
            >>> model.save(tmp_path / "three_classes.keras")
            >>> model.predict(pictures, verbose=0).shape
            (3, 3)
        """
        if adapted.query_statistics == "batch":
            raise UserError(
                "query_statistics='batch' normalises the pictures of a call by each other, which a model of its own "
                "does not: adapt with 'support' or 'running'"
            )
        return stock_copy(self.model, adapted.weights, adapted.state, adapted.row)
