"""Pictures of your own: a folder of class folders, or `train/ val/ test/` folders of them.

    tf-mamlpp train --config=image_folder:way=5,shot=1 --config.data.path=DIR --workdir=runs/mine

Pictures may differ in size, proportions and number, and be grey or RGB.  `--config.data.resize=crop` cuts the middle
out of oblong ones, which are stretched otherwise.  `--config.data.split_file=FILE.json` names the classes of each
split; without it, and without `train/ val/ test/`, they are divided at random.  docs/config.md has the rules.
MAML++, 64 filters, 5,000 updates of 4 tasks, of which the first half has first-order gradients.

Takes: about 5 hours and 1.9 GB of memory at 84x84 RGB, from ten updates of each kind on two cores that did other work
too: 4.1 s an update with the multi-step loss, 1.8 s in first order, 4.2 s in second order.  Pictures are decoded once:
199,375 of them took 61 s.
Expect: that depends on the pictures; `nearest_pixel` in `results.json` is what to compare with.  Omniglot's alphabets
as a folder had 94.67 ± 0.83 % (28x28 grey, configs/omniglot.py, 4,000 updates).
"""

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Training, parse_argument
from tf_mamlpp.data.pixel_defaults import IMAGENET_MEAN, IMAGENET_STD
from tf_mamlpp.meta.settings import methods


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, query_shot, size (pixels a side), channels, method, epochs, seed.

    The methods are maml, maml++, fomaml, anil, boil, meta-sgd, protonet.
    """
    a = parse_argument(argument, way=5, shot=1, query_shot=5, size=84, channels=3, method="maml++", epochs=20, seed=0)
    return Config(
        seed=a.seed,
        data=Data(
            name="image_folder",
            way=a.way,
            shot=a.shot,
            query_shot=a.query_shot,
            image_size=(a.size, a.size),
            channels=a.channels,
            mean=IMAGENET_MEAN if a.channels == 3 else (0.5,),
            std=IMAGENET_STD if a.channels == 3 else (0.5,),
        ),
        learner=Learner(
            **methods[a.method],
            inner_rate=0.05,
            multi_step_loss_epochs=max(a.epochs // 4, 1),
            second_order_from_epoch=a.epochs // 2,
            gradient_clip=10.0,
        ),
        training=Training(epochs=a.epochs, updates=250, tasks=4),
        evaluation=Evaluation(validation_tasks=200, ensemble=min(5, a.epochs)),
    )
