import numpy as np

from tf_mamlpp.data import sinusoid_episodes


def batch(**changes):
    settings = {"split": "train", "shot": 5, "query_shot": 10, "tasks": 200, "seed": 0, **changes}
    return next(sinusoid_episodes(**settings).as_numpy_iterator())


def test_shapes_types_and_ranges():
    tasks = batch()
    assert {k: (v.shape, v.dtype) for k, v in tasks.items()} == {
        "support_images": ((200, 5, 1), np.float32),
        "support_labels": ((200, 5, 1), np.float32),
        "query_images": ((200, 10, 1), np.float32),
        "query_labels": ((200, 10, 1), np.float32),
    }
    x = tasks["query_images"]
    assert -5 <= x.min() < -4.9 and 4.9 < x.max() <= 5


def test_each_task_is_one_sine_of_the_papers_amplitudes_and_phases():
    tasks = batch()
    for i in range(200):
        # y = A sin(x - p) = a sin x + b cos x: fit a, b on the support, check on the query.
        x = tasks["support_images"][i], tasks["query_images"][i]
        design = [np.concatenate([np.sin(part), np.cos(part)], axis=1) for part in x]
        a, b = np.linalg.lstsq(design[0].astype(np.float64), tasks["support_labels"][i, :, 0], rcond=None)[0]
        np.testing.assert_allclose(design[1] @ [a, b], tasks["query_labels"][i, :, 0], atol=1e-3)
        assert 0.1 - 1e-3 <= np.hypot(a, b) <= 5.001
        assert -1e-3 <= np.arctan2(-b, a) <= np.pi + 1e-3 or np.hypot(a, b) < 0.2


def test_pure_and_resumable():
    whole = list(sinusoid_episodes(split="test", shot=2, query_shot=2, tasks=3, count=4).as_numpy_iterator())
    rest = list(sinusoid_episodes(split="test", shot=2, query_shot=2, tasks=3, start=3, count=1).as_numpy_iterator())
    np.testing.assert_array_equal(whole[3]["query_labels"], rest[0]["query_labels"])
    assert (batch(seed=1)["support_images"] != batch()["support_images"]).all()
