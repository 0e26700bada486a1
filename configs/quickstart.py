"""The first run: learn to read new writing systems from one picture a letter, on two cores in about three minutes.

    python bin/train.py --config=configs/quickstart.py --workdir=runs/quickstart

Needs no download: `glyphs` are letters drawn from the fonts that come with matplotlib.
"""

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training, parse_argument
from tf_mamlpp.meta.settings import presets


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, method (maml, maml++, fomaml, anil, boil, meta-sgd, protonet), epochs, seed."""
    a = parse_argument(argument, way=5, shot=1, method="maml++", epochs=6, seed=0)
    return Config(
        seed=a.seed,
        data=Data(name="glyphs", way=a.way, shot=a.shot),
        model=Model(name="conv4", filters=32),
        learner=Learner(
            **presets[a.method],
            multi_step_loss_epochs=max(a.epochs // 2, 1),
            second_order_from_epoch=a.epochs // 2,
        ),
        training=Training(epochs=a.epochs, updates=100, tasks=8, checkpoint_updates=50),
        evaluation=Evaluation(validation_tasks=120, test_tasks=600, ensemble=min(3, a.epochs)),
    )
