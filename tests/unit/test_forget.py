from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import pytest

from appliance import forget, forget_asking
from appliance.by_hand import camera_lock
from appliance.errors import ConfigError, StoreError
from appliance.files import write_atomically
from appliance.forget import MARKER, PROOF, Proof, begin, is_forgetting, read_proof, wipe
from appliance.forget_account import KINDS
from appliance.forget_asking import Forgetter, forget_by_command, resume
from appliance.join_code import key_fingerprint
from appliance.paths import CameraPaths
from tests.fakes.lived_in import FRAMES, LABELLED, SECRET, lived_in
from tests.fakes.tree import tree_of
from tests.fakes.waiting import wait_until

NAME = "North gate"


@pytest.fixture
def paths(tmp_path: Path, tiny_backbone: bytes) -> CameraPaths:
    return lived_in(tmp_path, tiny_backbone)


def forgotten(paths: CameraPaths, **options: object) -> Proof:
    begin(paths, camera=NAME, by="Ada", **options)  # type: ignore[arg-type]  # the tests' own options
    return wipe(paths)


# Everything goes


def test_nothing_is_left_but_the_proof(paths: CameraPaths, tmp_path: Path) -> None:
    proof = forgotten(paths)
    assert set(tree_of(paths.root)) == {PROOF}
    assert proof.remains == ()
    assert not is_forgetting(paths)
    assert list((tmp_path / "run").iterdir()) == []  # the status, which lay in memory
    assert (tmp_path / "outside" / "not ours").read_bytes() == b"behind a link"


def test_the_proof_says_what_was_there_by_kind(paths: CameraPaths) -> None:
    node_key = key_fingerprint(paths.node_public_key.read_text())
    sizes = {
        path.relative_to(paths.root).as_posix(): path.stat().st_size for path in paths.root.rglob("*") if path.is_file()
    }
    proof = forgotten(paths)
    assert (proof.camera, proof.by, proof.frames, proof.labelled, proof.versions) == (
        NAME,
        "Ada",
        FRAMES,
        LABELLED,
        (1, 2),
    )
    assert proof.fingerprints == {"node.pub": node_key}
    assert set(proof.was) == {*KINDS, "other"}
    assert proof.was["pictures"].files >= FRAMES
    assert proof.was["ledger"].size_bytes == sizes["ledger.jsonl"]
    assert proof.was["events"].files == 2
    assert proof.was["features"].size_bytes >= sizes["class-means-0123456789abcdef.npz"]
    assert proof.was["keys, accounts"].files == 6
    assert proof.asked_utc <= proof.finished_utc


def test_the_proof_is_read_as_it_was_written_and_reads_well(paths: CameraPaths) -> None:
    proof = forgotten(paths)
    assert read_proof(paths) == proof
    assert Proof.from_json(json.loads(json.dumps(proof.to_json()))) == proof
    text = proof.text()
    assert "nothing is left but this proof" in text
    assert "node.pub: SHA-256" in text
    assert "Flash memory may keep copies" in text
    assert "sitecam-server revoke North gate" in text


def test_no_secret_is_in_the_proof(paths: CameraPaths) -> None:
    forgotten(paths)
    assert SECRET not in (paths.root / PROOF).read_bytes()


def test_a_camera_of_no_fleet_has_no_server_that_knows_it(paths: CameraPaths) -> None:
    (paths.fleet / "fleet.json").unlink()
    assert "no server knows it" in forgotten(paths).text()


def test_an_empty_folder_can_be_forgotten_too(tmp_path: Path) -> None:
    proof = forgotten(CameraPaths(tmp_path))
    assert (proof.was, proof.frames, proof.remains) == ({}, 0, ())


def test_it_can_be_forgotten_again_and_the_new_proof_stands(paths: CameraPaths) -> None:
    first, second = forgotten(paths), forgotten(paths)
    assert first.id != second.id
    assert read_proof(paths) == second


# In which order


