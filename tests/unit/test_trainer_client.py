"""What a camera answers at night: its handlers, called as Flower calls them, on a real store and shelf."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from appliance.config import Settings, load
from appliance.errors import NightError
from appliance.models.head import Head
from appliance.models.manifest import Part
from appliance.models.verdict import Verdict, read_verdict, write_verdict
from appliance.night_plan import objection
from appliance.night_status import read_night_status
from appliance.paths import CameraPaths
from appliance.status_file import complaint
from appliance.store.frames import FrameStore, NewFrame
from server.replies import check_means
from tests.fakes import parts
from tests.fakes.fleet import TinyFleet
from tests.fakes.grid import question
from tests.fakes.site import jpeg, tiny_trainer
from trainer import messages
from trainer.client import Camera, client_app
from trainer.head import named_right

Answer = Callable[..., RecordDict]


class Post:
    """A camera on version 1 of a tiny fleet, with six labelled frames of each kind, and a way to ask it."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.fleet = TinyFleet(root, backbone)
        config = root / "sitecam.toml"
        config.write_text(
            'state_dir = "state"\n[camera]\nname = "gate"\n[night]\nswap_deadline_s = 0.5\n[page]\nport = 1\n'
        )
        settings: Settings = load(config)
        paths = CameraPaths(settings.state_dir)
        paths.flower.mkdir(parents=True)
        shelf = self.fleet.shelf(paths.models)
        shelf.accept(*self.version(1))
        shelf.activate(1)
        with FrameStore(paths.store) as store:
            for split, first, count in (("train", 0, 6), ("test", 100, 3)):
                store.add_all(
                    [
                        NewFrame(jpeg(label, seed=first + n), datetime.now(UTC), "import", label, "test", split)  # type: ignore[arg-type]  # "train" or "test"
                        for label in parts.LABELS
                        for n in range(count)
                    ]
                )
        self.camera = Camera(settings, paths, shelf, "tonight", paths.flower / "closing", threading.Event())
        self._app = client_app(self.camera)
        # What every question says of the features and labels that it is about
        self.ground = {"version": 1, "backbone": Part.of(backbone).sha256, "labels": list(parts.LABELS)}

    def version(self, number: int, **changes: Any) -> tuple[bytes, bytes, dict[str, bytes]]:
        """Like the tiny fleet's, with a real training graph."""
        graph = tiny_trainer()
        contents = {
            "backbone": self.fleet.backbone,
            "head": parts.tiny_head(seed=number).to_bytes(),
            "trainer": graph,
        }
        named = {role: Part.of(data) for role, data in contents.items()}
        manifest, signature, _ = self.fleet.version(number, parts=named, **changes)
        return manifest, signature, {named[role].sha256: data for role, data in contents.items()}

    def ask(self, kind: str, *, head: Head | None = None, **config: Any) -> RecordDict:
        """Send a message to the camera's app; the reply's content. A None in the config takes a key away."""
        whole = {name: value for name, value in {**self.ground, **config}.items() if value is not None}
        content = RecordDict({messages.CONFIG: ConfigRecord(whole)})
        if head:
            content[messages.ARRAYS] = messages.head_record(head)
        message = question(content, 7, kind)
        context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})
        return self._app(message, context).content

    def deploy(self, manifest: bytes, signature: bytes, held: dict[str, bytes]) -> Verdict:
        """Send a version; the verdict."""
        config: dict[str, Any] = {"manifest": manifest, "signature": signature, **held, **dict.fromkeys(self.ground)}
        reply = self.ask("query.deploy", **config)
        return Verdict.from_json(str(reply.config_records["config"]["verdict"]))

    @property
    def ledger(self) -> list[dict[str, Any]]:
        """What left the camera."""
        return [json.loads(line) for line in self.camera.paths.ledger.read_text().splitlines()]


@pytest.fixture
def post(tmp_path: Path, tiny_backbone: bytes) -> Post:
    return Post(tmp_path, tiny_backbone)


