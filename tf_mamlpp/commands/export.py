"""Writes a trained run as a model that adapts and predicts without Keras and without this package.

    tf-mamlpp export --workdir=runs/quickstart --output=models/glyphs/1
    tf-mamlpp export --workdir=runs/quickstart --output=glyphs.tflite --format=tflite

A run is exported with its own config.
"""

import signal
import sys
from pathlib import Path
from typing import Any

from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import check_new
from tf_mamlpp.meta.settings import QUERY_STATISTICS
from tf_mamlpp.text import percent

flags = Flags()

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the SavedModel, or the .tflite file, to write.", required=True)
_FORMAT = flags.DEFINE_enum(
    "format", "saved_model", ["saved_model", "tflite"], "SavedModel, or one file for LiteRT on a device."
)
_STATISTICS = flags.DEFINE_enum(
    "query_statistics",
    "support",
    QUERY_STATISTICS,
    "What batch norm normalises query pictures with; 'support': a picture's prediction never depends on others.",
)
_STEPS = flags.DEFINE_integer("inner_steps", None, "Of adaptation; as many as trained by default.", lower_bound=1)
_TASKS = flags.DEFINE_integer(
    "tasks",
    None,
    "Test tasks to measure the accuracy on; the run's setting by default.  0 measures nothing, so that probabilities "
    "are not calibrated.",
    lower_bound=0,
)
_PATH = flags.DEFINE_string("data_path", None, "Where the data are, if they have moved since training.")
_SPLIT_FILE = flags.DEFINE_string(
    "split_file", None, "Lists of the classes of each split: WORKDIR/classes.json keeps to the run's own."
)


def _check_flags(workdir: Path, output: Path) -> None:
    if not workdir.is_dir():
        raise UserError(f"workdir '{workdir}' not found: train a run there with tf-mamlpp train")
    folder = _FORMAT.value == "saved_model"
    check_new(output, empty_folder=folder)
    if folder == (output.suffix == ".tflite"):
        raise UserError(f"--format={_FORMAT.value} does not write '{output}': a .tflite file takes --format=tflite")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"'{output}' cannot be written: {error.strerror}; choose another output") from error


def _print_notes(learner: dict[str, Any]) -> None:
    """Says how the exported model differs from the run's learner."""
    trained = learner["query_statistics"]
    if trained != _STATISTICS.value:
        print(
            f"note: trained with query statistics '{trained}', exported with '{_STATISTICS.value}'; "
            f"a run trained with --config.learner.query_statistics={_STATISTICS.value} is usually more accurate so"
        )
    permutations = learner["label_permutations"]
    if permutations > 1:
        print(f"note: the run's test averages {permutations} label permutations, the exported model does not")


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': a run is exported with its own config")
    workdir, output = Path(_WORKDIR.value), Path(_OUTPUT.value)
    _check_flags(workdir, output)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit deletes what is half written
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.deploy.export import export_run

    described = export_run(
        workdir,
        output,
        form=_FORMAT.value,
        inner_steps=_STEPS.value,
        query_statistics=_STATISTICS.value,
        tasks=_TASKS.value,
        data_path=_PATH.value,
        split_file=_SPLIT_FILE.value,
    )
    _print_notes(described["config"]["learner"])
    test, measured = described["test"], ""
    if test:
        accuracy = percent(test["accuracy"], test["confidence_95"])
        measured = f", {accuracy} on {test['tasks']} {test['way']}-way {test['shot']}-shot test tasks"
    print(f"'{output}': {described['way']}-way, {described['inner_steps']} inner steps{measured}")
