"""Tests a trained run on fixed tasks.

    tf-mamlpp evaluate --workdir=runs/quickstart --query_statistics=all
    tf-mamlpp evaluate --workdir=runs/quickstart --data=image_folder --data_path=DIR --output=report

A run is tested with its own config and on the same tasks each time.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.data.kinds import kind_of
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.meta.settings import QUERY_STATISTICS
from tf_mamlpp.text import results_table

flags = Flags()

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ["train", "validation", "test"],
    "Which classes the tasks are drawn from: test by default, and with --data all classes of that source.",
)
_TASKS = flags.DEFINE_integer("tasks", None, "How many; the run's setting by default.", lower_bound=1)
_STATISTICS = flags.DEFINE_list(
    "query_statistics", None, f"Any of {','.join(QUERY_STATISTICS)}, or 'all'; the run's setting by default."
)
_ENSEMBLE = flags.DEFINE_integer(
    "ensemble", None, "Best epochs to average; the run's setting by default.", lower_bound=1
)
_STEPS = flags.DEFINE_string(
    "inner_steps",
    None,
    "Inner steps; as many as trained by default. 'best': the number from 0 to three times those trained that is best "
    "on the run's validation tasks.",
)
_WAY = flags.DEFINE_integer(
    "way", None, "Classes a task; the run's by default, and others for a head of any number.", lower_bound=2
)
_SHOT = flags.DEFINE_integer("shot", None, "Support examples a class; the run's by default.", lower_bound=1)
_QUERY_SHOT = flags.DEFINE_integer("query_shot", None, "Query examples a class; the run's by default.", lower_bound=1)
_PERMUTATIONS = flags.DEFINE_integer(
    "label_permutations", None, "Rotations of the labels to average, 1 to the way; the run's setting by default."
)
_COPIES = flags.DEFINE_integer(
    "support_augmentations",
    0,
    "Changed copies of each support picture to adapt to beside it: moved, mirrored, recoloured as the run's "
    "config.augmentation says, or else as is usual (grey pictures are only moved).",
    lower_bound=0,
)
_DATA = flags.DEFINE_string(
    "data", None, "Another source than the run's own, as data.name takes it, such as image_folder; see --data_path."
)
_PATH = flags.DEFINE_string("data_path", None, "Where the data are, if they have moved since training, or of --data.")
_SPLIT_FILE = flags.DEFINE_string(
    "split_file", None, "Lists of the classes of each split: WORKDIR/classes.json keeps to the run's own."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the confusion matrix, the accuracy of each class and the hardest tasks."
)
_JSON = flags.DEFINE_bool("json", False, "Print the results as one JSON object on the last line.")


def main(overrides: list[str]) -> None:
    """Tests the run with each of the wanted query statistics."""
    if overrides:
        raise UserError(f"'{overrides[0]}': a run is evaluated with its own config")
    statistics, output = _checked_statistics(), Path(_OUTPUT.value) if _OUTPUT.value else None
    _check_flags()
    if output:
        with writing(output):  # before the test, which may take long
            output.mkdir(parents=True, exist_ok=True)
    from tf_mamlpp.runtime import configure

    configure()
    results = _evaluate(statistics, _report(output, len(statistics) > 1) if output else None)
    for result in results:
        print(results_table(result))
    if output:
        pictures = kind_of(results[0]["dataset"]).is_pictures
        told = "matrix, accuracy of each class and hardest tasks" if pictures else "matrix and accuracy of each class"
        print(f"confusion {told}: {output}")
    if _JSON.value:
        print(json.dumps(results[0] if len(results) == 1 else {"results": results}))


def _checked_statistics() -> list[str | None]:
    """The wanted query statistics; None are the run's own."""
    wanted = list(QUERY_STATISTICS) if _STATISTICS.value == ["all"] else _STATISTICS.value
    for choice in wanted or ():
        if choice not in QUERY_STATISTICS:
            raise UserError(f"--query_statistics takes {', '.join(QUERY_STATISTICS)} or all, not '{choice}'")
    return wanted or [None]


def _check_flags() -> None:
    steps = _STEPS.value
    if steps not in (None, "best") and not (steps.isascii() and steps.isdigit()):
        raise UserError(f"--inner_steps takes a whole number from 0 on, or best, not '{steps}'")
    if not Path(_WORKDIR.value).is_dir():
        raise UserError(f"workdir '{_WORKDIR.value}' not found: train a run there with tf-mamlpp train")


def _evaluate(statistics: list[str | None], report: Callable[..., None] | None) -> list[dict[str, Any]]:
    from tf_mamlpp.training.results import evaluate_run

    steps = _STEPS.value
    return evaluate_run(
        Path(_WORKDIR.value),
        statistics,
        data_name=_DATA.value,
        data_path=_PATH.value,
        split_file=_SPLIT_FILE.value,
        label_permutations=_PERMUTATIONS.value,
        split=_SPLIT.value,
        tasks=_TASKS.value,
        ensemble=_ENSEMBLE.value,
        inner_steps=int(steps) if steps and steps.isdigit() else steps,
        support_augmentations=_COPIES.value,
        task={flag.name: flag.value for flag in (_WAY, _SHOT, _QUERY_SHOT) if flag.value is not None},
        report=report,
    )


def _report(output: Path, each_apart: bool) -> Callable[..., None]:
    """What writes the report of one test; each in a folder of its own where there are several."""
    from tf_mamlpp.deploy.hardest_tasks import write_hardest_tasks
    from tf_mamlpp.training.answers import Answers
    from tf_mamlpp.training.class_report import write_class_report

    def write(result: dict[str, Any], answers: Answers) -> None:
        folder = output / result["query_statistics"] if each_apart else output
        write_class_report(answers, folder)
        if kind_of(result["dataset"]).is_pictures:
            write_hardest_tasks(answers, folder)

    return write
