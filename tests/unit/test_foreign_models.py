"""An .eim from elsewhere on the shelf: its labels, its signature, its number, and what must not come of it."""

from __future__ import annotations

import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from appliance import cli, models_view
from appliance.calibration import rules_for
from appliance.canary import _best
from appliance.eim.cell import CellState
from appliance.eim.label_map import LabelMap, map_path, read_label_map
from appliance.eim.replies import ImpulseInfo
from appliance.eim.runner import Answer
from appliance.errors import (
    ConfigError,
    ImpulseGarbledError,
    ManifestError,
    ModelError,
    NotAnImpulseError,
    SignatureError,
)
from appliance.judge import judge
from appliance.labelling.model import ModelView
from appliance.models import foreign, foreign_cli
from appliance.models.foreign import Found, add, look_at, map_labels
from appliance.models.foreign_cli import described, read_map
from appliance.models.manifest import FIRST_LOCAL, Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_signing_key, new_signing_key
from appliance.models.verdict import Verdict, newest_verdict, write_verdict
from appliance.staging import is_intact, stage
from appliance.vision import InputSpec
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from tests.fakes.foreign_eim import REFUSED, SHAPES, write_foreign
from tests.fakes.parts import LABELS
from tests.fakes.swap_bench import FullDisk
from tests.fakes.visiting import state_of
from tests.fakes.waiting import wait_until

INFO = ImpulseInfo("helmets", 3, ("hat", "head"), InputSpec(96, 96, "squash"), has_shared_memory=False)
THEIRS = {"hat": "hardhat", "head": "head"}


@pytest.fixture
def fleet(tmp_path: Path, tiny_backbone: bytes) -> TinyFleet:
    return TinyFleet(tmp_path, tiny_backbone)


@pytest.fixture
def shelf(fleet: TinyFleet, tmp_path: Path) -> Shelf:
    """Version 1, the factory's, runs."""
    made = fleet.shelf(tmp_path / "models", 1)
    made.note_factory(1)
    return made


def put(shelf: Shelf, data: bytes = b"an .eim", *, name: str = "") -> Manifest:
    key = shelf.root.parent / "keys" / "local.key"
    return add(shelf, key, Found(INFO, data), labels=LABELS, theirs=THEIRS, name=name, fleet="test fleet")


# Labels


def test_labels_are_mapped_by_name_whatever_their_case_spaces_dashes_and_underscores() -> None:
    mapped = map_labels(["Hard Hat", "HEAD", "no-body", "nobody"], LABELS, {})
    assert mapped == {"Hard Hat": "hardhat", "HEAD": "head", "no-body": "nobody", "nobody": "nobody"}


def test_an_unknown_label_is_an_error_that_says_how_to_map_it() -> None:
    with pytest.raises(ConfigError, match=r"means by vest, background\. Nothing was written\..*--map 'vest=LABEL'"):
        map_labels(["head", "vest", "background"], LABELS, {})


def test_a_label_may_count_for_one_of_another_name_or_for_none() -> None:
    given = {"vest": "hardhat", "background": "", "head": "nobody"}
    assert map_labels(["head", "vest", "background"], LABELS, given) == given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"hut": "hardhat"}, "no label 'hut'. Its labels: head"),
        ({"head": "helmet"}, "no label 'helmet' here. Ours: head, hardhat, nobody"),
        ({"head": ""}, "counts for none of ours"),
    ],
)
def test_a_map_that_means_nothing_is_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        map_labels(["head"], LABELS, given)


def test_map_options_are_read_and_a_useless_one_is_named() -> None:
    assert read_map(["a=b", "a=b=c", "d="]) == {"a": "b", "a=b": "c", "d": ""}
    for options in (["head"], ["=head"], ["a=b", "a=c"]):
        with pytest.raises(ConfigError, match=options[-1]):
            read_map(options)


