"""The sitecam-server command: what it prints, and how it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.models.verdict import Verdict
from server import certificates, cli
from server.certificates import renew_tls
from server.config import load
from server.night import EXIT_CODES
from server.paths import ServerPaths
from server.registry import NightRecord, Registry
from server.roster import Roster
from tests.fakes.parts import LABELS
from tests.fakes.site import draw_folders, make_tiny_fleet, write_server_settings
from tests.fakes.tree import tree_of

Output = pytest.CaptureFixture[str]


class Counter:
    """A server's settings and state, and its command."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.config = write_server_settings(root / "sitecam-server.toml")
        self.settings = load(self.config)
        make_tiny_fleet(self.settings, backbone)
        self.paths = ServerPaths(self.settings.state_dir)

    def run(self, *arguments: str) -> int:
        return cli.main(["--config", str(self.config), *arguments])


@pytest.fixture
def server(tmp_path: Path, tiny_backbone: bytes) -> Counter:
    return Counter(tmp_path, tiny_backbone)


def test_a_second_init_says_what_there_is_and_changes_nothing(server: Counter, capsys: Output) -> None:
    before = tree_of(server.paths.root)
    assert server.run("init") == 0
    assert capsys.readouterr().out == "tiny site: version 1, labels head, hardhat, nobody\n"
    assert tree_of(server.paths.root) == before


def test_an_expired_certificate_is_renewed_as_its_message_says(
    server: Counter, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(certificates, "_TLS_DAYS", 1 / 24 / 60)
        renew_tls(server.paths, host="127.0.0.1")  # valid from five minutes ago until four minutes ago
    assert server.run("superlink") == 1
    assert "run sitecam-server init --renew-tls" in capsys.readouterr().err
    assert server.run("init", "--renew-tls") == 0, capsys.readouterr().err
    certificates.check_certificate(server.paths)


def test_a_misspelt_setting_ends_with_2(server: Counter, capsys: Output) -> None:
    server.config.write_text(server.config.read_text() + "quorums = 2\n")
    assert server.run("status") == 2
    assert "Did you mean night.quorum?" in capsys.readouterr().err


def test_enrolling_without_a_superlink_says_to_start_it(server: Counter, tmp_path: Path, capsys: Output) -> None:
    from appliance.fleet import make_node_key
    from appliance.paths import CameraPaths

    key = make_node_key(CameraPaths(tmp_path / "camera"))
    assert server.run("enrol", "gate", str(key), str(tmp_path / "bundle")) == 1
    assert "Start it with sitecam-server superlink" in capsys.readouterr().err


def test_test_frames_come_in_with_a_report(server: Counter, tmp_path: Path, capsys: Output) -> None:
    pictures = draw_folders(tmp_path / "pictures", labels=LABELS, seed=1, train=0, test=2)
    assert server.run("import", str(pictures), "--json") == 0
    assert json.loads(capsys.readouterr().out)["added"] == {"test": dict.fromkeys(LABELS, 2)}
    assert server.run("import", str(tmp_path / "nowhere")) == 1
    assert "There is no folder" in capsys.readouterr().err


def test_status_tells_of_cameras_on_hold_and_of_the_last_night(server: Counter, capsys: Output) -> None:
    roster, registry = Roster(server.paths.registry), Registry(server.paths.registry)
    roster.enrol(7, "gate", "key")
    assert server.run("status") == 0
    assert capsys.readouterr().out == "tiny site: version 1; cameras: gate\n"
    roster.hold("gate", "it sent NaN three nights in a row")
    registry.end(registry.begin("tonight"), "kept", "Version 1 stays", {})
    assert server.run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "fleet": "tiny site",
        "version": 1,
        "cameras": ["gate"],
        "on_hold": {"gate": "it sent NaN three nights in a row"},
        "last": {"night": "tonight", "outcome": "kept", "message": "Version 1 stays"},
    }
    assert server.run("status") == 0
    assert capsys.readouterr().out == (
        "tiny site: version 1; cameras: gate\n"
        "on hold: gate, because it sent NaN three nights in a row. When it is well again: sitecam-server release gate\n"
        "night tonight: kept. Version 1 stays\n"
    )


def test_status_of_a_server_that_was_never_made_makes_none(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking must not start a download of weights."""
    config = write_server_settings(tmp_path / "sitecam-server.toml")
    monkeypatch.setattr("server.fleet_init.resolve", _refuse)
    assert cli.main(["--config", str(config), "status"]) == 1
    assert "sitecam-server init" in capsys.readouterr().err
    assert not (tmp_path / "server").exists()


def _refuse(*_: object) -> None:
    raise AssertionError("weights were looked for")


def test_a_round_without_cameras_says_whom_to_enrol(server: Counter, capsys: Output) -> None:
    assert server.run("round") == 1
    assert "Run sitecam-server code" in capsys.readouterr().err


@pytest.mark.parametrize(("outcome", "code"), EXIT_CODES.items())
def test_a_rounds_outcome_is_its_exit_code_and_its_json(
    server: Counter, capsys: Output, monkeypatch: pytest.MonkeyPatch, outcome: str, code: int
) -> None:
    registry = Registry(server.paths.registry)
    night = registry.begin("tonight")
    verdict = Verdict(2, True, "It held", datetime.now(UTC))
    registry.put_verdict(night, "gate", 2, verdict)
    registry.put_verdict(night, "yard", 2, None)
    record = NightRecord(night, "tonight", outcome, "why", {"rounds": []})

    def hold(_: object, __: object, say: object, *, name: str, only_deploy: bool) -> NightRecord:
        assert (name, only_deploy) == ("tonight", False)
        assert callable(say)
        say("gate is here")
        return record

    monkeypatch.setattr(cli, "hold_night", hold)
    assert server.run("round", "--name", "tonight") == code
    assert capsys.readouterr().out == f"gate is here\n{outcome}: why\n"
    assert server.run("round", "--name", "tonight", "--json") == code
    body = json.loads(capsys.readouterr().out)  # nothing but JSON: programs read it
    assert (body["outcome"], body["message"], body["figures"]) == (outcome, "why", {"rounds": []})
    assert body["verdicts"]["gate"]["reason"] == "It held"
    assert body["verdicts"]["yard"] is None
