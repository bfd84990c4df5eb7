"""The tutorial's recipe, as a client process that the night benchmark asks to fit and to evaluate.

Written from the description of "A Federated Approach to Train and Deploy Machine Learning Models": pictures squashed
to 160 x 160, pixels 0..255 as they are, MobileNetV2 frozen but run over every picture in every epoch, a head of
1280 -> 128 -> labels, Adam, batches of 8, 20 epochs a round, the last fifth of the pictures kept for validation, and
all weights, the backbone's too, both ways in every round. Its Flower client is a NumPyClient with ``fit`` and
``evaluate``; both are here, called by the benchmark in place of Flower's server, because Flower costs both sides the
same. Its code trains on the folder named test and tests on the one named train; here it may learn from train.

One JSON object per line on standard input, one per line back; weights go through files.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import cv2
import numpy as np
import numpy.typing as npt

from appliance.store.frames import FrameStore
from tests.benchmarks.rig import peak_rss_mb
from tests.benchmarks.watch import measured

SIDE = 160  # pixels
BATCH = 8
EPOCHS = 20
HIDDEN_UNITS = 128
VALIDATION = 0.2
_SHUFFLE_SEED = 25

Pictures = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]
Weights = list[npt.NDArray[np.float32]]


def pictures_of(store_root: Path, labels: Sequence[str], split: str) -> Pictures:
    """A store's labelled frames as the tutorial sees them.

    Args:
        store_root: Folder of a :class:`FrameStore`.
        labels: Their order gives the numbers.
        split: "train" or "test".

    Returns:
        float32 [frames, 160, 160, 3], 0 to 255, RGB, squashed; int32 [frames].
    """
    pictures, numbers = [], []
    with FrameStore(store_root) as store:
        for frame in store.frames(split=split):
            if frame.label in labels:
                pictures.append(cv2.resize(store.pixels(frame.id), (SIDE, SIDE)))
                numbers.append(labels.index(frame.label))
    return np.array(pictures, np.float32), np.array(numbers, np.int32)


def weights_bytes(weights: Weights) -> int:
    """What travels each way per round, as bare arrays."""
    return sum(array.nbytes for array in weights)


def average(weights: Sequence[Weights], examples: Sequence[int]) -> Weights:
    """FedAvg: the mean of each array, weighted by the number of examples."""
    shares = np.array(examples, np.float64) / sum(examples)
    return [
        np.asarray(sum(share * array for share, array in zip(shares, arrays, strict=True)), np.float32)
        for arrays in zip(*weights, strict=True)
    ]


def save(path: Path, weights: Weights) -> None:
    """Write weights in their order."""
    with path.open("wb") as file:
        for array in weights:
            np.save(file, array, allow_pickle=False)


def read(path: Path) -> Weights:
    """Read what :func:`save` wrote."""
    weights: Weights = []
    with path.open("rb") as file:
        while file.tell() < path.stat().st_size:
            weights.append(np.load(file, allow_pickle=False))
    return weights


class Client:
    """The tutorial's Flower client.

    Args:
        model: Keras, compiled.
        train: To learn from.
        test: To test on.
    """

    def __init__(self, model: Any, train: Pictures, test: Pictures) -> None:
        order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(train[1]))
        self._model = model
        self._train = (train[0][order], train[1][order])
        self._test = test

    def fit(self, weights: Weights) -> tuple[Weights, int]:
        """Set all weights, train the head through the whole network, give all weights back."""
        self._model.set_weights(weights)
        self._model.fit(*self._train, BATCH, EPOCHS, validation_split=VALIDATION, verbose=0)
        return self._model.get_weights(), len(self._train[1])

    def evaluate(self, weights: Weights) -> tuple[int, int]:
        """Set all weights; (right, frames) on the test pictures."""
        self._model.set_weights(weights)
        _, accuracy = self._model.evaluate(*self._test, verbose=0)
        frames = len(self._test[1])
        return round(accuracy * frames), frames


def build(backbone: Path, labels: int, seed: int) -> Any:
    """The tutorial's model.

    Args:
        backbone: Keras weights of MobileNetV2 1.0, 160 x 160, without top.
        labels: How many.
        seed: Of the head's first weights.
    """
    import keras

    keras.utils.set_random_seed(seed)
    base = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), include_top=False, weights=str(backbone))
    base.trainable = False
    values = keras.layers.GlobalAveragePooling2D()(base.output)
    values = keras.layers.Dense(HIDDEN_UNITS, activation="relu")(values)
    outputs = keras.layers.Dense(labels, activation="softmax")(values)
    model = keras.Model(base.input, outputs)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main(arguments: list[str]) -> int:
    """The client's process: STORE SERVER_STORE BACKBONE LABELS(JSON) SEED."""
    store, server_store, backbone = map(Path, arguments[:3])
    labels, seed = json.loads(arguments[3]), int(arguments[4])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Keras prints must not come between the answers
    model = build(backbone, len(labels), seed)
    train, test = (pictures_of(store, labels, split) for split in ("train", "test"))
    client, server = Client(model, train, test), Client(model, train, pictures_of(server_store, labels, "test"))
    for line in sys.stdin:
        asked = json.loads(line)
        weights = read(Path(asked["weights"])) if "weights" in asked else []
        answer: dict[str, Any] = {}
        if asked["do"] == "start":
            save(Path(asked["to"]), model.get_weights())
            answer = {"bytes": weights_bytes(model.get_weights())}
        elif asked["do"] == "fit":
            (trained, examples), cost = measured(partial(client.fit, weights))
            save(Path(asked["to"]), trained)
            answer = {"examples": examples, **cost}
        elif asked["do"] == "evaluate":
            (right, frames), cost = measured(partial(client.evaluate, weights))
            answer = {"right": right, "frames": frames, **cost}
        elif asked["do"] == "server":  # the tutorial's server does this itself; not counted as the client's
            right, frames = server.evaluate(weights)
            answer = {"right": right, "frames": frames}
        print(json.dumps({**answer, "peak_rss_mb": peak_rss_mb(os.getpid())}), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
