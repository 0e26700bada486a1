"""Standard few-shot sets beside Omniglot and mini-ImageNet, divided into classes as the field divides them.

    tf-mamlpp train --config=benchmark:name=cifar_fs,shot=1 --workdir=runs/cifar_fs

| name       | classes   | pictures | size      | from                   | division by                         |
|------------|-----------|----------|-----------|------------------------|-------------------------------------|
| cifar_fs   | 64/16/20  | 60,000   | 32x32 RGB | tfds:cifar100          | Bertinetto et al. 2019 (Torchmeta)  |
| fc100      | 60/20/20  | 60,000   | 32x32 RGB | tfds:cifar100          | Oreshkin et al. 2018 (Torchmeta)    |
| cub        | 100/50/50 | 11,788   | 84x84 RGB | tfds:caltech_birds2011 | Chen et al. 2019 (Torchmeta)        |
| vgg_flower | 71/15/16  | 8,189    | 84x84 RGB | tfds:oxford_flowers102 | Triantafillou et al. (Meta-Dataset) |
| aircraft   | 70/15/15  | 10,000   | 84x84 RGB | a folder               | Triantafillou et al. (Meta-Dataset) |
| dtd        | 33/7/7    | 5,640    | 84x84 RGB | tfds:dtd               | Triantafillou et al. (Meta-Dataset) |
| quickdraw  | 241/52/52 | 504,000  | 28x28     | tfds:quickdraw_bitmap  | Triantafillou et al. (Meta-Dataset) |

FC100 divides the 20 superclasses of CIFAR-100, of five classes each, 12/4/4; tasks are of the classes.  Usual are 5-way
1-shot and 5-shot with 15 query pictures a class, as here; Meta-Dataset itself draws tasks of varying way and shot.
Of Quickdraw's 50 million drawings a hundredth is read; `--config.data.name=tfds:quickdraw_bitmap` reads all, which are
40 GB in the cache.  Traffic Signs has 43 classes to test on and none to train on.  docs/config.md says how to test a
run on them, and how to make the folder for aircraft of its archive.

TensorFlow Datasets downloads and prepares a set when it is first used; `--config.data.path=DIR` is its data_dir.  For
cub it wants OpenCV (`pip install opencv-python-headless`), for vgg_flower SciPy.
Updates and tasks are as in configs/mini_imagenet.py; 48 filters, 64 at 32x32 and 28x28.

Nothing was run on the real downloads: the tests prepare small stand-ins under the same names.

Takes: not known at this length.  24 updates of cifar_fs on a stand-in of 20 pictures a class took 1.4 GB of memory, and
about 5 s each on two cores that did four times as much other work.  Sets of 84x84 pictures take what
configs/mini_imagenet.py does.
Expect: not known, see above.
"""

from tf_mamlpp.checks import check_choice
from tf_mamlpp.config import Augmentation, Config, Data, Evaluation, Learner, Model, Pretrain, Training, parse_argument
from tf_mamlpp.data.pixel_defaults import IMAGENET_MEAN, IMAGENET_STD
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.settings import methods

SETS = {  # where each comes from, and the pixels a side
    "cifar_fs": ("tfds:cifar100", 32),
    "fc100": ("tfds:cifar100", 32),
    "cub": ("tfds:caltech_birds2011", 84),
    "vgg_flower": ("tfds:oxford_flowers102", 84),
    "aircraft": ("image_folder", 84),
    "dtd": ("tfds:dtd", 84),
    "quickdraw": ("tfds:quickdraw_bitmap[:1%]", 28),
}


def get_config(argument: str = "") -> Config:
    """Arguments: name (of the set), way, shot, method, epochs, pretrain (epochs of it), augment (meta-training's
    pictures too), seed.

    The methods are maml, maml++, fomaml, anil, boil, meta-sgd, protonet.
    """
    a = parse_argument(
        argument, name="cifar_fs", way=5, shot=1, method="maml++", epochs=10, pretrain=0, augment=False, seed=0
    )
    if a.name == "traffic_sign":
        raise UserError(
            "name=traffic_sign has no classes to train on: export a run on another set and give tf-mamlpp adapt "
            "--model=EXPORT --support=GTSRB/Final_Training/Images --trials=600"
        )
    check_choice("name", a.name, tuple(SETS))
    source, size = SETS[a.name]
    colour = a.name != "quickdraw"
    augmentation = Augmentation(
        crop_padding=size // 10,
        flip=True,
        **dict.fromkeys(("brightness", "contrast", "saturation"), 0.4 if colour else 0.0),
    )
    return Config(
        seed=a.seed,
        data=Data(
            name=source,
            way=a.way,
            shot=a.shot,
            query_shot=15,
            image_size=(size, size),
            channels=3 if colour else 1,
            mean=IMAGENET_MEAN if colour else (0.0,),  # Quickdraw's ink is light already
            std=IMAGENET_STD if colour else (1.0,),
            split_file=f"standard:{a.name}",
        ),
        model=Model(name="conv4", filters=48 if size == 84 else 64),
        learner=Learner(
            **methods[a.method],
            inner_rate=0.01 if colour else 0.1,
            multi_step_loss_epochs=max(a.epochs // 4, 1),
            second_order_from_epoch=a.epochs // 2,
            gradient_clip=10.0,
        ),
        augmentation=augmentation if a.augment or a.pretrain else Augmentation(),
        pretrain=Pretrain(epochs=a.pretrain),
        training=Training(
            epochs=a.epochs, updates=100, tasks=4 if a.shot < 5 else 2, augment=a.augment, checkpoint_updates=50
        ),
        evaluation=Evaluation(validation_tasks=100, test_tasks=600, ensemble=min(5, a.epochs)),
    )
