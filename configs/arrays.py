"""Numbers of your own: tables, series, features, tokens, in an `.npz` file or a folder of `.npy` files.

    tf-mamlpp train --config=arrays:way=5,shot=1 --config.data.path=FILE --workdir=runs/mine

The arrays are `inputs` `[examples, ...]` and `labels` `[examples]`, or one array for each class.  Each feature is
brought to mean 0 and deviation 1 over the training classes; whole numbers stay, and need a network that embeds them.
`model=MODULE:FUNCTION` names a network of your own; docs/arrays.md has the rules and an example of each.
MAML++ on a small fully connected network, 2,000 updates of 8 tasks, of which the first half has first-order gradients.

Takes: that depends on the network; a small 1-D convolutional one on series of 64 points took 590 s of CPU time and
1.0 GB.
Expect: that depends on the data; `nearest_example` in `results.json` is what to compare with.  These series (two tones
in any phase, docs/arrays.md) had 91.41 ± 0.79 %, and the nearest series 34.36 ± 0.72 %.
"""

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training, parse_argument
from tf_mamlpp.meta.settings import methods


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, query_shot, model, method, epochs, seed.

    The methods are maml, maml++, fomaml, anil, boil, meta-sgd, protonet.
    """
    a = parse_argument(argument, way=5, shot=1, query_shot=5, model="mlp", method="maml++", epochs=10, seed=0)
    return Config(
        seed=a.seed,
        data=Data(name="arrays", way=a.way, shot=a.shot, query_shot=a.query_shot),
        model=Model(name=a.model),
        learner=Learner(
            **methods[a.method],
            inner_rate=0.05,
            multi_step_loss_epochs=max(a.epochs // 4, 1),
            second_order_from_epoch=a.epochs // 2,
            gradient_clip=10.0,
        ),
        training=Training(epochs=a.epochs, updates=200, tasks=8),
        evaluation=Evaluation(validation_tasks=200, ensemble=min(5, a.epochs)),
    )