RECIPE: dict[str, Any] = {"round": 1, "rounds": 2, "epochs": 20, "rate": 0.05, "smoothing": 0.0}


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ({"head": 6, "hardhat": 4}, ""),
        ({"head": 1, "hardhat": 9, "nobody": 0}, ""),
        ({}, "0 labelled frames, fewer than the 10"),
        ({"head": 5, "hardhat": 4}, "9 labelled frames, fewer than the 10"),
        ({"hardhat": 12}, "all 12 labelled frames are hardhat: label some of another kind"),
    ],
)
def test_a_camera_trains_with_enough_frames_of_two_kinds(frames: dict[str, int], reason: str) -> None:
    said = objection(frames, 10)
    assert said.startswith(reason) if reason else said == ""


def test_it_tells_version_counts_and_parts(post: Post) -> None:
    reply = post.ask("query.status")
    status = messages.CameraStatus.from_record(reply.config_records["config"])
    assert (status.name, status.version, status.objection) == ("gate", 1, "")
    assert status.train_frames == dict.fromkeys(sorted(parts.LABELS), 6)
    assert status.test_frames == dict.fromkeys(sorted(parts.LABELS), 3)
    assert status.digests == tuple(post.camera.shelf.digests())


def test_a_camera_that_cannot_train_says_so_and_why(post: Post) -> None:
    with FrameStore(post.camera.paths.store) as store:
        for frame in store.frames(split="train"):
            store.take_back(frame.id)
    assert post.camera.status().objection.startswith("0 labelled frames")


def test_frames_with_a_label_that_the_model_does_not_know_do_not_count(post: Post) -> None:
    with FrameStore(post.camera.paths.store) as store:
        for frame in store.frames(split="train", label="head"):
            store.label(frame.id, "helmet", by="test")
    assert post.camera.status().train_frames == {"hardhat": 6, "nobody": 6}


def test_it_trains_a_head_and_tells_only_the_head_its_frames_and_its_loss(post: Post) -> None:
    reply = post.ask("train", head=parts.tiny_head(), **RECIPE)
    assert set(reply.keys()) == {"arrays", "metrics"}
    assert messages.head_of(reply).to_bytes() != parts.tiny_head().to_bytes()
    metrics = reply.metric_records["metrics"]
    assert set(metrics.keys()) == {"num-examples", "loss"}
    assert metrics["num-examples"] == 18
    status = read_night_status(post.camera.paths.night_status)
    assert (status.phase, status.night, status.round, status.rounds) == ("training", "tonight", 1, 2)


def test_a_trained_head_does_better_on_its_own_test_frames(post: Post) -> None:
    trained = messages.head_of(post.ask("train", head=parts.tiny_head(), **RECIPE))
    metrics = post.ask("evaluate", head=trained).metric_records["metrics"]
    assert metrics["num-examples"] == 9
    assert metrics["correct"] == 9
    before = metrics["correct_before"]
    assert isinstance(before, int)
    assert before < 9


def test_a_test_tells_how_many_frames_the_running_head_had_right_and_the_new_one_has_wrong(post: Post) -> None:
    running, other = parts.tiny_head(seed=1), parts.tiny_head(seed=5)
    known = post.camera.examples("test")
    before, after = named_right(running, known), named_right(other, known)
    metrics = post.ask("evaluate", head=other).metric_records["metrics"]
    assert set(metrics) == {"num-examples", "loss", "correct", "correct_before", "lost"}
    assert (metrics["correct"], metrics["correct_before"]) == (after.sum(), before.sum())
    assert metrics["lost"] == (before & ~after).sum()


