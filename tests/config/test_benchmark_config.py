"""configs/benchmark.py: a config for each standard set that can be trained on."""

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.data.sources.standard_lists import standard_lists
from tf_mamlpp.errors import UserError

SETS = [name.removeprefix("standard:") for name in standard_lists() if name != "standard:traffic_sign"]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("extra", ["", ",shot=5,pretrain=3", ",augment=true,method=protonet"])
def test_every_set_has_one(name, extra):
    config = configs.load(f"configs/benchmark.py:name={name}{extra}")
    assert config.data.split_file == f"standard:{name}"
    assert config.data.query_shot == 15
    assert config.augmentation.active == (extra != "")


def test_the_first_is_cifar_fs():
    data = configs.load("configs/benchmark.py").data
    assert (data.name, data.split_file, data.image_size) == ("tfds:cifar100", "standard:cifar_fs", (32, 32))


def test_other_names_are_told():
    with pytest.raises(UserError, match=r"^name is one of cifar_fs, fc100, cub, .*quickdraw, not 'cifar'$"):
        configs.load("configs/benchmark.py:name=cifar")
    with pytest.raises(UserError, match=r"^name=traffic_sign has no classes to train on: .*tf-mamlpp adapt --model="):
        configs.load("configs/benchmark.py:name=traffic_sign")


def test_an_unknown_division_is_told_before_anything_is_read():
    message = r"^data.split_file is one of standard:aircraft, .*standard:vgg_flower, or a file, not 'standard:birds'$"
    with pytest.raises(UserError, match=message):
        configs.load("configs/image_folder.py", ["--config.data.split_file=standard:birds"])