def test_scores_of_labels_that_mean_the_same_are_added_and_those_of_none_are_left_out() -> None:
    theirs = {"hat": "hardhat", "helmet": "hardhat", "head": "head", "wall": ""}
    scores = LabelMap("x", FIRST_LOCAL, LABELS, theirs).scores({"hat": 0.3, "helmet": 0.2, "head": 0.1, "wall": 0.4})
    assert scores == pytest.approx({"head": 0.1, "hardhat": 0.5, "nobody": 0.0})
    assert list(scores) == list(LABELS)


def test_an_eim_with_other_labels_than_were_mapped_is_not_believed(tmp_path: Path) -> None:
    label_map = LabelMap("x", FIRST_LOCAL, LABELS, {"hat": "hardhat"})
    with pytest.raises(ImpulseGarbledError, match="has the labels hat, head, not hat"):
        label_map.info(INFO, "x.eim")
    eim = tmp_path / "x.eim"
    assert read_label_map(eim) is None
    map_path(eim).write_bytes(b"{}")
    with pytest.raises(NotAnImpulseError, match="Nobody knows what the answers would mean"):
        read_label_map(eim)


# The file


def test_a_file_for_another_processor_is_named_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "theirs.eim"
    other, number = ("aarch64", 183) if platform.machine() == "x86_64" else ("x86_64", 62)
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + number.to_bytes(2, "little") + bytes(100))
    with pytest.raises(NotAnImpulseError, match=f"was built for {other}, this machine is {platform.machine()}"):
        look_at(path, lambda _: pytest.fail("it was started"))


def test_a_file_too_large_for_a_camera_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_foreign(tmp_path / "theirs.eim", SHAPES["2022"])
    monkeypatch.setattr(foreign, "MOST_BYTES", 10)
    with pytest.raises(NotAnImpulseError, match="don't fit a camera's memory"):
        look_at(path, lambda _: pytest.fail("it was started"))


# The shelf


def test_a_local_version_has_a_number_that_no_night_meets_and_leaves_the_fleet_s_pointers(shelf: Shelf) -> None:
    made = put(shelf, name="Helmets of 2023")
    assert made.version == FIRST_LOCAL
    read = shelf.manifest(made.version)
    assert read == made
    assert read.foreign
    assert (read.foreign.name, read.foreign.labels, read.input) == ("Helmets of 2023", THEIRS, INFO.input)
    assert (shelf.current, shelf.highest, shelf.offered, shelf.factory) == (1, 1, None, 1)
    assert "It never says nobody." in described(read)


def test_the_same_file_again_is_the_same_version_and_another_map_another(shelf: Shelf) -> None:
    first = put(shelf)
    (shelf.root / "parts" / first.parts["impulse"].sha256).write_bytes(b"damaged")
    assert put(shelf) == first
    assert shelf.part(first.parts["impulse"]) == b"an .eim"
    assert put(shelf, name="another").version == FIRST_LOCAL + 1


def test_a_number_is_not_used_twice(shelf: Shelf) -> None:
    write_verdict(shelf.root, Verdict(FIRST_LOCAL + 4, False, "It was bad", datetime.now(UTC)))
    assert put(shelf).version == FIRST_LOCAL + 5


def test_a_manifest_of_the_fleet_reads_as_before(shelf: Shelf) -> None:
    text, _ = shelf.signed_manifest(1)
    assert b"foreign" not in text
    assert Manifest.from_bytes(text).to_bytes() == text


def test_the_network_cannot_bring_a_local_version_not_even_the_fleet_s_own(shelf: Shelf, fleet: TinyFleet) -> None:
    made = put(shelf)
    text, signature = shelf.signed_manifest(made.version)
    with pytest.raises(SignatureError):
        shelf.accept(text, signature, {})
    by_fleet = load_signing_key(shelf.root.parent / "fleet-signing.key").sign(text)
    with pytest.raises(ManifestError, match="came over the network"):
        shelf.accept(text, by_fleet, {})
    with pytest.raises(ManifestError, match="camera's own, and no others"):
        fleet.version(FIRST_LOCAL)


