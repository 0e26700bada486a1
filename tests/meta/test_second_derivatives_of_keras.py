"""A sweep: second derivatives of every layer and operation of the Keras that is installed, in a graph.

What is wrong, and nothing else, is refused by `inexact.check_operations`.

What a new version of Keras adds has to be put in the tables here; what it changes for the worse is named.
"""

import contextlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.inexact import check_layers, check_operations, name_missing_derivatives
from tf_mamlpp.layers.proven import PROVEN_OF_KERAS, PROVEN_OPERATIONS
from tf_mamlpp.layers.traced_operations import traced_operations
from tf_mamlpp.meta.second_derivatives import second_derivative_error

pytestmark = pytest.mark.slow

ops, layers = keras.ops, keras.layers
RNG = np.random.default_rng(0)


def draw(*shape, dtype="float64"):
    """Distinct numbers between -1.5 and 1.5, none near 0, each other's or a whole number: no kink is near."""
    count = int(np.prod(shape))
    values = (RNG.permutation(count) + 0.3 + 0.2 * RNG.random()) / count * 2.9 - 1.45
    return tf.constant(values.reshape(shape), dtype)


VECTOR, MATRIX, OTHER, SQUARE = draw(6), draw(3, 4), draw(3, 4), draw(4, 4)
SEQUENCE, IMAGES, VOLUMES = draw(2, 5, 4), draw(2, 6, 6, 4), draw(2, 4, 4, 4, 2)
SINGLE_VOLUMES = tf.cast(VOLUMES, tf.float32)  # TensorFlow has no 3-D pool in float64

EXCHANGED, REFUSED, NAMED = (
    "exchanged in a copy of the model, or refused",
    "refused",
    "has no second derivative: named by `name_missing_derivatives`",
)
WRONG_LAYERS = {
    **dict.fromkeys(("BatchNormalization", "LayerNormalization", "GroupNormalization"), EXCHANGED),  # tf.nn.moments
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"), EXCHANGED),  # where they keep the shape
    **dict.fromkeys(("UpSampling2D", "Resizing"), EXCHANGED),  # where they are bilinear
    # Of pools that keep the shape too, which nobody needs.
    **dict.fromkeys(("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D"), REFUSED),
    "SpectralNormalization": REFUSED,  # holds the singular vectors fixed
}
# The kernel of its pool writes over what it still reads: what that gives is chance, now and then the right numbers.
WRONG_AT_TIMES = {"AdaptiveMaxPooling3D"}
WRONG_OPERATIONS = {
    **dict.fromkeys(("layer_normalization", "moments"), REFUSED),  # tf.nn.moments
    **dict.fromkeys(("max_pool", "adaptive_max_pool"), REFUSED),  # where they keep the shape
    "slice_update": NAMED,
}
# Right, but to the digits of float32 alone, whatever the dtype.
SINGLE = {"MultiHeadAttention", "GroupedQueryAttention", "dot_product_attention"}

# --- Layers ----------------------------------------------------------------------------------------------

POOLS = [{"pool_size": s, "strides": t, "padding": p} for s, t, p in [(3, 1, "same"), (2, 2, "valid"), (3, 2, "same")]]
POOLS += [{"pool_size": s, "strides": t, "padding": "valid"} for s, t in [(1, 1), (2, 1), (3, 2)]]
CONVOLUTIONS = [{"kernel_size": 3}, {"kernel_size": 3, "strides": 2, "padding": "same"}]
DILATED = [*CONVOLUTIONS, {"kernel_size": 2, "dilation_rate": 2}]

ACTIVATIONS = sorted(n for n in dir(keras.activations) if callable(getattr(keras.activations, n)) and n[0] != "_")
ACTIVATIONS = [n for n in ACTIVATIONS if n not in ("get", "serialize", "deserialize", "threshold")]

