"""What an example is to a run's model: told by the config, or by the training data and kept in the run's folder."""

from __future__ import annotations

from pathlib import Path

from tf_mamlpp.config import Config
from tf_mamlpp.data.array_format import ArrayFormat
from tf_mamlpp.data.input_format import InputFormat, read_format
from tf_mamlpp.data.kinds import PICTURES, SOUND
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import write_json
from tf_mamlpp.records.run_files import read_json

_NAME = "inputs.json"


def config_inputs(config: Config) -> InputFormat | None:
    """What an example is, as the config tells it; None where the data tell it.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> config_inputs(Config()).shape, config_inputs(Config(data=Data(name="arrays"))) is None
        ((28, 28, 1), True)
    """
    d = config.data
    if d.is_regression:
        return ArrayFormat((1,), "float32")
    if d.kind is PICTURES:
        return PictureFormat(d.image_size, d.channels, d.mean, d.std, d.resize)
    if d.kind is SOUND:
        return SoundFormat(d.sample_rate, d.seconds, d.window, d.hop, d.mel_bands)
    return None


def write_inputs(workdir: Path, inputs: InputFormat) -> None:
    """Keeps what an example is to a run that begins, where its config does not tell it.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> write_inputs(tmp_path, ArrayFormat((3,), "float32", mean=(0.0, 1.0, 2.0), std=(1.0, 1.0, 1.0)))
        >>> run_inputs(Config(data=Data(name="arrays")), tmp_path).mean
        (0.0, 1.0, 2.0)
    """
    if not inputs.kind.from_config:
        write_json(workdir / _NAME, {inputs.kind.name: inputs.describe()})


def kept_inputs(config: Config, workdir: Path) -> InputFormat:
    """What an example is to a run that has begun.

    Args:
        config, workdir: of the run.

    Raises:
        UserError: nothing tells it.

    Example:
        >>> from tf_mamlpp.config import Data
        >>> kept_inputs(Config(data=Data(name="arrays")), tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no inputs.json, which tells what its model takes: put it back
    """
    inputs = run_inputs(config, workdir)
    if inputs is None:
        raise UserError(f"'{workdir}' has no {_NAME}, which tells what its model takes: put it back")
    return inputs


def run_inputs(config: Config, workdir: Path) -> InputFormat | None:
    """What an example is to a run; None of one that has not begun, where its data will tell it.

    Args:
        config: of the run.
        workdir: of the run.

    Raises:
        UserError: the file is damaged.

    Example: see `write_inputs`.
        >>> run_inputs(Config(), tmp_path).dtype
        'float32'
    """
    inputs = config_inputs(config)
    if inputs is not None:
        return inputs
    found = read_json(workdir / _NAME)
    if found is None:
        return None
    try:
        return read_format(found)
    except UserError as error:
        raise UserError(f"'{workdir / _NAME}': {error}; without it nothing tells how inputs were scaled") from error
