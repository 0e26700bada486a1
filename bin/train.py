"""Meta-trains a model, or resumes: python bin/train.py --config=configs/quickstart.py --workdir=runs/quickstart"""

from pathlib import Path

from absl import flags

from tf_mamlpp import cli, config
from tf_mamlpp.text import results_table

_CONFIG = flags.DEFINE_string(
    "config", None, "FILE[:key=value,...], a file with get_config(arg); minutes=N plans its epochs.", required=True
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


if __name__ == "__main__":
    cli.run(main)
