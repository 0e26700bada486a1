"""The sheet of the hardest tasks."""

import numpy as np
import pytest

from tf_mamlpp.data import ImageBank
from tf_mamlpp.deploy.hardest_tasks import hardest_tasks, write_hardest_tasks
from tf_mamlpp.deploy.sheet_parts import WRONG
from tf_mamlpp.training.answers import Answers


def answers(wrong, way=3, shot=1, query_shot=2, side=(8, 6, 3)):
    """As many tasks as there are numbers: so many query pictures of each are taken for the class before their own."""
    pictures = shot + query_shot
    images = np.full((way * pictures, *side), 128, np.uint8)
    bank = ImageBank(
        images, np.arange(0, way * pictures + 1, pictures), tuple(f"class {n}" for n in range(way)), "test"
    )
    rows = np.arange(way * pictures).reshape(1, way, pictures).repeat(len(wrong), 0)
    predicted = np.arange(way)[None, :, None].repeat(query_shot, 2).repeat(len(wrong), 0)
    for task, count in enumerate(wrong):
        flat = predicted[task].reshape(-1)
        flat[:count] = (flat[:count] - 1) % way
    return Answers(bank, shot, rows, predicted, np.ones(predicted.shape))


def red(sheet):
    return (np.asarray(sheet) == tuple(bytes.fromhex(WRONG[1:]))).all(-1)


@pytest.mark.parametrize("settings", [{}, {"shot": 5, "query_shot": 15}, {"way": 20, "side": (8, 8, 1)}])
def test_wrong_pictures_are_framed_and_stay_on_the_sheet(settings):
    sheet = hardest_tasks(answers([0, 3, 1], **settings), count=2)
    assert sheet.width == 1200
    assert red(sheet).any()
    assert not red(sheet)[:, -20:].any()


def test_only_the_hardest_are_shown_and_all_of_few():
    wide = answers([0, 3, 1], query_shot=15)
    heights = [hardest_tasks(wide, count=n).height for n in (1, 2, 3, 9)]
    assert heights[1] - heights[0] == heights[2] - heights[1] > 0
    assert heights[2] == heights[3]


def test_narrow_tasks_stand_side_by_side():
    heights = [hardest_tasks(answers([0, 3, 1]), count=n).height for n in (1, 2, 3)]
    assert heights[0] == heights[1] < heights[2]


def test_a_test_without_mistakes_has_a_sheet_too(tmp_path):
    assert not red(hardest_tasks(answers([0, 0]))).any()
    write_hardest_tasks(answers([0]), tmp_path / "new")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["hardest_tasks.png"]