QUESTIONS = ["train", "evaluate", "query.means"]


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_camera_that_kept_its_older_version_takes_part_as_long_as_the_backbone_is_the_same(
    post: Post, kind: str
) -> None:
    assert "metrics" in post.ask(kind, head=parts.tiny_head(), **{**RECIPE, "version": 5})


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("backbone", [None, "", "0" * 64, 3])
def test_a_question_about_another_backbone_is_not_answered(post: Post, kind: str, backbone: object) -> None:
    with pytest.raises(NightError, match="asks about another backbone than that of version 1"):
        post.ask(kind, head=parts.tiny_head(), **{**RECIPE, "backbone": backbone})


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("labels", [None, "head", list(reversed(parts.LABELS)), ["head", "hardhat"]])
def test_a_question_about_other_labels_is_not_answered(post: Post, kind: str, labels: object) -> None:
    with pytest.raises(NightError, match="asks about other labels than head, hardhat, nobody"):
        post.ask(kind, head=parts.tiny_head(), **{**RECIPE, "labels": labels})


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_head_of_another_shape_is_not_worked_on(post: Post, kind: str) -> None:
    for head in (parts.tiny_head(hidden_units=4), parts.tiny_head(labels=2)):
        with pytest.raises(NightError, match="this camera's for 8, 3 and 0"):
            post.ask(kind, head=head, **RECIPE)
    with pytest.raises(NightError, match="without its head"):
        post.ask(kind, **RECIPE)


def test_the_proximal_term_holds_a_head_to_where_it_started(post: Post) -> None:
    start = parts.tiny_head()

    def moved(**more: Any) -> float:
        trained = messages.head_of(post.ask("train", head=start, **RECIPE, **more))
        return sum(float(np.abs(a - b).sum()) for a, b in zip(trained.arrays, start.arrays, strict=True))

    assert moved() == moved(proximal=0.0) > 5 * moved(proximal=100.0) > 0


def test_class_means_are_sums_of_this_cameras_training_frames(post: Post) -> None:
    reply = post.ask("query.means")
    known = post.camera.examples("train")
    arrays, metrics = reply.array_records["arrays"], reply.metric_records["metrics"]
    assert (set(reply.keys()), list(arrays), set(metrics)) == ({"arrays", "metrics"}, ["sums", "counts"], {"squares"})
    features = known.features[:, 0]
    expected = [features[known.labels == index].sum(axis=0) for index in range(3)]
    np.testing.assert_allclose(arrays["sums"].numpy(), expected, rtol=1e-5)
    assert arrays["counts"].numpy().tolist() == [6, 6, 6]
    assert metrics["squares"] == pytest.approx(float(np.square(features, dtype=np.float64).sum()))
    assert check_means(Message(reply, reply_to=question(RecordDict(), 7, "query.means")), 3, 8, max_examples=18)


def test_class_means_are_never_computed_twice_because_their_difference_would_be_a_frame(post: Post) -> None:
    first = post.ask("query.means")
    with FrameStore(post.camera.paths.store) as store:
        store.add_all([NewFrame(jpeg("head", seed=77), datetime.now(UTC), "import", "head", "test", "train")])
    assert len(post.camera.examples("train")) == 19
    again = post.ask("query.means")
    for name in ("sums", "counts"):
        assert again.array_records["arrays"][name].data == first.array_records["arrays"][name].data
    assert dict(again.metric_records["metrics"]) == dict(first.metric_records["metrics"])


def test_a_camera_with_too_few_frames_of_every_kind_gives_no_means(post: Post) -> None:
    with FrameStore(post.camera.paths.store) as store:
        for label in parts.LABELS:
            for frame in list(store.frames(split="train", label=label))[:2]:
                store.take_back(frame.id)
    with pytest.raises(NightError, match="No label has 5 frames here"):
        post.ask("query.means")
    assert not list(post.camera.paths.root.glob("class-means*"))


def test_the_server_hears_what_is_wrong_with_the_live_loop(post: Post) -> None:
    assert post.camera.status().health == complaint(post.camera.settings.state_dir) != ""
    assert post.camera.status().backbone == Part.of(post.fleet.backbone).sha256


def test_what_leaves_is_in_the_ledger_before_it_leaves(post: Post) -> None:
    post.ask("query.status")
    reply = post.ask("train", head=parts.tiny_head(), **RECIPE)
    means = post.ask("query.means")
    status, train, summed = post.ledger
    assert (status["kind"], train["kind"], summed["kind"]) == ("query.status", "train", "query.means")
    for line, sent in ((train, reply), (summed, means)):
        assert [entry["size_bytes"] for entry in line["arrays"]] == [
            len(array.data) for array in sent.array_records["arrays"].values()
        ]


