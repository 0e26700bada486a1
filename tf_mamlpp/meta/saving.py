"""A learner as one `.keras` file: what it was made from, how it was compiled, and how far its schedules are."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import keras

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import Learner

_PROGRESS = ("outer_rate", "epochs_done", "annealing_epochs", "rate_factor")


class SavedWhole(keras.Model):
    """What Keras's `save`, `load_model`, `clone_model` and `ModelCheckpoint` ask of a model of one's own.

    `task_trainer.TaskTrainer` is its subclass.  The file holds the model that is meta-trained with its exact layers,
    every setting, loss and metric, the weights, and of a compiled learner the optimizer with its state and the
    schedules' progress: training goes on as if it had not been interrupted.  As in Keras, a function of one's own (a
    loss, a metric, `adapted`) or a layer of one's own has to be registered, or given as `custom_objects`.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2, **mp.presets["maml++"])
        >>> learner.compile(keras.optimizers.Adam(1e-3))
        >>> learner.save(tmp_path / "learner.keras")
        >>> loaded = keras.models.load_model(tmp_path / "learner.keras")
        >>> loaded.settings == learner.settings, type(loaded.optimizer).__name__
        (True, 'Adam')
    """

    model: keras.Model
    settings: Learner
    epochs_done: int
    _setting_names: Sequence[str] = tuple(field.name for field in fields(Learner))
    _arguments: SimpleNamespace

    def _keep_arguments(self, **arguments: Any) -> None:
        """Notes, for `get_config`, what the constructor was given beside model, name and settings."""
        self._arguments = SimpleNamespace(**arguments)  # Keras would track a dict, and save the state of a metric in it

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; `model` is the one that is meta-trained, with its exact layers."""
        settings = {name: getattr(self.settings, name) for name in self._setting_names}
        given = {"name": self.name, **vars(self._arguments), **settings}
        paths = [v.path for v in self.model.variables]
        return {"model": keras.saving.serialize_keras_object(self.model), "paths": paths, **_serialised(given)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
        arguments = _deserialised(config, custom_objects)
        model, paths = arguments.pop("model"), arguments.pop("paths")
        if len(model.variables) == len(paths):  # else it is not built, which the constructor tells
            for variable, path in zip(model.variables, paths, strict=True):
                # Keras makes other paths when it loads a nested model, and `adapted` looks for its expression in them.
                variable._path = path
        return cls(model=cls._whole_model(model), **arguments)

    @classmethod
    def _whole_model(cls, model: keras.Model) -> keras.Model:
        """The model that the constructor takes, from the one that the learner trains."""
        return model

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of `compile`, and the schedules' progress."""
        config = super().get_compile_config()
        return {**config, "progress": {name: getattr(self, name) for name in _PROGRESS}} if config else config

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        arguments = _deserialised(config)
        progress = arguments.pop("progress")
        self.compile(**arguments)
        for name in _PROGRESS:
            setattr(self, name, progress[name])
        if self.epochs_done:
            self.set_epoch(self.epochs_done - 1)

    def export(self, filepath: Any, **options: Any) -> dict[str, Any]:
        """`tf_mamlpp.export` of this learner: a SavedModel that adapts and predicts."""
        import tf_mamlpp  # by its public name: `deploy` stands above this room

        return tf_mamlpp.export(self, filepath, **options)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> bool:
        """See `outer_loop.EpisodicModel`."""
        raise NotImplementedError


def _serialised(arguments: Mapping[str, Any]) -> dict[str, Any]:
    serialised = {}
    for name, value in arguments.items():
        try:
            serialised[name] = keras.saving.serialize_keras_object(value)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{name}={value!r} cannot be saved: give an object of Keras or a function that is registered with "
                "keras.saving.register_keras_serializable"
            ) from error
        if kwargs := getattr(value, "_fn_kwargs", None):
            # Keras's own config leaves some out, such as the delta of Huber and the axis of CosineSimilarity.
            taken = inspect.signature(type(value)).parameters
            lost = {key: kwargs[key] for key in kwargs if key in taken}
            serialised[name]["config"] = {**lost, **serialised[name]["config"]}
    return serialised


def _deserialised(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
        for name, value in config.items()
    }
