"""Evaluates a trained run on fixed tasks: python bin/evaluate.py --workdir=runs/quickstart"""

import json
from pathlib import Path

from absl import flags

from tf_mamlpp import cli
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import QUERY_STATISTICS
from tf_mamlpp.text import results_table

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "Which classes the tasks are drawn from.")
_TASKS = flags.DEFINE_integer("tasks", None, "How many; the run's setting by default.", lower_bound=1)
_STATISTICS = flags.DEFINE_list(
    "query_statistics", None, f"Any of {','.join(QUERY_STATISTICS)}, or 'all'; the run's setting by default."
)
_ENSEMBLE = flags.DEFINE_integer(
    "ensemble", None, "Best epochs to average; the run's setting by default.", lower_bound=1
)
_STEPS = flags.DEFINE_integer("inner_steps", None, "Inner steps; as many as trained by default.", lower_bound=0)
_WAY = flags.DEFINE_integer(
    "way", None, "Classes a task; the run's by default, and others for a head of any number.", lower_bound=2
)
_SHOT = flags.DEFINE_integer("shot", None, "Support pictures a class; the run's by default.", lower_bound=1)
_QUERY_SHOT = flags.DEFINE_integer("query_shot", None, "Query pictures a class; the run's by default.", lower_bound=1)
_PERMUTATIONS = flags.DEFINE_integer(
    "label_permutations", None, "Rotations of the labels to average, 1 to the way; the run's setting by default."
)
_PATH = flags.DEFINE_string("data_path", None, "Where the data are, if they have moved since training.")
_SPLIT_FILE = flags.DEFINE_string(
    "split_file", None, "Lists of the classes of each split: WORKDIR/classes.json keeps to the run's own."
)
_JSON = flags.DEFINE_bool("json", False, "Print the results as one JSON object on the last line.")


def main(overrides: list[str]) -> None:
    if overrides:
        raise UserError(f"'{overrides[0]}': a run is evaluated with its own config")
    wanted = list(QUERY_STATISTICS) if _STATISTICS.value == ["all"] else _STATISTICS.value
    for choice in wanted or ():
        if choice not in QUERY_STATISTICS:
            raise UserError(f"--query_statistics takes {', '.join(QUERY_STATISTICS)} or all, not '{choice}'")
    if not Path(_WORKDIR.value).is_dir():
        raise UserError(f"workdir '{_WORKDIR.value}' not found: train a run there with bin/train.py")
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.training.results import evaluate_run

    results = evaluate_run(
        Path(_WORKDIR.value),
        wanted or [None],
        data_path=_PATH.value,
        split_file=_SPLIT_FILE.value,
        label_permutations=_PERMUTATIONS.value,
        split=_SPLIT.value,
        tasks=_TASKS.value,
        ensemble=_ENSEMBLE.value,
        inner_steps=_STEPS.value,
        task={flag.name: flag.value for flag in (_WAY, _SHOT, _QUERY_SHOT) if flag.value is not None},
    )
    for result in results:
        print(results_table(result))
    if _JSON.value:
        print(json.dumps(results[0] if len(results) == 1 else {"results": results}))


if __name__ == "__main__":
    cli.run(main)