def test_a_version_that_the_live_loop_accepts_gives_its_verdict(post: Post) -> None:
    verdict = Verdict(2, True, "Version 2 runs", datetime.now(UTC))
    write_verdict(post.camera.paths.models, verdict)  # as the camera process does once it has swapped
    assert post.deploy(*post.version(2)) == verdict
    assert post.camera.shelf.versions() == [1, 2]
    assert post.camera.shelf.offered == 2


def test_a_camera_process_that_is_not_there_is_named_and_the_offer_stays(post: Post) -> None:
    verdict = post.deploy(*post.version(2))
    assert (verdict.accepted, verdict.final) == (False, False)  # nobody has tried it
    assert "Is sitecam-camera running?" in verdict.reason
    assert post.camera.shelf.offered == 2
    assert read_verdict(post.camera.paths.models, 2) is None  # the loop may still accept it


def test_a_version_that_somebody_else_signed_is_refused_with_a_reason(post: Post, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    other = TinyFleet(stranger, post.fleet.backbone)
    manifest, _, held = post.version(2)
    verdict = post.deploy(manifest, other.sign(manifest), held)
    assert (verdict.accepted, verdict.final) == (False, True)
    assert "not this fleet's" in verdict.reason
    assert (post.camera.shelf.versions(), post.camera.shelf.offered) == ([1], None)


def test_a_version_with_a_damaged_part_is_refused_with_a_reason(post: Post) -> None:
    manifest, signature, held = post.version(2)
    head = Part.of(parts.tiny_head(seed=2).to_bytes()).sha256
    verdict = post.deploy(manifest, signature, {**held, head: b"rubbish"})
    assert not verdict.accepted
    assert "damaged" in verdict.reason
    assert post.camera.shelf.offered is None


def test_only_the_missing_parts_need_to_come(post: Post) -> None:
    manifest, signature, held = post.version(2)
    head = Part.of(parts.tiny_head(seed=2).to_bytes()).sha256
    post.deploy(manifest, signature, {head: held[head]})
    assert post.camera.shelf.versions() == [1, 2]


def test_a_model_without_a_manifest_is_refused(post: Post) -> None:
    with pytest.raises(NightError, match="without its manifest"):
        post.ask("query.deploy", manifest="text", signature=b"")


def test_the_end_of_the_night_is_passed_on(post: Post) -> None:
    assert not post.camera.closing.exists()
    post.ask("query.close")
    assert post.camera.closing.exists()


def test_a_night_that_is_stopped_abandons_the_frames_it_looks_at(post: Post) -> None:
    post.camera.stopping.set()
    with pytest.raises(NightError, match="was stopped"):
        post.camera.examples("train")


def lessons(post: Post) -> dict[str, int]:
    with FrameStore(post.camera.paths.store) as store:
        return dict(store.rows("SELECT night, COUNT(*) FROM lessons GROUP BY night"))


def test_the_frames_that_a_night_learns_from_are_noted_under_the_name_that_its_version_will_bear(post: Post) -> None:
    post.ask("train", head=parts.tiny_head(), **RECIPE, night="Tuesday")
    post.ask("train", head=parts.tiny_head(), **RECIPE, night="Tuesday")
    assert lessons(post) == {"Tuesday": 6 * len(parts.LABELS)}
    with FrameStore(post.camera.paths.store) as store:
        tested = {frame.id for frame in store.frames(split="test")}
        assert not tested & {row[0] for row in store.rows("SELECT frame FROM lessons")}


@pytest.mark.parametrize("night", [None, "", 7, "two\nlines", "A" * 1000])
def test_a_server_that_names_no_night_has_its_lessons_noted_under_this_camera_s(post: Post, night: object) -> None:
    post.ask("train", head=parts.tiny_head(), **RECIPE, night=night)
    assert list(lessons(post)) == ["tonight"]


def test_a_test_of_a_head_and_a_question_of_how_it_is_teach_nobody(post: Post) -> None:
    post.ask("query.status")
    post.ask("evaluate", head=parts.tiny_head())
    assert lessons(post) == {}


def test_means_that_are_given_away_are_a_lesson_too(post: Post) -> None:
    post.ask("query.means", night="Monday")
    assert lessons(post) == {"Monday": 6 * len(parts.LABELS)}
