import io

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def sounds():
    """Random waveforms: sounds(count, samples)."""
    return lambda count, samples: tf.constant(0.1 * np.random.default_rng(0).normal(size=(count, samples)), tf.float32)


@pytest.fixture(scope="session")
def wav():
    """The content of a file of sound: wav(samples, rate, format="FLAC")."""
    import soundfile

    def make(samples, rate, form="WAV", subtype=None):
        content = io.BytesIO()
        soundfile.write(content, samples, rate, format=form, subtype=subtype)
        return content.getvalue()

    return make
