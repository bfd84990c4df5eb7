"""The int8 backbone: float32 at its edges, int8 between them, and features that are the float32 one's.

Most tests use a small network, authored once a machine in a process of its own and cached, because TensorFlow takes
seconds and half a gigabyte; one converts the real MobileNetV2, as ``sitecam-server init`` does, and is cached too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance import litert
from appliance.eim.model import Facts, Model
from appliance.frame import Pixels
from appliance.models.head import Array
from appliance.vision import InputSpec
from tests.fakes import parts
from tests.fakes.pictures import scene
from trainer.features import Backbone

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = hashlib.sha256((PROJECT / "trainer" / "graphs.py").read_bytes()).hexdigest()[:16]
CACHE = PROJECT / ".sitecam" / "cache" / "tests"
SHARED = PROJECT.parent / "shared"
WEIGHTS = SHARED / "models" / "mobilenet_v2_1.0_160_imagenet_no_top.weights.h5"
PHOTOS = SHARED / "datasets" / "hardhat"
SIDE = parts.SIDE

# Runs where TensorFlow is: float32 and int8 graphs of one small network, and what it says to pictures of a dark lens.
AUTHOR = """
import sys
from pathlib import Path
import numpy as np
from appliance.errors import ModelError
from trainer import graphs
import keras
out, pictures = Path(sys.argv[1]), np.load(sys.argv[2])
keras.utils.set_random_seed(7)
network = keras.Sequential([
    keras.Input(pictures.shape[1:]),
    keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu6", kernel_initializer="he_normal"),
    keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
    keras.layers.Conv2D(24, 1, activation="relu6", kernel_initializer="he_normal"),
    keras.layers.GlobalAveragePooling2D(),
])
(out / "float32.tflite").write_bytes(graphs.backbone_graph(network))
(out / "int8.tflite").write_bytes(graphs.quantised_backbone_graph(network, pictures))
try:
    graphs.quantised_backbone_graph(network, pictures // 32)
    text = "accepted"
except ModelError as error:
    text = str(error)
(out / "dark.txt").write_text(text)
"""


def shown(seeds: range) -> Pixels:
    """Scenes with black and white in them: uint8 [n, SIDE, SIDE, 3]."""
    pictures = np.stack([scene(seed, width=SIDE, height=SIDE) for seed in seeds])
    pictures[0, 0, :2] = np.array([[0], [255]])
    return pictures


@pytest.fixture(scope="module")
def authored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small network's graphs."""
    folder = CACHE / f"tiny-int8-{SOURCE}-{hashlib.sha256(AUTHOR.encode()).hexdigest()[:8]}"
    if not folder.exists():
        pictures = tmp_path_factory.mktemp("shown") / "pictures.npy"
        np.save(pictures, shown(range(32)))
        fresh = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
        fresh.mkdir(parents=True)
        command = [sys.executable, "-c", AUTHOR, str(fresh), str(pictures)]
        made = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        if "No module named 'keras'" in made.stderr:
            fresh.rmdir()
            pytest.skip("these graphs aren't cached and TensorFlow, which authors them, isn't installed")
        assert made.returncode == 0, made.stderr[-2000:]
        fresh.rename(folder)
    return folder


@pytest.fixture
def int8(authored: Path) -> bytes:
    return (authored / "int8.tflite").read_bytes()


@pytest.fixture
def float32(authored: Path) -> bytes:
    return (authored / "float32.tflite").read_bytes()


def features(graph: bytes, pictures: Pixels) -> Array:
    backbone = Backbone(graph, InputSpec(pictures.shape[2], pictures.shape[1], "fit-shortest"))
    return np.stack([backbone.features(picture) for picture in pictures])


def cosines(some: Array, others: Array) -> Array:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return np.asarray((some * others).sum(axis=1) / lengths, np.float32)


def edges(graph: bytes) -> list[tuple[Any, tuple[int, ...]]]:
    interpreter = litert.load(graph)
    tensors = (*interpreter.get_input_details(), *interpreter.get_output_details())
    return [(tensor["dtype"], tuple(tensor["shape"].tolist())) for tensor in tensors]


@pytest.mark.litert
def test_its_edges_are_those_of_the_float32_backbone(int8: bytes, float32: bytes) -> None:
    assert edges(int8) == edges(float32) == [(np.float32, (1, SIDE, SIDE, 3)), (np.float32, (1, 24))]


@pytest.mark.litert
def test_nothing_between_its_edges_is_floating_point(int8: bytes) -> None:
    interpreter = litert.load(int8)
    at_the_edge = {t["index"] for t in (*interpreter.get_input_details(), *interpreter.get_output_details())}
    inside = [tensor for tensor in interpreter.get_tensor_details() if tensor["index"] not in at_the_edge]
    assert np.int8 in {tensor["dtype"] for tensor in inside}
    assert not [tensor["name"] for tensor in inside if np.issubdtype(tensor["dtype"], np.floating)]


@pytest.mark.litert
def test_every_channel_has_its_own_scale(int8: bytes) -> None:
    scales = [tensor["quantization_parameters"]["scales"] for tensor in litert.load(int8).get_tensor_details()]
    assert {16, 24} <= {len(of_tensor) for of_tensor in scales}


@pytest.mark.litert
def test_all_256_levels_of_a_pixel_reach_the_first_convolution(int8: bytes) -> None:
    """A scaling as its own int8 step would leave 170 of them."""
    tensors = [t for t in litert.load(int8).get_tensor_details() if tuple(t["shape"]) == (1, SIDE, SIDE, 3)]
    steps = [float(tensor["quantization"][0]) for tensor in tensors if tensor["dtype"] is np.int8]
    assert steps == [pytest.approx(1.0)] * len(steps)
    assert steps


@pytest.mark.litert
def test_pictures_that_it_was_never_shown_have_the_features_of_float32(int8: bytes, float32: bytes) -> None:
    unseen = shown(range(100, 120))
    assert cosines(features(int8, unseen), features(float32, unseen)).min() > 0.99


@pytest.mark.litert
def test_the_program_inside_an_eim_takes_it_as_it_is(int8: bytes) -> None:
    from appliance.models.head import Head

    facts = Facts("tests", 1, list(parts.LABELS), SIDE, SIDE, "fit-shortest", 1)
    head = Head.untrained(24, 3, 0, seed=1)
    [picture] = shown(range(1))
    packed = (picture.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)).astype(np.float32).ravel()
    scores = Model(facts, int8, head).scores(packed)[0]
    assert scores == pytest.approx(head.scores(features(int8, picture[np.newaxis]))[0].tolist(), abs=1e-6)


