"""A whole run in under a minute, for tests of resume, export and the command line: glyphs, a small network.

    tf-mamlpp train --config=testing --workdir=runs/testing

MAML++, 8 filters, 2 inner steps, 180 updates of 4 tasks, a checkpoint every 5 updates.  No data is needed.

Takes: about 35 s in all, and 1.0 GB of memory, on two cores.
Expect: 45 ± 4.5 % (5-way 1-shot, best two epochs, 96 test tasks, seed 0).  That is less than the 53 % of the nearest
pixel: the run is far too short to learn.
"""

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training, parse_argument
from tf_mamlpp.meta.settings import methods


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, method (maml, maml++, fomaml, anil, boil, meta-sgd, protonet), epochs, seed."""
    a = parse_argument(argument, way=5, shot=1, method="maml++", epochs=3, seed=0)
    return Config(
        seed=a.seed,
        data=Data(name="glyphs", way=a.way, shot=a.shot),
        model=Model(name="conv4", filters=8),
        learner=Learner(
            **methods[a.method],
            inner_steps=2,
            multi_step_loss_epochs=max(a.epochs - 1, 1),
            second_order_from_epoch=1,
        ),
        training=Training(epochs=a.epochs, updates=60, tasks=4, checkpoint_updates=5),
        evaluation=Evaluation(validation_tasks=48, test_tasks=96, ensemble=min(2, a.epochs)),
    )
