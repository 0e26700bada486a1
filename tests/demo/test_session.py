"""What a visitor teaches, without a browser: examples by class, learned when they change, asked, kept."""

import numpy as np
import pytest

import tf_mamlpp as mp
from tf_mamlpp.data import ArrayFormat
from tf_mamlpp.demo.session import Session, check_shown
from tf_mamlpp.demo.taught import Example
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.errors import UserError


@pytest.fixture
def session(nearest_grey):
    return Session(nearest_grey())


@pytest.fixture
def taught(session, grey):
    """Three classes of one picture each: black, grey, white."""
    for index, value in enumerate((0, 128, 255)):
        session.add(index, [session.read(grey(value))])
    return session


def names(session):
    return [each.name for each in session.classes]


def test_a_fixed_way_model_answers_once_each_of_its_classes_has_a_picture(session, grey):
    picture = session.read(grey(250))
    for index, value in enumerate((0, 128, 255)):
        assert not session.is_ready and session.missing == ["A", "B", "C"][index:]
        with pytest.raises(UserError, match="not enough to learn from: 3 classes need a picture"):
            session.ask(picture)
        session.add(index, [session.read(grey(value))])
    answer = session.ask(picture)
    assert answer.best == "C" and list(answer.probabilities) == ["A", "B", "C"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    with pytest.raises(UserError, match="exactly 3 classes"):
        session.add_class()


def test_a_model_for_any_number_answers_from_two_classes_on(nearest_grey, grey):
    session = Session(nearest_grey(way=None))
    session.add_class()
    session.add(0, [session.read(grey(0))])
    assert not session.is_ready
    session.add(2, [session.read(grey(255))])
    assert list(session.ask(session.read(grey(200))).probabilities) == ["A", "C"]  # B has no picture
    for _ in range(25):
        session.add_class()
    assert names(session)[-3:] == ["Z", "27", "28"]


def test_it_learns_again_only_what_has_changed(taught, grey):
    model, picture = taught.model, taught.read(grey(90))
    assert taught.ask(picture).best == "B" and taught.ask(picture).best == "B" and model.adapted == 1
    taught.rename(1, "  middle\n grey ")
    assert taught.ask(picture).best == "middle grey" and model.adapted == 1
    taught.add(0, [taught.read(grey(80))])
    assert taught.ask(picture).best == "A" and model.adapted == 2
    taught.remove(0, 1)
    assert taught.ask(picture).best == "middle grey" and model.adapted == 3


def test_a_forgotten_class_of_a_fixed_number_leaves_an_empty_one_in_its_place(taught, grey):
    taught.rename(1, "middle")
    taught.remove_class(1)
    assert names(taught) == ["A", "B", "C"] and taught.missing == ["B"]
    assert [len(each.examples) for each in taught.classes] == [1, 0, 1]


def test_none_of_these(nearest_grey, grey):
    session = Session(nearest_grey(way=2, threshold=0.5))
    for index, value in enumerate((0, 255)):
        session.add(index, [session.read(grey(value))])
    near, far = (session.ask(session.read(grey(value))) for value in (10, 120))
    assert near.is_known and near.known > 0.9
    assert not far.is_known and far.known < 0.1 and far.best == "A"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_pictures_of_any_kind_come_in_the_models_size(session, grey, mode):
    pixels = session.read(grey(255, mode)).pixels
    assert pixels.shape == (6, 8, 1) and pixels.dtype == np.uint8 and (pixels == 255).all()


def test_refusals_leave_all_as_it_was(taught):
    before = [(each.name, list(each.examples)) for each in taught.classes]
    for refused, line in (
        (lambda: taught.rename(0, " B "), "two classes would be called 'B'"),
        (lambda: taught.rename(0, " \n"), "class 'A' needs a name"),
        (lambda: taught.read(b"no picture", "cat.png"), "cat.png: cannot be read as a picture"),
        (lambda: taught.remove(0, 1), "class 'A' has no picture 2"),
        (lambda: taught.add(3, []), "there is no class 4"),
        (lambda: taught.remove_class(-1), "there is no class 0"),
        (lambda: taught.load(b"no state", "cat.npz"), "cat.npz' is damaged"),
        (lambda: taught.load(state(images=(1, 9, 9, 1)), "other.npz"), "does not belong to this model"),
        (lambda: taught.load(state(images=(0, 6, 8, 1)), "empty.npz"), "class 'cat' has no picture"),
        (lambda: taught.load(state(images=(0, 6, 8, 1), names=()), "empty.npz"), "holds no class"),
    ):
        with pytest.raises(UserError, match=line):
            refused()
        assert [(each.name, each.examples) for each in taught.classes] == before


def state(images, names=("cat",)):
    return AdaptedTask(
        np.zeros(1, np.float32), names, np.zeros(images, np.uint8), np.zeros(images[0], np.int32)
    ).to_bytes()


def test_what_was_learned_goes_into_a_file_and_back(taught, nearest_grey, grey):
    taught.add(1, [taught.read(grey(100))])
    taught.rename(0, "<b>black</b>")
    content = taught.save()
    other = Session(nearest_grey())
    other.add(0, [other.read(grey(7))])
    other.load(content, "learned.npz")
    assert names(other) == ["<b>black</b>", "B", "C"] and [len(each.examples) for each in other.classes] == [1, 2, 1]
    picture = other.read(grey(105))
    assert other.ask(picture) == taught.ask(picture) and other.model.adapted == 0
    with pytest.raises(UserError, match="need a picture"):
        Session(nearest_grey()).save()


def test_a_file_of_fewer_classes_leaves_room_for_the_rest(nearest_grey, grey):
    few = Session(nearest_grey(way=None))
    few.rename(0, "cat")
    for index in range(2):
        few.add(index, [few.read(grey(100 * index))])
    session = Session(nearest_grey(way=3))
    session.load(few.save())
    assert names(session) == ["cat", "B", "A"] and session.missing == ["A"] and not session.is_ready


def test_visits_share_nothing(nearest_grey, grey):
    model = nearest_grey()
    one, other = Session(model), Session(model)
    one.add(0, [one.read(grey(0))])
    one.rename(0, "mine")
    assert names(other) == ["A", "B", "C"] and not other.taught


@pytest.mark.parametrize(
    "inputs, statistics, line",
    [
        (PictureFormat((6, 8), 4, mean=(0.5,), std=(0.5,)), "support", "4 channels"),
        (PictureFormat((6, 8), 1, mean=(0.5,), std=(0.5,)), "batch", "=batch"),
        (ArrayFormat((6,), "float32"), "support", "^the model takes arrays: the page shows pictures$"),
    ],
)
def test_a_model_that_the_page_cannot_show(nearest_grey, inputs, statistics, line):
    model = nearest_grey()
    check_shown(model)
    model.inputs, model.query_statistics = inputs, statistics
    with pytest.raises(UserError, match=line):
        check_shown(model)


@pytest.mark.slow
def test_a_real_model_gives_what_it_gives_elsewhere(tmp_path):
    learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2, inner_rate=0.1)
    learner.export(tmp_path / "model", pictures=PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
    model = DeployedModel(tmp_path / "model")
    session, images = Session(model), np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    for index, pixels in enumerate(images[:3]):
        session.add(index, [Example(pixels)])
    task = model.adapt(images[:3], [0, 1, 2], ["A", "B", "C"])
    answer = session.ask(Example(images[3]))
    np.testing.assert_array_equal(list(answer.probabilities.values()), model.predict(task, images[3:])[0])
    again = Session(model)
    again.load(session.save())
    assert again.ask(Example(images[3])) == answer
    other = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2, inner_rate=0.1)
    other.export(tmp_path / "other", pictures=PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
    with pytest.raises(UserError, match="does not belong to this model"):
        Session(DeployedModel(tmp_path / "other")).load(session.save(), "learned.npz")