# By class name: the inputs, and for each way to call the layer its arguments.
LAYERS = {
    **{f"{kind}Pooling{d}D": (x, POOLS) for kind in ("Max", "Average") for d, x in [(1, SEQUENCE), (2, IMAGES)]},
    **{f"{kind}Pooling3D": (SINGLE_VOLUMES, POOLS) for kind in ("Max", "Average")},
    **{
        f"{kind}Pooling{d}D": (x, arguments)
        for d, x in [(1, SEQUENCE), (2, IMAGES), (3, VOLUMES)]
        for kind, arguments in [
            ("GlobalMax", [{}]),
            ("GlobalAverage", [{}]),
        ]
    },
    **{
        f"Adaptive{kind}Pooling{d}D": (x, [{"output_size": 2}, {"output_size": 3}, {"output_size": x.shape[1]}])
        for d, x in [(1, draw(2, 5, 4)), (2, IMAGES), (3, SINGLE_VOLUMES)]
        for kind in ("Max", "Average")
    },
    **{f"Conv{d}D": (x, [{"filters": 4, **c} for c in DILATED]) for d, x in [(1, SEQUENCE), (2, IMAGES)]},
    "Conv3D": (VOLUMES, [{"filters": 2, **c} for c in CONVOLUTIONS]),
    **{
        f"Conv{d}DTranspose": (x, [{"filters": 2, **c} for c in CONVOLUTIONS])
        for d, x in [(1, SEQUENCE), (2, IMAGES), (3, VOLUMES)]
    },
    **{f"DepthwiseConv{d}D": (x, DILATED) for d, x in [(1, SEQUENCE), (2, IMAGES)]},
    **{f"SeparableConv{d}D": (x, [{"filters": 3, **c} for c in DILATED]) for d, x in [(1, SEQUENCE), (2, IMAGES)]},
    "Dense": (MATRIX, [{"units": 3}]),
    "EinsumDense": (SEQUENCE, [{"equation": "abc,cd->abd", "output_shape": (None, 3), "bias_axes": "d"}]),
    "BatchNormalization": (IMAGES, [{}]),
    "LayerNormalization": (IMAGES, [{}]),
    "RMSNormalization": (IMAGES, [{}]),
    "GroupNormalization": (IMAGES, [{"groups": 2}]),
    "UnitNormalization": (IMAGES, [{}]),
    "Normalization": (MATRIX, [{"mean": 0.5, "variance": 2.0}]),
    "SpectralNormalization": (
        MATRIX,
        [lambda: layers.SpectralNormalization(layers.Dense(3, dtype="float64"), dtype="float64")],
    ),
    "Activation": (MATRIX, [{"activation": name} for name in ACTIVATIONS]),
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Identity", "Flatten"), (SEQUENCE, [{}])),
    "ActivityRegularization": (MATRIX, [{"l2": 0.1}]),
    "Rescaling": (IMAGES, [{"scale": 0.5}]),
    "CenterCrop": (IMAGES, [{"height": 4, "width": 4}]),
    "UpSampling1D": (SEQUENCE, [{"size": 2}]),
    "UpSampling2D": (IMAGES, [{"size": 2}, *({"size": 2, "interpolation": i} for i in ("bilinear", "bicubic"))]),
    "Resizing": (IMAGES, [{"height": 5, "width": 4}]),
    "UpSampling3D": (VOLUMES, [{"size": 2}]),
    **{
        f"{kind}{d}D": (x, [{}])
        for d, x in [(1, SEQUENCE), (2, IMAGES), (3, VOLUMES)]
        for kind in ("Cropping", "ZeroPadding")
    },
    "Permute": (SEQUENCE, [{"dims": (2, 1)}]),
    "RepeatVector": (MATRIX, [{"n": 2}]),
    "Reshape": (SEQUENCE, [{"target_shape": (4, 5)}]),
    "Masking": (SEQUENCE, [{}]),
    **{f"SpatialDropout{d}D": (x, [{"rate": 0.3}]) for d, x in [(1, SEQUENCE), (2, IMAGES), (3, VOLUMES)]},
    **{name: (SEQUENCE, [{"rate": 0.3}]) for name in ("Dropout", "AlphaDropout", "GaussianDropout")},
    "GaussianNoise": (SEQUENCE, [{"stddev": 0.3}]),
    **{
        name: ([MATRIX, draw(3, 4)], [{}])
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
    },
    "Dot": ([MATRIX, draw(3, 4)], [{"axes": 1}, {"axes": 1, "normalize": True}]),
    "Attention": ([SEQUENCE, draw(2, 5, 4)], [{}, {"use_scale": True}]),
    "AdditiveAttention": ([SEQUENCE, draw(2, 5, 4)], [{}]),
    "MultiHeadAttention": (SEQUENCE, [{"num_heads": 2, "key_dim": 3}]),
    "GroupedQueryAttention": (SEQUENCE, [{"head_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2}]),
    **{name: (SEQUENCE, [{"units": 3}]) for name in ("SimpleRNN", "LSTM", "GRU")},
    "GRU": (SEQUENCE, [{"units": 3}, {"units": 3, "reset_after": False}]),
    "RNN": (SEQUENCE, [lambda: layers.RNN(layers.LSTMCell(3, dtype="float64"), dtype="float64")]),
    "Bidirectional": (SEQUENCE, [lambda: layers.Bidirectional(layers.LSTM(2, dtype="float64"), dtype="float64")]),
    "TimeDistributed": (SEQUENCE, [lambda: layers.TimeDistributed(layers.Dense(2, dtype="float64"), dtype="float64")]),
    "ConvLSTM1D": (draw(2, 3, 5, 2), [{"filters": 2, "kernel_size": 3}]),
    "ConvLSTM2D": (draw(2, 3, 5, 5, 1), [{"filters": 2, "kernel_size": 3}]),
    "ConvLSTM3D": (draw(1, 2, 3, 3, 3, 1), [{"filters": 1, "kernel_size": 3}]),
    "Lambda": (MATRIX, [{"function": tf.nn.softmax}]),
    "ReversibleEmbedding": (tf.constant([[1, 2]]), [{"input_dim": 4, "output_dim": 3}]),
    "Embedding": (tf.constant([[1, 2]]), [{"input_dim": 4, "output_dim": 3}]),
}
# Those that only have base classes, change pictures before training, take text or whole numbers, or wrap others.
UNSWEPT_LAYERS = {
    *(
        "FlaxLayer",
        "InputLayer",
        "InputSpec",
        "JaxLayer",
        "Layer",
        "LSTMCell",
        "GRUCell",
        "SimpleRNNCell",
        "Pipeline",
        "StackedRNNCells",
    ),
    *("TFSMLayer", "TorchModuleWrapper", "Wrapper", "CategoryEncoding", "Discretization", "HashedCrossing", "Hashing"),
    *("IntegerLookup", "StringLookup", "TextVectorization", "AugMix", "AutoContrast", "CutMix", "Equalization"),
    *("ContrastLimitedAdaptiveHistogramEqualization", "MaxNumBoundingBoxes", "MixUp", "RandAugment", "Solarization"),
    *("MelSpectrogram", "STFTSpectrogram"),
    *(name for name in dir(layers) if name.startswith("Random")),
}


FOUND = [getattr(layers, name) for name in dir(layers) if not name.startswith("_")]
CLASSES = {c.__name__: c for c in FOUND if inspect.isclass(c) and c.__name__ not in UNSWEPT_LAYERS}


def made(name, arguments, dtype):
    return arguments() if callable(arguments) else CLASSES[name](**arguments, dtype=dtype)


def is_refused(function, point):
    """Whether a gradient like that of `second_derivative_error` is refused."""

    @tf.function(autograph=False)
    def gradient(*point):
        with name_missing_derivatives(), traced_operations() as made, tf.GradientTape() as tape:
            tape.watch(point)
            outputs = [tf.convert_to_tensor(o) for o in tf.nest.flatten(function(*point)) if o is not None]
            outputs = [tf.abs(o) if o.dtype.is_complex else o for o in outputs]
            sums = [tf.cast(tf.reduce_sum(o + o**2), "float64") for o in outputs if o.dtype.is_floating]
            total = tf.add_n([*sums, tf.zeros((), "float64")])
            gradients = tape.gradient(total, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            gradients = [tf.convert_to_tensor(g) for g in gradients]
        check_operations(keras.Sequential(name="net"), made, point, point, gradients)
        return gradients

    try:
        gradient.get_concrete_function(*(tf.identity(p) for p in point))
    except UserError:
        return True
    return False


def layer_error(layer, inputs, measure=second_derivative_error):
    """`second_derivative_error` of a layer, with respect to its weights and its inputs."""
    arguments = (inputs, inputs) if "QueryAttention" in type(layer).__name__ else (inputs,)
    arguments = (inputs, inputs) if isinstance(layer, layers.MultiHeadAttention) else arguments
    takes_training = "training" in inspect.signature(layer.call).parameters
    layer(*arguments)
    state = [tf.convert_to_tensor(v) for v in layer.non_trainable_variables]
    flat = tf.nest.flatten(arguments)
    count = len(layer.trainable_variables)

    def call(*point):
        rest = iter(point[count:])
        fed = tf.nest.pack_sequence_as(arguments, [next(rest) if x.dtype.is_floating else x for x in flat])
        training = {"training": True} if takes_training else {}
        return layer.stateless_call(list(point[:count]), state, *fed, **training)[0]

    weights = [tf.convert_to_tensor(v) for v in layer.trainable_variables]
    return measure(call, [*weights, *(x for x in flat if x.dtype.is_floating)])


def tolerance(name, point):
    return 2e-2 if tf.float32 in {x.dtype for x in tf.nest.flatten(point)} else 1e-4 if name in SINGLE else 1e-6


def dtype_of(inputs):
    return "float32" if tf.nest.flatten(inputs)[0].dtype == tf.float32 else "float64"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_layers(name):
    assert name in LAYERS, f"Keras has a layer that this sweep does not know: {name}"
    inputs, ways = LAYERS[name]
    errors = {str(way): layer_error(made(name, way, dtype_of(inputs)), inputs) for way in ways}
    wrong = {way: error for way, error in errors.items() if not error < tolerance(name, inputs)}
    if name not in WRONG_AT_TIMES:
        assert bool(wrong) == (name in WRONG_LAYERS), wrong or "TensorFlow has mended it"


@pytest.mark.parametrize("name", [name for name, what in WRONG_LAYERS.items() if what == EXCHANGED])
def test_what_is_wrong_is_exchanged(name):
    inputs, ways = LAYERS[name]
    for way in ways:
        given = keras.Input(inputs.shape[1:], dtype=dtype_of(inputs))
        model = keras.Model(given, made(name, way, dtype_of(inputs))(given))
        exact = convert_normalization(model, 1).layers[-1]
        exact = type(exact).from_config({**exact.get_config(), "name": "exact"})
        assert layer_error(exact, inputs) < tolerance(name, inputs), way


@pytest.mark.parametrize("name", sorted(set(CLASSES) & set(LAYERS)))
def test_wrong_layers_alone_are_refused(name):
    inputs, ways = LAYERS[name]
    refused = [way for way in ways if layer_error(made(name, way, dtype_of(inputs)), inputs, is_refused)]
    assert bool(refused) == (name in WRONG_LAYERS), refused


def test_what_counts_as_proven_is_right():
    names = {layer.__name__ for layer in PROVEN_OF_KERAS} - {"InputLayer"}
    assert names <= set(LAYERS) - set(WRONG_LAYERS)
    assert {"true_divide" if n == "TrueDivide" else n.lower() for n in PROVEN_OPERATIONS} <= set(operations_of_keras())


def test_a_layer_that_is_refused_in_whole():
    layer = LAYERS["SpectralNormalization"][1][0]()
    with pytest.raises(UserError, match="SpectralNormalization. are wrong"):
        check_layers(keras.Sequential([keras.Input((4,)), layer]))


# --- Operations ------------------------------------------------------------------------------------------

PROBABILITIES = tf.nn.softmax(MATRIX)
KERNEL = draw(3, 3, 4, 2)
IDS = tf.constant([0, 1, 1])
# Those that the common arguments below do not fit: functions of tensors, and the tensors.
CALLS = {
    "adaptive_average_pool": [(lambda x: ops.adaptive_average_pool(x, 2), IMAGES)],
    "adaptive_max_pool": [(lambda x, n=n: ops.adaptive_max_pool(x, n), IMAGES) for n in (2, 6)],
    "average_pool": [(lambda x: ops.average_pool(x, 3, 1, "same"), IMAGES)],
    "max_pool": [(lambda x, s=s: ops.max_pool(x, 3, s, "same"), IMAGES) for s in (1, 2)],
    "arccosh": [(ops.arccosh, 3 + MATRIX)],
    **{name: [(getattr(ops, name), MATRIX / 2)] for name in ("arccos", "arcsin", "arctanh", "erfinv")},
    **{name: [(getattr(ops, name), 2 + MATRIX)] for name in ("log", "log10", "log2", "log1p", "sqrt", "rsqrt")},
    "power": [(ops.power, 2 + MATRIX, OTHER)],
    "associative_scan": [(lambda x: ops.associative_scan(lambda a, b: a * b, x), MATRIX)],
    "batch_normalization": [
        (lambda x, m, v: ops.batch_normalization(x, m, v, -1), IMAGES, draw(4), 2 + draw(4)),
    ],
    "broadcast_to": [(lambda x: ops.broadcast_to(x, (2, 3, 4)), MATRIX)],
    "cast": [(lambda x: ops.cast(x, "float64"), MATRIX)],
    "clip": [(lambda x: ops.clip(x, -1, 1), MATRIX)],
    "cond": [(lambda x: ops.cond(x[0, 0] > 0, lambda: x**3, lambda: x**2), MATRIX)],
    "conv": [(ops.conv, IMAGES, KERNEL)],
    "conv_transpose": [(ops.conv_transpose, IMAGES, draw(3, 3, 2, 4))],
    "depthwise_conv": [(ops.depthwise_conv, IMAGES, draw(3, 3, 4, 1))],
    "separable_conv": [(ops.separable_conv, IMAGES, draw(3, 3, 4, 1), draw(1, 1, 4, 2))],
    "cross": [(ops.cross, draw(2, 3), draw(2, 3))],
    "depth_to_space": [(lambda x: ops.depth_to_space(x, 2), IMAGES)],
    "space_to_depth": [(lambda x: ops.space_to_depth(x, 2), IMAGES)],
    "dot_product_attention": [(ops.dot_product_attention, *(draw(2, 5, 2, 3) for _ in range(3)))],
    "dsplit": [(lambda x: ops.dsplit(x, 2), IMAGES)],
    "einsum": [(lambda x, y: ops.einsum("ij,kj->ik", x, y), MATRIX, OTHER)],
    "exp2": [(ops.exp2, tf.cast(MATRIX, tf.float32))],
    "extract_sequences": [(lambda x: ops.extract_sequences(x, 8, 4), draw(2, 20))],
    "fold": [(lambda x: ops.fold(x, (4, 4), 2), draw(1, 8, 9))],
    "unfold": [(lambda x: ops.unfold(x, 2), draw(1, 2, 4, 4))],
    "fori_loop": [(lambda x: ops.fori_loop(0, 3, lambda i, v: v * tf.sin(v), x), MATRIX)],
    "geomspace": [(lambda x: ops.geomspace(2 + x, 5.0, 4), tf.cast(MATRIX, tf.float32))],
    "map": [(lambda x: ops.map(lambda v: v**3, x), MATRIX)],
    "vectorized_map": [(lambda x: ops.vectorized_map(lambda v: v**3, x), MATRIX)],
    "moveaxis": [(lambda x: ops.moveaxis(x, 0, 1), MATRIX)],
    "swapaxes": [(lambda x: ops.swapaxes(x, 0, 1), MATRIX)],
    "pad": [
        (lambda x, m=m: ops.pad(x, ((1, 1), (1, 1)), mode=m), MATRIX) for m in ("constant", "reflect", "symmetric")
    ],
    "percentile": [(lambda x: ops.percentile(x, 30.0), MATRIX)],
    "nanpercentile": [(lambda x: ops.nanpercentile(x, 30.0), MATRIX)],
    "nanquantile": [(lambda x: ops.nanquantile(x, 0.3), MATRIX)],
    "quantile": [(lambda x: ops.quantile(x, 0.3), MATRIX)],
    "psnr": [(lambda x, y: ops.psnr(x, y, 2.0), MATRIX, OTHER)],
    "rearrange": [(lambda x: ops.rearrange(x, "a b -> b a"), MATRIX)],
    "reshape": [(lambda x: ops.reshape(x, (4, 3)), MATRIX)],
    "saturate_cast": [(lambda x: ops.saturate_cast(x, "float64"), MATRIX)],
    "scan": [(lambda x: ops.scan(lambda c, v: (c * v + v, c), x[0], x), MATRIX)],
    "scatter": [(lambda x: ops.scatter([[0], [2], [4]], x, (6, 4)), MATRIX)],
    "scatter_update": [(lambda x, y: ops.scatter_update(x, [[0], [2]], y[:2]), MATRIX, OTHER)],
    **{
        f"segment_{name}": [(lambda x, f=f"segment_{name}": getattr(ops, f)(x, IDS, 2), MATRIX)]
        for name in ("max", "min", "prod", "sum")
    },
    "select": [(lambda x, y: ops.select([x > 0], [x * y], 0.0 * y), MATRIX, OTHER)],
    "slice": [(lambda x: ops.slice(x, (0, 1), (2, 2)), MATRIX)],
    "slice_update": [(lambda x, y: ops.slice_update(x, (1, 1), y[:2, :2]), MATRIX, OTHER)],
    "sparse_categorical_crossentropy": [(lambda x: ops.sparse_categorical_crossentropy([0, 1, 2], x), PROBABILITIES)],
    "categorical_crossentropy": [(ops.categorical_crossentropy, PROBABILITIES, tf.nn.softmax(OTHER))],
    "binary_crossentropy": [(ops.binary_crossentropy, PROBABILITIES, tf.nn.softmax(OTHER))],
    "stft": [(lambda x: ops.stft(x, 8, 4, 8, window=None), draw(2, 40))],
    "switch": [(lambda x: ops.switch(0, [lambda v: v**3, lambda v: v], x), MATRIX)],
    "threshold": [(lambda x: ops.threshold(x, 0.1, 0.0), MATRIX)],
    "view_as_complex": [(lambda x: ops.view_as_complex(x), draw(3, 2, dtype="float32"))],  # Keras 3.8 has none
    "while_loop": [(lambda x: ops.while_loop(lambda v: tf.reduce_max(v) < 9, lambda v: (v * 2,), (x,)), MATRIX)],
    **{
        name: [(lambda x, name=name: getattr(ops, name)(x @ tf.transpose(x) + 2 * tf.eye(4, dtype=tf.float64)), SQUARE)]
        for name in ("cholesky", "cholesky_inverse", "logdet")
    },
    "eigh": [(lambda x: ops.eigh(x + tf.transpose(x))[0], SQUARE)],
    "svd": [(lambda x: ops.svd(x)[1], SQUARE)],
}
# Of whole numbers, of shapes alone, of functions, or without a first derivative either.
UNSWEPT_OPERATIONS = {
    *("arange", "bartlett", "bincount", "blackman", "empty", "eye", "full", "hamming", "hanning", "identity", "kaiser"),
    *("ones", "tri", "zeros", "gcd", "lcm", "isin", "in_top_k", "digitize", "unique", "unravel_index", "left_shift"),
    *("right_shift", "ctc_decode", "ctc_loss", "custom_gradient", "jvp", "vectorize", "convert_to_numpy", "view"),
    *("corrcoef", "kron", "eig", "lu_factor", "istft"),
    *(name for name in dir(ops) if name.startswith("bitwise")),
}
COMMON = [(MATRIX,), (MATRIX, OTHER), (SQUARE,), (SQUARE, draw(4, 4)), (VECTOR,), (VECTOR, draw(6)), (IMAGES,)]


def operations_of_keras():
    found = [name for name in dir(ops) if not name.startswith("_") and callable(getattr(ops, name))]
    return [name for name in found if name not in UNSWEPT_OPERATIONS]


def operation_errors(name, measure=second_derivative_error):
    """Of the calls in the table, or of the first of the common arguments that the operation takes."""
    try:
        if name in CALLS:
            return [measure(function, point) for function, *point in CALLS[name]]
        function = getattr(ops, name)
        for call in (function, lambda *x: function(list(x)), lambda x: function(x, 1), lambda x: function(x, 2)):
            for point in COMMON:
                with contextlib.suppress(TypeError, ValueError, tf.errors.OpError, AttributeError):
                    return [measure(call, point)]
    except LookupError as error:
        assert "gradient registry has no entry" in str(error)
        return [np.inf]
    raise AssertionError(f"Keras has an operation that this sweep does not know: {name}")


@pytest.mark.parametrize("name", operations_of_keras())
def test_operations(name):
    point = [x for call in CALLS.get(name, []) for x in call[1:]]
    wrong = [error for error in operation_errors(name) if not error < tolerance(name, point)]
    assert bool(wrong) == (name in WRONG_OPERATIONS), wrong or "TensorFlow has mended it"


@pytest.mark.parametrize("name", operations_of_keras())
def test_wrong_operations_alone_are_refused(name):
    assert any(operation_errors(name, is_refused)) == (name in WRONG_OPERATIONS)