def test_keys_go_first_overwritten_and_the_proof_comes_last(paths: CameraPaths) -> None:
    steps: list[str] = []
    begin(paths, camera=NAME, by="Ada", step=steps.append)
    wipe(paths, step=steps.append)
    assert steps[0] == "marker"
    assert steps[-2:] == ["proof", "done"]
    first_other = next(index for index, step in enumerate(steps) if step.startswith("gone store"))
    secrets = [index for index, step in enumerate(steps) if "keys/" in step or "joining.json" in step]
    assert max(secrets) < first_other
    for name in ("keys/node.key", "keys/page.key", "keys/accounts.sqlite", "joining.json", "flower/executor.secret"):
        assert steps.index(f"overwritten {name}") < steps.index(f"gone {name}")


def test_a_secret_is_overwritten_in_place_before_it_is_unlinked(paths: CameraPaths, tmp_path: Path) -> None:
    kept = tmp_path / "another name of the same file"
    kept.hardlink_to(paths.page_key)
    forgotten(paths)
    assert len(kept.read_bytes()) == len(SECRET)
    assert kept.read_bytes() != SECRET


# Cut off, damaged, full


def test_a_marker_that_stands_goes_on_and_keeps_its_account(paths: CameraPaths) -> None:
    begun = begin(paths, camera=NAME, by="Ada")
    paths.ledger.unlink()  # the power was cut after this
    assert begin(paths, camera=NAME, by="somebody else").id == begun.id
    proof = resume(paths)
    assert proof is not None
    assert (proof.id, proof.by, proof.was) == (begun.id, "Ada", begun.was)
    assert set(tree_of(paths.root)) == {PROOF}


def test_without_a_marker_nothing_is_wiped(paths: CameraPaths) -> None:
    before = tree_of(paths.root)
    assert resume(paths) is None
    with pytest.raises(StoreError, match="Nobody asked"):
        wipe(paths)
    assert tree_of(paths.root) == before


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b"[]"])
def test_a_damaged_marker_still_asks_and_the_proof_says_that_the_account_is_lost(
    paths: CameraPaths, damage: bytes
) -> None:
    (paths.root / MARKER).write_bytes(damage)
    proof = resume(paths)
    assert proof is not None
    assert "could not be read" in proof.text()
    assert set(tree_of(paths.root)) == {PROOF}


def test_a_damaged_store_is_forgotten_uncounted(paths: CameraPaths) -> None:
    (paths.store / "frames.sqlite").write_bytes(b"no database")
    proof = forgotten(paths)
    assert (proof.frames, proof.labelled, proof.remains) == (None, None, ())


