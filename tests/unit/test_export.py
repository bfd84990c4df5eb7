"""The global model as one file: answers as the cameras' model, in both precisions and for Keras; card and command.

The small network's graphs are authored once a machine in a process of its own and cached: TensorFlow takes seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from appliance.eim.pack import pack
from appliance.eim.runner import start_impulse
from appliance.errors import DatasetError, ModelError
from appliance.frame import Pixels
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key, load_signing_key
from server import backbone, cli
from server.backbone import Backbone
from server.config import PrivacySettings, load
from server.convert import Whole
from server.export import one_file
from server.export.graft import graft
from server.export.model_card import Made, card
from server.export.one_file import answers, backbone_of, keras_file, precision_of, tflite
from server.paths import ServerPaths
from server.registry import ModelRecord, Registry, RoundRecord
from tests.fakes import parts
from tests.fakes.pictures import scene
from tests.fakes.site import draw_folders, make_tiny_fleet, write_server_settings
from tests.fakes.tree import tree_of

Output = pytest.CaptureFixture[str]
PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".sitecam" / "cache" / "tests"

AUTHOR = """
import sys
from pathlib import Path
import numpy as np
from appliance.errors import ModelError
from appliance.models.head import Head
from server.export.graft import graft
from trainer import graphs
import keras
out, pictures = Path(sys.argv[1]), np.load(sys.argv[2])
keras.utils.set_random_seed(7)
network = keras.Sequential([
    keras.Input(pictures.shape[1:]),
    keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu6", kernel_initializer="he_normal"),
    keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
    keras.layers.Conv2D(8, 1, activation="relu6", kernel_initializer="he_normal"),
    keras.layers.GlobalAveragePooling2D(),
])
float32 = graphs.backbone_graph(network)
(out / "float32.tflite").write_bytes(float32)
(out / "int8.tflite").write_bytes(graphs.quantised_backbone_graph(network, pictures))
for hidden in (0, 8):
    head = Head.from_arrays([array * 6 for array in Head.untrained(8, 3, hidden, seed=1).arrays])
    (out / "whole.keras").write_bytes(graphs.whole_model(network, head, graft(float32, head)))
    np.save(out / f"keras-{hidden}.npy", keras.models.load_model(out / "whole.keras")(pictures.astype(np.float32)))
try:
    graphs.whole_model(network, head, graft(float32, Head.untrained(8, 3, 8, seed=2)))
    text = "accepted"
except ModelError as error:
    text = str(error)
(out / "another.txt").write_text(text)
"""


def shown(count: int = 32) -> Pixels:
    """Scenes with black and white in them: uint8 [count, SIDE, SIDE, 3]."""
    pictures = np.stack([scene(seed, width=parts.SIDE, height=parts.SIDE) for seed in range(count)])
    pictures[0, 0, :2] = np.array([[0], [255]])
    return pictures


@pytest.fixture(scope="module")
def authored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small network's graphs, and what its Keras models say to :func:`shown`."""
    source = (PROJECT / "trainer" / "graphs.py").read_bytes() + AUTHOR.encode()
    folder = CACHE / f"tiny-export-{hashlib.sha256(source).hexdigest()[:16]}"
    if not folder.exists():
        pictures = tmp_path_factory.mktemp("shown") / "pictures.npy"
        np.save(pictures, shown())
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


class Server:
    """A fleet on one of the small backbones, with labelled test frames, and its command."""

    def __init__(self, root: Path, graph: bytes, *, frames: int = 8) -> None:
        root.mkdir(exist_ok=True)
        self.config = write_server_settings(root / "sitecam-server.toml")
        self.settings = load(self.config)
        make_tiny_fleet(self.settings, graph)
        self.paths = ServerPaths(self.settings.state_dir)
        if frames:
            pictures = draw_folders(root / "pictures", labels=parts.LABELS, seed=1, train=0, test=frames)
            assert self.run("import", str(pictures)) == 0

    def run(self, *arguments: str) -> int:
        return cli.main(["--config", str(self.config), *arguments])

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.paths.models, load_public_key(self.paths.signing_public.read_bytes()))

    def train(self, version: int) -> Manifest:
        """A version that a night made."""
        before = self.shelf.manifest(version - 1)
        head = parts.tiny_head(seed=version).to_bytes()
        manifest = dataclasses.replace(
            before,
            version=version,
            parent=version - 1,
            parts={**before.parts, "head": Part.of(head)},
            metrics={"server_accuracy": 0.9 + version / 100},
            night=f"2026-03-0{version}",
            created_utc=datetime(2026, 3, version, tzinfo=UTC),
        )
        text = manifest.to_bytes()
        self.shelf.accept(text, load_signing_key(self.paths.signing_key).sign(text), {Part.of(head).sha256: head})
        self.shelf.activate(version)
        registry = Registry(self.paths.registry)
        night = registry.begin(str(manifest.night))
        reason = f"better | by {version}"
        registry.put_model(ModelRecord(version, night, version - 1, "published", reason, dict(manifest.metrics)))
        return manifest


