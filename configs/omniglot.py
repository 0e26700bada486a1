"""Omniglot, N-way K-shot: 1150/50/423 classes, 64 filters, 5 inner steps of rate 0.1 (paper, section 5).

    tf-mamlpp train --config=omniglot:way=5,shot=1 --config.data.path=DIR --workdir=runs/omniglot

DIR holds `images_background.zip` and `images_evaluation.zip`, or the folders unpacked from them.
The paper takes 16 tasks an update and 150 epochs of 500.  Here are 8 tasks and `epochs=` of 250 (24 by default: 6,000
updates), of which the first half has first-order gradients: the better use of an hour or two on two cores.

Takes: 5-way 1-shot took 45 minutes on two cores that did other work too (idle ones: about 25), and takes about 1 GB of
memory.  A 20-way update takes nearly four times as long as a 5-way one.
Expect: 5-way 1-shot 98.83 ± 0.43 % (best five epochs, 600 test tasks, seed 0).  20-way 1-shot with `epochs=6` had
90.47 ± 0.52 % (best epoch) when it was stopped after an hour, at update 1,250 of 1,500, far from converged.
The paper's 75,000 updates of 16 tasks were never run.  It reports 99.47 % for 5-way 1-shot (recalled, not confirmed).
"""

from tf_mamlpp.checks import check_choice
from tf_mamlpp.config import Augmentation, Config, Data, Evaluation, Learner, Pretrain, Training, parse_argument
from tf_mamlpp.meta.settings import methods


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, method, schedule, epochs, pretrain (epochs of it), augment (meta-training too), seed.

    A schedule is `budget`, or `paper`: that of the authors' repository.
    The methods are maml, maml++, fomaml, anil, boil, meta-sgd, protonet.
    """
    a = parse_argument(
        argument, way=5, shot=1, method="maml++", schedule="budget", epochs=0, pretrain=0, augment=False, seed=0
    )
    check_choice("schedule", a.schedule, ("budget", "paper"))
    paper = a.schedule == "paper"
    epochs = a.epochs or (100 if paper else 24)
    schedule = {"multi_step_loss_epochs": max(epochs // 4, 1), "second_order_from_epoch": epochs // 2}
    if paper:  # second order throughout
        schedule = {"derivative_order_annealing": False, "multi_step_loss_epochs": 10}
    return Config(
        seed=a.seed,
        data=Data(name="omniglot", way=a.way, shot=a.shot, rotations=True),
        learner=Learner(**{**methods[a.method], **schedule}, inner_rate=0.1),
        augmentation=Augmentation(crop_padding=2) if a.augment or a.pretrain else Augmentation(),
        pretrain=Pretrain(epochs=a.pretrain),
        training=Training(epochs=epochs, updates=500 if paper else 250, tasks=8, augment=a.augment),
        evaluation=Evaluation(validation_tasks=600 if paper else 200, test_tasks=600, ensemble=min(5, epochs)),
    )
