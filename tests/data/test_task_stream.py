import numpy as np
import tensorflow as tf

from tf_mamlpp.data.task_stream import meta_batches, task_bits


def test_bits_are_pinned_and_distinct():
    assert task_bits(0, "train", 0).random_raw() == 9617973443401856022
    firsts = {
        task_bits(*key).random_raw() for key in [(0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "train", 1)]
    }
    assert len(firsts) == 4


def test_meta_batch_s_holds_its_own_tasks():
    spec = {"x": tf.TensorSpec([], tf.int64)}
    dataset = meta_batches(lambda index: {"x": np.int64(index)}, spec, tasks=3, start=2, count=2)
    assert [batch["x"].tolist() for batch in dataset.as_numpy_iterator()] == [[6, 7, 8], [9, 10, 11]]
