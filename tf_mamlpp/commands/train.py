"""Meta-trains a model, or goes on with a run.

    tf-mamlpp train --config=quickstart --workdir=runs/quickstart
    tf-mamlpp train --config=omniglot:way=20,shot=1 --config.data.path=DIR --workdir=runs/omniglot

`--config.SECTION.KEY=VALUE` overrides any setting of the config.
"""

from pathlib import Path

from tf_mamlpp import config
from tf_mamlpp.commands.flags import Flags
from tf_mamlpp.text import results_table

flags = Flags()

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    f"CONFIG[:key=value,...]: one of {', '.join(config.names())}, or a Python file with get_config(argument); "
    "minutes=N plans its epochs.",
    required=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; one that holds this run resumes.", required=True)


def main(overrides: list[str]) -> None:
    flag, minutes = config.take_minutes(_CONFIG.value)
    chosen = config.load(flag, overrides)
    # TensorFlow takes seconds to load: mistakes in the config show before.
    from tf_mamlpp.runtime import configure

    configure()
    from tf_mamlpp.training import budget
    from tf_mamlpp.training.train import train_and_evaluate

    if minutes:
        chosen = budget.within(minutes, flag, overrides, Path(_WORKDIR.value))
    print(results_table(train_and_evaluate(chosen, Path(_WORKDIR.value))))