def test_on_a_full_disk_pictures_make_room_for_the_marker(paths: CameraPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def full(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        tries.append(path.name)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data, mode=mode)

    monkeypatch.setattr(forget, "write_atomically", full)
    begin(paths, camera=NAME, by="Ada")
    assert len(list((paths.store / "frames").glob("*/*.jpg"))) == FRAMES - 2
    assert is_forgetting(paths)


def test_a_disk_that_takes_nothing_at_all_forgets_nothing(paths: CameraPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = tree_of(paths.root)
    monkeypatch.setattr(forget, "write_atomically", broken)
    with pytest.raises(OSError, match="Input/output"):
        begin(paths, camera=NAME, by="Ada")
    after = tree_of(paths.root)
    assert {name: after.get(name) for name in before} == before  # counting frames leaves SQLite's own files beside it


def test_what_another_process_goes_on_writing_is_in_the_proof_and_wiped_at_the_next_start(paths: CameraPaths) -> None:
    def writes_again(step: str) -> None:
        if step == "gone ledger.jsonl":
            paths.ledger.write_bytes(b"the night goes on\n")

    begin(paths, camera=NAME, by="Ada")
    proof = wipe(paths, step=writes_again)
    assert proof.remains == ("ledger.jsonl",)
    assert "still there: ledger.jsonl" in proof.text()
    assert "sitecam-night?" in proof.text()
    assert is_forgetting(paths)
    after = resume(paths)
    assert after is not None
    assert after.remains == ()
    assert "sitecam-night?" not in after.text()


# Who asks


@pytest.mark.parametrize("typed", ["", "north gate", "North gate 2"])
def test_whoever_types_another_name_forgets_nothing(paths: CameraPaths, typed: str) -> None:
    before = tree_of(paths.root)
    with pytest.raises(ConfigError, match="not this camera's name"):
        forget_by_command(paths, camera=NAME, typed=typed, by="Ada")
    assert tree_of(paths.root) == before


def test_a_command_does_it_itself_where_no_camera_process_runs(paths: CameraPaths) -> None:
    proof = forget_by_command(paths, camera=NAME, typed=f" {NAME} ", by="Ada")
    assert proof.remains == ()
    assert set(tree_of(paths.root)) == {PROOF}


def test_a_command_asks_the_running_process_and_returns_when_all_is_gone(paths: CameraPaths) -> None:
    order: list[str] = []
    forgetter = Forgetter(paths, NAME, lambda: order.append(f"quiet, keys there: {paths.node_key.exists()}"))

    def camera() -> None:
        """What the camera process does."""
        with camera_lock(paths.root) as mine:
            assert mine
            forgetter.start()
            ready.set()
            wait_until(lambda: forgetter.done)
            order.append(f"end, keys there: {paths.node_key.exists()}, accounts: {paths.accounts.exists()}")
            forgetter.stop()
            resume(paths)

    ready = threading.Event()
    process = threading.Thread(target=camera)
    process.start()
    assert ready.wait(30)
    proof = forget_by_command(paths, camera=NAME, typed=NAME, by="Ada", timeout_s=30)
    process.join(30)
    assert order == ["quiet, keys there: True", "end, keys there: False, accounts: True"]
    assert (proof.by, proof.remains) == ("Ada", ())
    assert set(tree_of(paths.root)) == {PROOF}


def test_a_process_that_does_not_answer_is_said_and_the_request_withdrawn(
    paths: CameraPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forget_asking, "_POLL_S", 0.01)
    with camera_lock(paths.root) as mine:
        assert mine
        with pytest.raises(StoreError, match="did not take the request"):
            forget_by_command(paths, camera=NAME, typed=NAME, by="Ada", timeout_s=0.1)
    assert not (paths.root / "forget-request.json").exists()
    assert paths.node_key.exists()


def test_a_request_that_was_left_for_an_earlier_process_is_void(paths: CameraPaths) -> None:
    (paths.root / "forget-request.json").write_text(json.dumps({"name": NAME, "by": "Ada", "token": "0" * 16}))
    forgetter = Forgetter(paths, NAME, lambda: None)
    forgetter.start()
    forgetter.stop()
    assert not forgetter.done
    assert paths.node_key.exists()


@pytest.mark.parametrize("request_text", ["{", "[]", '{"name": "Another", "by": "x", "token": "y"}'])
def test_a_request_that_makes_no_sense_is_removed_and_the_next_one_is_taken(
    paths: CameraPaths, monkeypatch: pytest.MonkeyPatch, request_text: str
) -> None:
    monkeypatch.setattr(forget_asking, "_POLL_S", 0.01)
    forgetter = Forgetter(paths, NAME, lambda: None)
    forgetter.start()
    request = paths.root / "forget-request.json"
    request.write_text(request_text)
    wait_until(lambda: not request.exists())
    assert not forgetter.done
    whole = request.with_suffix(".new")  # half a request would be another one that makes no sense
    whole.write_text(json.dumps({"name": NAME, "by": "Ada", "token": "0" * 16}))
    whole.replace(request)
    wait_until(lambda: forgetter.done)
    forgetter.stop()


def test_by_the_page_accounts_stay_until_the_process_has_ended(paths: CameraPaths) -> None:
    forgetter = Forgetter(paths, NAME, lambda: None)
    proof = forgetter.forget(NAME, by="Ada")
    assert set(proof.remains) == {"keys/accounts.sqlite", "status.json"}
    assert "goes as its process ends" in proof.text()
    assert forgetter.done
    assert is_forgetting(paths)
    with pytest.raises(StoreError, match="already"):
        forgetter.forget(NAME, by="Bea")
    last = resume(paths)
    assert last is not None
    assert (last.id, last.remains) == (proof.id, ())
    assert set(tree_of(paths.root)) == {PROOF}


def test_a_part_that_can_t_be_stopped_does_not_keep_the_camera_from_being_forgotten(paths: CameraPaths) -> None:
    def stuck() -> None:
        raise StoreError("The recorder did not end")

    forgetter = Forgetter(paths, NAME, stuck)
    with pytest.raises(StoreError, match="did not end"):
        forgetter.forget(NAME, by="Ada")
    assert forgetter.done
    resume(paths)
    assert set(tree_of(paths.root)) == {PROOF}
