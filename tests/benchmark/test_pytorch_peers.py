"""The same weights and tasks give the same meta-gradients here and in every peer."""

import contextlib
import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from tf_mamlpp.benchmark import measure
from tf_mamlpp.benchmark.cases import Case, random_tasks
from tf_mamlpp.benchmark.contestants import peer_meta_gradient, update_timer
from tf_mamlpp.benchmark.process import Worker
from tf_mamlpp.benchmark.races import PEER_MODULES

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch, of the extra 'peers', is not installed"
)

# Two pixels high after the pools, so that the order of the dense layer's inputs matters.
CASE = Case(way=3, shot=2, query_shot=2, tasks=2, image_shape=(32, 48, 2), filters=3, method="maml", inner_steps=3)
FORMS = [(order, loss) for order in (False, True) for loss in (False, True)]


def as_theirs(path, value):
    """A weight or gradient of ours in the peer's layout."""
    if path.endswith("dense/kernel"):
        height, width, _ = CASE.image_shape
        value = value.reshape(height // 16, width // 16, CASE.filters, CASE.way)
    if not path.endswith("kernel"):
        return value
    value = value.transpose(3, 2, 0, 1)
    return value.reshape(CASE.way, -1) if path.endswith("dense/kernel") else value


def is_norm(path):
    """Peers have the weights that the inner loop adapts first, then those of batch norm; both in our order."""
    return "gamma" in path or "beta" in path


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: f"first_order={form[0]}-multi_step_loss={form[1]}")
def ours(request):
    first_order, multi_step_loss = request.param
    case = replace(CASE, first_order=first_order, multi_step_loss=multi_step_loss)
    learner = measure.build_learner(case, "float64")
    generator = np.random.default_rng(1)
    for v in learner.model.trainable_variables:
        v.assign(v + 0.1 * generator.normal(size=v.shape))
    gradients = learner.meta_gradient(random_tasks(case, "float64"))[0]
    pairs = zip(learner.trainable_variables, gradients, strict=True)
    rows = [(v.path, as_theirs(v.path, v.numpy()), as_theirs(v.path, np.array(g))) for v, g in pairs]
    return case, sorted(rows, key=lambda row: is_norm(row[0]))


@pytest.fixture(scope="module")
def gradients():
    """For each peer that is installed, a process that computes its meta-gradients."""
    with contextlib.ExitStack() as stack:
        installed = [name for name in PEER_MODULES if importlib.util.find_spec(PEER_MODULES[name])]
        yield {name: stack.enter_context(Worker(peer_meta_gradient, name)) for name in installed}


@pytest.mark.parametrize("name", PEER_MODULES)
@pytest.mark.parametrize("at_once", [1, 2])
def test_meta_gradients_agree(ours, gradients, name, at_once):
    if name not in gradients:
        pytest.skip(f"{name} is not installed")
    case, rows = ours
    found = gradients[name](case, at_once, [value for _, value, _ in rows])
    for theirs, (path, _, expected) in zip(found, rows, strict=True):
        # The bias of a convolution before a batch norm has no gradient but rounding.
        assert np.abs(theirs - expected).max() < 1e-9 * np.abs(expected).max() + 1e-12, path


def test_a_peer_does_as_many_updates_as_asked():
    with Worker(update_timer, "pytorch", CASE) as run:
        milliseconds, memory = run(2)
    assert len(milliseconds) == 2 and min(milliseconds) > 0 and memory > 0