def quiet(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def graphs(authored: Path) -> dict[str, bytes]:
    return {name: (authored / f"{name}.tflite").read_bytes() for name in ("float32", "int8")}


@pytest.fixture
def resolved(graphs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> list[Pixels | None]:
    """The weights can be had again; the pictures that were asked with."""
    asked: list[Pixels | None] = []

    def resolve(_: Path | None, cache: Path, say: Callable[[str], None], pictures: Pixels | None = None) -> Backbone:
        assert cache.name == "cache"
        say("resolving")
        asked.append(pictures)
        return Backbone(graphs["float32" if pictures is None else "int8"], "tests")

    monkeypatch.setattr(one_file, "resolve", resolve)
    return asked


# One graph out of two


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("hidden", [0, 8])
def test_the_file_answers_as_the_cameras_eim(
    tmp_path: Path, graphs: dict[str, bytes], precision: str, hidden: int
) -> None:
    graph, head = graphs[precision], parts.tiny_head(hidden_units=hidden)
    part = head.to_bytes()
    eim = tmp_path / "impulse.eim"
    pack(parts.tiny_manifest(graph, part, hidden_units=hidden), graph, part, eim)
    pictures = shown(8)
    with start_impulse(eim) as impulse:
        theirs = np.array([list(impulse.classify(picture).scores.values()) for picture in pictures])
    ours = answers(graft(graph, head), pictures)
    assert ours.shape == (8, 3)
    assert np.abs(ours - theirs).max() < 1e-5
    assert np.ptp(ours, axis=0).max() > 0.01, "pictures that are all the same to it would prove little"


def test_a_file_says_its_output_and_has_every_number_aligned(graphs: dict[str, bytes]) -> None:
    whole = graft(graphs["float32"], parts.tiny_head())
    assert whole[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(whole)
    places = [
        table.Vector(table.Offset(4))
        for table in (model.Buffers(number)._tab for number in range(model.BuffersLength()))
        if table.Offset(4)
    ]
    assert len(places) > 4
    assert [place for place in places if place % 16] == []
    assert model.SignatureDefs(0).Outputs(0).Name() == b"scores"


def test_the_keras_file_answers_as_the_tflite(authored: Path, graphs: dict[str, bytes]) -> None:
    for hidden in (0, 8):
        head = parts.tiny_head(hidden_units=hidden)
        assert (
            np.abs(np.load(authored / f"keras-{hidden}.npy") - answers(graft(graphs["float32"], head), shown())).max()
            < 1e-4
        )


def test_a_keras_file_of_another_head_is_refused(authored: Path) -> None:
    assert "The Keras model's answers differ from the fleet's" in (authored / "another.txt").read_text()


# In the other precision


def test_the_fleets_own_precision_needs_no_weights(tmp_path: Path, graphs: dict[str, bytes]) -> None:
    """No resolve is faked here: the tiny fleet has no weights anywhere."""
    for precision in ("float32", "int8"):
        server = Server(tmp_path / precision, graphs[precision], frames=0)
        manifest = server.shelf.manifest(1)
        data = tflite(server.paths, server.shelf, manifest, precision)
        assert precision_of(data) == precision


def test_int8_is_made_of_the_same_weights_and_the_servers_test_frames(
    tmp_path: Path, graphs: dict[str, bytes], resolved: list[Pixels | None]
) -> None:
    server = Server(tmp_path, graphs["float32"])
    manifest = server.shelf.manifest(1)
    exact = tflite(server.paths, server.shelf, manifest, "float32")
    assert resolved == []
    quantised = tflite(server.paths, server.shelf, manifest, "int8")
    pictures = [each for each in resolved if each is not None]
    assert [each.shape for each in pictures] == [(24, parts.SIDE, parts.SIDE, 3)]
    assert (precision_of(exact), precision_of(quantised)) == ("float32", "int8")
    assert np.abs(answers(exact, shown()) - answers(quantised, shown())).max() < 0.05


def test_int8_pictures_come_from_the_settings_where_they_name_a_folder(
    tmp_path: Path, graphs: dict[str, bytes], resolved: list[Pixels | None]
) -> None:
    server = Server(tmp_path, graphs["float32"], frames=0)
    folder = draw_folders(tmp_path / "shown", labels=parts.LABELS, seed=3, train=6, test=0)
    fleet = dataclasses.replace(server.settings.fleet, representative=folder)
    backbone_of(server.paths, server.shelf, server.shelf.manifest(1), "int8", fleet=fleet)
    assert [len(each) for each in resolved if each is not None] == [18]


def test_too_few_pictures_for_int8_are_counted(tmp_path: Path, graphs: dict[str, bytes]) -> None:
    server = Server(tmp_path, graphs["float32"], frames=2)
    with pytest.raises(DatasetError, match=r"has 6 different test frames, not 16.*--precision float32"):
        tflite(server.paths, server.shelf, server.shelf.manifest(1), "int8")


def test_an_int8_fleet_has_a_float32_file_too(
    tmp_path: Path, graphs: dict[str, bytes], resolved: list[Pixels | None]
) -> None:
    server = Server(tmp_path, graphs["int8"], frames=0)
    data = tflite(server.paths, server.shelf, server.shelf.manifest(1), "float32")
    assert (precision_of(data), resolved) == ("float32", [None])


@pytest.mark.parametrize(("own", "wanted"), [("float32", "int8"), ("int8", "float32")])
def test_weights_of_another_network_are_noticed(
    tmp_path: Path, graphs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, own: str, wanted: str
) -> None:
    server = Server(tmp_path, graphs[own])
    mixed = Head((((np.eye(8)[::-1] * 9).astype(np.float32), np.arange(8, dtype=np.float32)),))
    other = graft(graphs["float32"], mixed)  # eight features of another kind
    monkeypatch.setattr(one_file, "resolve", lambda *_: Backbone(other, "elsewhere"))
    with pytest.raises(ModelError, match=r"other features than the fleet's.*Set fleet\.backbone"):
        tflite(server.paths, server.shelf, server.shelf.manifest(1), wanted)  # type: ignore[arg-type]  # one of both


@pytest.mark.usefixtures("resolved")
def test_keras_is_made_of_the_head_and_held_to_the_tflite(
    tmp_path: Path, graphs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, weights = Server(tmp_path, graphs["float32"], frames=0), tmp_path / "weights.h5"
    weights.write_bytes(b"weights")
    made: list[tuple[tuple[str, ...], Whole | None]] = []

    def convert(*job: str, whole: Whole | None = None) -> bytes:
        made.append((job, whole))
        return b"a Keras file"

    monkeypatch.setattr(backbone, "convert", convert)
    manifest = server.shelf.manifest(1)
    fleet = dataclasses.replace(server.settings.fleet, backbone=weights)
    assert keras_file(server.paths, server.shelf, manifest, fleet=fleet) == b"a Keras file"
    head = server.shelf.part(manifest.parts["head"])
    assert made == [(("weights", str(weights)), Whole(head, graft(graphs["float32"], Head.from_bytes(head))))]
    weights.unlink()
    with pytest.raises(ModelError, match=r"weights\.h5 can't be read"):
        keras_file(server.paths, server.shelf, manifest, fleet=fleet)


# The card


def test_the_card_tells_files_input_nights_and_limits(tmp_path: Path, graphs: dict[str, bytes]) -> None:
    server = Server(tmp_path, graphs["float32"], frames=0)
    server.train(2)
    newest = server.train(3)
    files = [Made("model-3-float32.tflite", "one file", b"12345", 24, 23, 24), Made("model-3.keras", "Keras", b"1")]
    registry = Registry(server.paths.registry)
    text = card(newest, files, registry, server.shelf, PrivacySettings())
    for words in (
        "# tiny site, version 3",
        "in night 2026-03-03",
        "| 5 | 23 of 24 right; 24 named as the cameras' own model does |",
        hashlib.sha256(b"12345").hexdigest(),
        "[1, 32, 32, 3], RGB, **0 to 255**",
        "`fit-shortest`",
        "0 `head`, 1 `hardhat`, 2 `nobody`",
        "| 3 | 2026-03-03 | published | server_accuracy 0.93 | better \\| by 3 |",
        "never left the cameras",
        "No noise was added",
        "no protective device",
    ):
        assert words in text
    nights = text.split("## Training nights")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\d+) ", nights, re.MULTILINE) == ["3", "2", "1"]
    assert "never trained" not in text


def test_the_card_tells_noise_and_that_a_first_version_knows_nothing(tmp_path: Path, graphs: dict[str, bytes]) -> None:
    server = Server(tmp_path, graphs["float32"], frames=0)
    registry = Registry(server.paths.registry)
    text = card(server.shelf.manifest(1), [], registry, server.shelf, PrivacySettings())
    assert "its answers are chance" in text
    assert "was not measured" in text
    noisy = server.train(2)
    night = registry.nights()[0].id
    registry.put_round(night, RoundRecord(1, 1.0, "fedavg", 2, 2, 0, 0, 0.0, epsilon=1.25))
    assert "epsilon 1.25 at delta 1e-05" in card(noisy, [], registry, server.shelf, PrivacySettings())


# The command


@pytest.mark.usefixtures("resolved")
def test_the_command_writes_everything_and_overwrites_nothing(
    tmp_path: Path, graphs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    server, out = Server(tmp_path, graphs["float32"]), tmp_path / "new" / "folder"
    monkeypatch.setattr(one_file, "whole_model", lambda *_: b"a Keras file")
    assert server.run("export", "--out", str(out)) == 0, capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == {
        *("model-1-float32.tflite", "model-1-int8.tflite", "model-1.keras", "labels.txt", "MODEL-CARD.md")
    }
    assert (out / "labels.txt").read_text() == "head\nhardhat\nnobody\n"
    assert "24 named as the cameras' own model does" in (out / "MODEL-CARD.md").read_text()
    (out / "labels.txt").write_text("mine")
    before = tree_of(out)
    assert server.run("export", "--out", str(out), "--format", "tflite", "--precision", "float32") == 2
    assert "--force to replace them" in capsys.readouterr().err
    assert tree_of(out) == before
    assert server.run("export", "--out", str(out), "--format", "tflite", "--precision", "float32", "--force") == 0
    assert (out / "labels.txt").read_text() != "mine"


def test_an_older_version_is_exported_by_its_number(tmp_path: Path, graphs: dict[str, bytes], capsys: Output) -> None:
    server = Server(tmp_path, graphs["float32"], frames=0)
    server.train(2)
    options = ("--format", "tflite", "--precision", "float32", "--out", str(tmp_path / "out"))
    assert server.run("export", "--version", "1", *options) == 0
    assert "version 1" in (tmp_path / "out" / "MODEL-CARD.md").read_text()
    assert server.run("export", "--version", "9", *options) == 1
    assert "Versions here: 1, 2" in capsys.readouterr().err


def test_what_can_not_be_made_leaves_no_folder(tmp_path: Path, graphs: dict[str, bytes], capsys: Output) -> None:
    server = Server(tmp_path, graphs["float32"], frames=0)
    assert server.run("export", "--out", str(tmp_path / "out"), "--format", "tflite") == 1
    assert "0 different test frames" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_a_fleet_there_is_nothing_to_export(tmp_path: Path, capsys: Output) -> None:
    config = write_server_settings(tmp_path / "sitecam-server.toml")
    assert cli.main(["--config", str(config), "export", "--out", str(tmp_path / "out")]) == 1
    assert "Run sitecam-server init" in capsys.readouterr().err