def test_a_local_version_that_was_changed_on_disk_is_not_used(shelf: Shelf, tmp_path: Path) -> None:
    made = put(shelf)
    path = shelf.root / "versions" / str(made.version) / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"hardhat", b"hardhut"))
    with pytest.raises(SignatureError, match="not this camera's own"):
        shelf.manifest(made.version)
    shelf.local_key.unlink()
    with pytest.raises(ModelError, match=r"Add the \.eim again"):
        shelf.manifest(made.version)
    new_signing_key(tmp_path / "keys" / "local.key")
    assert put(shelf).version == made.version + 1


@pytest.mark.parametrize("at", ["manifest.json", "manifest.sig", "local.pem"])
def test_a_full_disk_leaves_the_shelf_as_it_was_and_the_same_command_goes_on(shelf: Shelf, at: str) -> None:
    disk = FullDisk(at)
    with disk.mounted(), pytest.raises(OSError, match="No space"):
        put(shelf)
    assert disk.refused
    assert shelf.versions() == [1]
    assert put(shelf).version == FIRST_LOCAL
    assert shelf.versions() == [1, FIRST_LOCAL]


def test_what_is_staged_is_the_file_itself_with_its_map_and_damage_to_either_shows(shelf: Shelf) -> None:
    made = put(shelf)
    path = stage(shelf, made, threads=1)
    assert path.read_bytes() == b"an .eim"
    assert path.stat().st_mode & 0o777 == 0o755
    told = read_label_map(path)
    assert told == LabelMap("helmets", made.version, LABELS, THEIRS)
    assert is_intact(path)
    map_path(path).write_bytes(map_path(path).read_bytes().replace(b'"hat": "hardhat"', b'"hat": "nobody"'))
    assert not is_intact(path)
    stage(shelf, made, threads=1)
    assert is_intact(path)
    map_path(path).unlink()
    assert not is_intact(path)
    shelf.tidy()
    assert not path.exists()


# What the rest makes of it


def test_nights_go_on_from_the_fleet_s_version_and_only_newer_ones_may_be_offered(
    shelf: Shelf, fleet: TinyFleet
) -> None:
    shelf.accept(*fleet.version(2))
    shelf.activate(2)
    first, second = put(shelf), put(shelf, name="another")
    shelf.activate(first.version)
    assert (shelf.fleet_version, shelf.may_be_offered(1), shelf.may_be_offered(2)) == (2, False, True)
    write_verdict(shelf.root, Verdict(2, True, "It answered", datetime.now(UTC)))
    shelf.activate(second.version)
    assert shelf.previous == first.version
    assert shelf.fleet_version == 2
    assert shelf.may_be_offered(first.version)
    assert not shelf.may_be_offered(FIRST_LOCAL + 9)


def test_the_newest_verdict_is_the_one_that_was_decided_later(shelf: Shelf) -> None:
    write_verdict(shelf.root, Verdict(FIRST_LOCAL, True, "local", datetime(2026, 1, 2, tzinfo=UTC)))
    assert (newest_verdict(shelf.root) or pytest.fail("none")).reason == "local"
    write_verdict(shelf.root, Verdict(7, True, "fleet's", datetime(2026, 1, 3, tzinfo=UTC)))
    assert (newest_verdict(shelf.root) or pytest.fail("none")).reason == "fleet's"


def test_without_features_the_score_alone_decides_and_that_is_said(shelf: Shelf, tmp_path: Path) -> None:
    version = put(shelf).version
    rules = rules_for(tmp_path / "store", shelf, version, sure_above=0.8, familiar=True)
    assert (rules.familiarity, rules.thresholds) == (None, {})
    assert "tells nothing about how familiar a frame is" in rules.sentences[0]
    view = ModelView(shelf, lambda: version)
    assert (view.labels, view.recipe(version)) == (LABELS, "")
    with pytest.raises(ManifestError, match="has no head"):
        view.head(version)


