"""Sounds of your own: words, machines, birds; a folder of class folders of WAV or FLAC files.

    tf-mamlpp train --config=audio:rate=8000,seconds=0.6 --config.data.path=DIR --workdir=runs/words

The model sees log-mel spectrograms, as pictures of one channel.  Recordings may have any rate and length: they are
resampled to `rate`; silence is added, or the loudest part of `seconds` taken.  docs/beyond_pictures.md says how to
choose classes and splits.  MAML++, 32 filters, 600 updates of 4 tasks, the first half with first-order gradients.

Takes: 600 updates took 26 minutes on two cores that did much other work, and about 1.2 GB (resident while training).
Expect: 90.12 ± 0.74 % (600 tasks of spoken digits that training had not heard, in known voices); nearest spectrogram
72.68 %.  Digits of a voice that was not heard had 90.50 ± 0.72 %, before gradients were clipped.
"""

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training, parse_argument
from tf_mamlpp.meta.settings import methods


def get_config(argument: str = "") -> Config:
    """Arguments: way, shot, query_shot, rate, seconds, method, epochs, seed.

    The methods are maml, maml++, fomaml, anil, boil, meta-sgd, protonet.
    """
    a = parse_argument(
        argument, way=5, shot=1, query_shot=3, rate=16000, seconds=1.0, method="maml++", epochs=6, seed=0
    )
    return Config(
        seed=a.seed,
        data=Data(
            name="audio_folder",
            way=a.way,
            shot=a.shot,
            query_shot=a.query_shot,
            sample_rate=a.rate,
            seconds=a.seconds,
        ),
        model=Model(name="conv4", filters=32),
        learner=Learner(
            **methods[a.method],
            multi_step_loss_epochs=max(a.epochs // 2, 1),
            second_order_from_epoch=a.epochs // 2,
            gradient_clip=10.0,
        ),
        training=Training(epochs=a.epochs, updates=100, tasks=4, checkpoint_updates=50),
        evaluation=Evaluation(validation_tasks=120, test_tasks=600, ensemble=min(3, a.epochs)),
    )
