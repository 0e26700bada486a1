"""The first run: learn to read new writing systems from one picture a letter.

    tf-mamlpp train --config=quickstart --workdir=runs/quickstart

`glyphs` are letters drawn from the fonts that come with matplotlib: no data is needed.  MAML++, 32 filters, 600
updates of 8 tasks, the first half with first-order gradients.

Takes: about three minutes in all, and 1.0 GB of memory, on two cores.
Expect: 86.4 ± 1.3 % (5-way 1-shot, best three epochs, 600 test tasks, seed 0).  An earlier run with sums in another
order had 87.6 ± 1.2 %.  Nearest pixel: 55.3 %.  Other methods: docs/results.md.
"""

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training, parse_argument
from tf_mamlpp.meta.settings import methods


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, method (maml, maml++, fomaml, anil, boil, meta-sgd, protonet), epochs, seed."""
    a = parse_argument(argument, way=5, shot=1, method="maml++", epochs=6, seed=0)
    return Config(
        seed=a.seed,
        data=Data(name="glyphs", way=a.way, shot=a.shot),
        model=Model(name="conv4", filters=32),
        learner=Learner(
            **methods[a.method],
            multi_step_loss_epochs=max(a.epochs // 2, 1),
            second_order_from_epoch=a.epochs // 2,
        ),
        training=Training(epochs=a.epochs, updates=100, tasks=8, checkpoint_updates=50),
        evaluation=Evaluation(validation_tasks=120, test_tasks=600, ensemble=min(3, a.epochs)),
    )