def test_ranges_measured_behind_a_covered_lens_are_refused(authored: Path) -> None:
    text = (authored / "dark.txt").read_text()
    assert text.startswith("The int8 backbone's features are not the float32 one's (mean cosine 0.")
    assert "on noise; 0.9 is the least" in text
    assert "nothing was written" in text
    assert "fleet.representative" in text


@pytest.mark.skipif(not WEIGHTS.exists() or not PHOTOS.exists(), reason="../shared has no weights or no photos")
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow converts the weights")
def test_the_real_backbone_keeps_its_features_at_a_third_of_the_size() -> None:
    """The whole way of ``sitecam-server init``; up to two minutes the first time, then cached."""
    from server.backbone import representative_pictures, resolve

    def say(_: str) -> None:
        pass

    spec = InputSpec(160, 160, "fit-shortest")
    cache = CACHE / f"backbones-{SOURCE}"
    pictures = representative_pictures(PHOTOS / "dataset_server", spec, say)
    float32, int8 = (resolve(WEIGHTS, cache, say, shown).graph for shown in (None, pictures))
    assert len(int8) < len(float32) / 3
    assert edges(int8) == edges(float32) == [(np.float32, (1, 160, 160, 3)), (np.float32, (1, 1280))]
    unseen = representative_pictures(PHOTOS / "dataset_client1", spec, say)[:40]
    assert cosines(features(int8, unseen), features(float32, unseen)).mean() > 0.99  # measured 0.997