def test_a_frame_that_counts_for_none_of_our_labels_is_named_nothing_by_the_judge() -> None:
    assert _best(Answer({"head": 0.1, "hardhat": 0.3}, 1)) == ""
    assert _best(Answer({"head": 0.2, "hardhat": 0.5}, 1)) == "hardhat"
    assert _best(Answer({"head": 0.4, "hardhat": 0.6000001}, 1)) == "hardhat"
    assert "whose word counts" in judge([], [], [], margin=0.05, counts="whose word").sentence


def test_the_list_names_it(shelf: Shelf) -> None:
    put(shelf, name="Helmets of 2023")
    first, second = models_view.rows(shelf)
    assert (first.local, second.local) == (None, "Helmets of 2023")
    assert "(local)" in second.line()
    assert "Helmets of 2023" in second.line()


# The command


@pytest.fixture
def config(tmp_path: Path, fleet: TinyFleet) -> Path:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    return replay(tmp_path, fleet, page_port=port, rate_fps=5)


def test_the_command_leaves_it_to_the_next_start_where_no_camera_runs(
    config: Path, tmp_path: Path, fleet: TinyFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    eim = write_foreign(tmp_path / "theirs.eim", SHAPES["2023-more-labels"])
    eim.chmod(0o644)  # as Studio's downloads are
    command = ["--config", str(config), "models", "add", str(eim), "--name", "Helmets"]
    assert cli.main(command) == 2
    assert "--map 'background=LABEL'" in capsys.readouterr().err
    shelf = Shelf(tmp_path / "state" / "models", fleet.public_key)
    assert (shelf.versions(), shelf.local_key.exists()) == ([1], False)
    for _ in range(2):
        assert cli.main([*command, "--map", "background=", "--map", "vest=hardhat"]) == 0
        said = capsys.readouterr().out
        assert "Helmets is version 1000000" in said
        assert "background counts for none of our labels" in said
        assert "will be tried as soon as the camera runs" in said
    assert (shelf.offered, shelf.versions()) == (FIRST_LOCAL, [1, FIRST_LOCAL])
    assert cli.main(["--config", str(config), "models", "list"]) == 0
    assert "waits (local)" in capsys.readouterr().out


def test_the_command_goes_through_the_running_camera_and_tells_its_verdict(
    tmp_path: Path, fleet: TinyFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    more = "[model]\nsoak_decisions = 5\n"
    config = replay(tmp_path, fleet, page_port=port, rate_fps=50, more=more)
    shelf = Shelf(tmp_path / "state" / "models", fleet.public_key)
    eim = write_foreign(tmp_path / "theirs.eim", SHAPES["2026-squash-grey"])
    command = [sys.executable, "-m", "appliance.cli", "--config", str(config), "camera"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: bool(state_of(config)))
            code = cli.main(["--config", str(config), "models", "add", str(eim)])
            said = capsys.readouterr()
        finally:
            process.terminate()
            _, log = process.communicate(timeout=60)
    assert code == 0, said.err + log
    assert f"Version {FIRST_LOCAL} runs. It answered every probe and 5 live frames." in said.out
    assert (shelf.current, shelf.previous) == (FIRST_LOCAL, 1)
    assert "Traceback" not in log


def test_the_command_refuses_what_is_no_classification_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    before = sorted(path for path in (state / "models").rglob("*"))
    eim = write_foreign(tmp_path / "theirs.eim", REFUSED["fomo"][0])
    assert cli.main(["--config", str(config), "models", "add", str(eim)]) == 1
    assert "constrained object detection, not for classification" in capsys.readouterr().err
    assert sorted(path for path in (state / "models").rglob("*")) == before
    with patch.object(foreign_cli, "look_at", side_effect=AssertionError):
        assert cli.main(["--config", str(config), "models", "add", str(eim), "--map", "head"]) == 2


def test_the_command_says_so_where_no_cell_holds_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_cli, "cell_state", lambda: CellState(False, "Not here."))
    eim = write_foreign(tmp_path / "theirs.eim", SHAPES["2022"])
    assert cli.main(["--config", str(config), "models", "add", str(eim)]) == 0
    assert "Not here: it sees what the camera's user sees" in capsys.readouterr().out
