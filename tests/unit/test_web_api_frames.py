"""The labelling routes as the page uses them: queue, answers, review, data, captures and uploads, and who may what."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from PIL import Image

from appliance.labelling.upload import LONGEST_SIDE
from appliance.learn_empty import REQUEST
from appliance.vision import decode
from tests.fakes.labelling import add
from tests.fakes.labelling_page import Page, labelling_page
from tests.fakes.pictures import encoded, scene

NOBODY = "0" * 32


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with labelling_page(tmp_path) as made:
        yield made


# The queue and its answers


def test_the_queue_names_frames_words_and_labels_but_not_what_the_model_thinks(page: Page) -> None:
    for seed in range(5):
        add(page.store, seed)
    queue = page.get("/api/queue")
    assert (queue["asked"], queue["done_today"], queue["words"]) == (3, 0, "3 frames today, less than a minute")
    assert queue["labels"][0] == {"name": "head", "words": "bare head", "key": "1"}
    assert [set(each) for each in queue["frames"]] == [
        {"id", "taken", "taken_utc", "width", "height", "reason", "reason_words"}
    ] * 3
    assert queue["frames"][0]["reason_words"] == "hard for the model"


def test_a_dozen_is_labelled_and_the_count_goes_up(page: Page) -> None:
    for seed in range(3):
        add(page.store, seed)
    for number, frame in enumerate(page.get("/api/queue")["frames"], start=1):
        answer = page.post(f"/api/frames/{frame['id']}/label", {"label": "head"})
        assert (answer["done_today"], answer["frame"]["label"], answer["frame"]["labelled_by"]) == (
            *(number, "head", "Ada"),
        )
    assert page.get("/api/queue")["frames"] == []


def test_an_unknown_label_is_refused_with_the_nearest_one(page: Page) -> None:
    frame_id = add(page.store, 1)
    answer = page.post(f"/api/frames/{frame_id}/label", {"label": "hardhet"}, status=422)
    assert answer["error"]["do"] == "Did you mean hardhat?"


def test_skip_unclear_and_undo_go_round_trip(page: Page) -> None:
    frame_id = add(page.store, 1)
    assert page.post(f"/api/frames/{frame_id}/skip")["frame"]["skipped"] == 1
    assert page.post(f"/api/frames/{frame_id}/unclear")["frame"]["unclear"]
    assert not page.post(f"/api/frames/{frame_id}/undo")["frame"]["unclear"]
    assert page.post(f"/api/frames/{frame_id}/undo")["frame"]["skipped"] == 0
    assert "nothing of yours" in page.post(f"/api/frames/{frame_id}/undo", status=409)["error"]["what"]


def test_undo_belongs_to_the_one_who_answered(page: Page) -> None:
    frame_id = add(page.store, 1)
    page.post(f"/api/frames/{frame_id}/label", {"label": "head"})
    page.name = "Bo"
    page.post(f"/api/frames/{frame_id}/undo", status=409)
    page.name = "Ada"
    assert page.post(f"/api/frames/{frame_id}/undo")["frame"]["label"] is None


@pytest.mark.parametrize(
    "body", [{"label": ""}, {"label": "x" * 101}, {"label": "head", "by": "Eve"}, {}, {"label": 3}]
)
def test_a_body_that_doesn_t_fit_changes_nothing(page: Page, body: object) -> None:
    frame_id = add(page.store, 1)
    page.post(f"/api/frames/{frame_id}/label", body, status=422)
    assert page.store.frame(frame_id).label is None


# Pictures


def test_picture_and_thumbnail_are_jpeg_files_and_never_cached(page: Page) -> None:
    frame_id = add(page.store, 1)
    assert page.get(f"/api/frames/{frame_id}/picture") == page.store.jpeg(frame_id)
    assert decode(page.get(f"/api/frames/{frame_id}/thumbnail")).shape[1] <= 320


@pytest.mark.parametrize("what", ["picture", "thumbnail"])
def test_what_isn_t_there_is_not_found(page: Page, what: str) -> None:
    assert page.get(f"/api/frames/{NOBODY}/{what}", status=404)["error"]["what"] == f"There is no frame {NOBODY}"
    deleted = add(page.store, 1)
    page.store.delete(deleted)
    page.get(f"/api/frames/{deleted}/{what}", status=404)


def test_a_disk_too_full_for_a_thumbnail_still_shows_the_picture(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> bytes:
        raise OSError(28, "No space left on device")

    frame_id = add(page.store, 1)
    monkeypatch.setattr(page.store, "thumbnail", refuse)
    assert page.get(f"/api/frames/{frame_id}/thumbnail") == page.store.jpeg(frame_id)


def test_a_disk_too_full_for_an_upload_says_so(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page.store, "add_all", refuse)
    assert "No space left" in _upload(page, encoded(scene(1)), status=409)["error"]["what"]


@pytest.mark.parametrize(
    "frame_id", ["..%2f..%2fetc", "%2e%2e", "A" * 32, "0" * 31, "0" * 33, f"{'0' * 32}%00", f"{'0' * 32}%0a", "x" * 32]
)
def test_what_is_no_id_never_becomes_a_path(page: Page, frame_id: str) -> None:
    for path in ("picture", "thumbnail"):
        assert page.response("GET", f"/api/frames/{frame_id}/{path}").status_code in (404, 422)


# Looking through


def test_lists_are_narrowed_and_paged(page: Page) -> None:
    ids = [add(page.store, seed) for seed in range(5)]
    page.store.label(ids[0], "head", by="Bo")
    first = page.get("/api/frames?count=3")
    assert [each["id"] for each in first["frames"]] == ids[:1:-1]
    assert first["more"]
    rest = page.get(f"/api/frames?count=3&before={first['frames'][-1]['id']}")
    assert [each["id"] for each in rest["frames"]] == ids[1::-1]
    assert not rest["more"]
    (labelled,) = page.get("/api/frames?state=labelled&label=head")["frames"]
    assert (labelled["labelled_by"], labelled["guess"], labelled["score"], labelled["version"]) == (
        "Bo",
        "head",
        0.5,
        1,
    )
    for wrong in ("count=0", "count=201", "state=all", "split=both", "before=x", f"label={'x' * 101}"):
        page.get(f"/api/frames?{wrong}", status=422)


def test_the_review_shows_what_the_running_model_contradicts(page: Page) -> None:
    mild, sure = add(page.store, 1, score=0.6), add(page.store, 2, score=0.99)
    for frame_id in (mild, sure):
        page.store.label(frame_id, "nobody", by="Ada")
    found = page.get("/api/review?count=1")
    assert (found["version"], found["total"], [each["id"] for each in found["frames"]]) == (1, 2, [sure])


def test_the_data_page_has_counts_findings_and_room(page: Page) -> None:
    page.store.label(add(page.store, 1), "head", by="Ada")
    page.store.mark_unclear(add(page.store, 2), by="Ada")
    add(page.store, 3)
    data = page.get("/api/data")
    assert set(data["counts"]) == {"train", "test"}
    assert sum(data["counts"][split]["head"] for split in ("train", "test")) == 1
    assert data["counts"]["train"]["nobody"] == 0
    assert (data["waiting"], data["unclear"], data["store"]["state"]) == (1, 1, "ok")
    assert data["findings"][0]["state"] == "warning"
    assert data["recording"] == {"state": "recording", "sentence": "Up to 30 frames an hour."}


# Captures


def test_a_burst_without_pictures_is_busy_and_a_second_is_refused(page: Page) -> None:
    assert page.post("/api/capture", {"count": 2, "every_s": 0})["busy"]
    assert page.get("/api/capture")["count"] == 2
    page.post("/api/capture", {"count": 2, "every_s": 0}, status=409)
    page.post("/api/capture", {"count": 101, "every_s": 0}, status=422)


def test_learning_the_empty_site_is_asked_for_in_the_person_s_name(page: Page) -> None:
    assert page.post("/api/learn-empty", {"count": 3, "every_s": 1})["sentence"] == "Waiting for the camera."
    assert '"by": "Ada"' in (page.root / REQUEST).read_text(encoding="utf-8")
    assert page.get("/api/learn-empty")["busy"]
    page.post("/api/learn-empty", {"count": 3, "every_s": 1}, status=409)
    page.post("/api/learn-empty", {"count": 100, "every_s": 600}, status=422)


# Uploads


def _upload(page: Page, data: bytes, *, status: int = 200) -> Any:
    return page.ask("POST", "/api/upload", status=status, content=data, headers={"Content-Type": "image/jpeg"})


def _phone(pixels: Image.Image, *, orientation: int = 1, form: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A phone of Ada's"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # GPS latitude
    buffer = io.BytesIO()
    pixels.save(buffer, form, exif=exif, **({"comment": b"from Ada"} if form == "JPEG" else {}))
    return buffer.getvalue()


def test_an_uploaded_picture_waits_in_the_queue_upright_and_without_where_it_was_taken(page: Page) -> None:
    data = _phone(Image.fromarray(scene(1, width=96, height=64)), orientation=6)
    answer = _upload(page, data)
    assert (answer["new"], answer["sentence"]) == (True, "It is in the queue.")
    frame = page.store.frame(answer["id"])
    assert (frame.reason, frame.source, frame.width, frame.height, frame.label) == ("upload", "upload", 64, 96, None)
    stored = page.store.jpeg(frame.id)
    for secret in (b"Exif", b"phone of", b"from Ada"):
        assert secret in data
        assert secret not in stored
    with Image.open(io.BytesIO(stored)) as image:
        assert dict(image.getexif()) == {}


def test_the_same_upload_again_is_not_stored_again(page: Page) -> None:
    data = encoded(scene(1))
    _upload(page, data)
    assert _upload(page, data) == {
        "id": page.store.frames(labelled_only=False)[0].id,
        "new": False,
        "sentence": "The same picture is here already.",
    }


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_other_kinds_are_told_by_their_content(page: Page, form: str) -> None:
    assert _upload(page, encoded(scene(1), form))["new"]


@pytest.mark.parametrize(
    "data", [b"", b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>", encoded(scene(1))[:400]]
)
def test_what_is_no_picture_is_refused(page: Page, data: bytes) -> None:
    assert "can't be read as a picture" in _upload(page, data, status=415)["error"]["what"]
    assert page.store.frames(labelled_only=False) == []


def test_a_gif_or_a_tiff_is_refused(page: Page) -> None:
    for form in ("GIF", "TIFF"):
        _upload(page, encoded(scene(1), form), status=415)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (5_000, 5_000)])
def test_a_bomb_is_refused_before_it_is_decoded(
    page: Page, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _png_claiming(width, height)

    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decoded)
    _upload(page, data, status=415)
    assert page.store.frames(labelled_only=False) == []


def _png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header says that size, and whose data is one row of nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_large_photograph_is_kept_smaller(page: Page) -> None:
    data = encoded(scene(1, width=4000, height=3000))
    frame = page.store.frame(_upload(page, data)["id"])
    assert max(frame.width, frame.height) == LONGEST_SIDE
    assert frame.width / frame.height == pytest.approx(4 / 3, abs=0.01)


def test_more_than_20_mb_are_not_taken_in(page: Page) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 60_000_000:
            sent += 1_000_000
            yield bytes(1_000_000)

    answer = page.ask("POST", "/api/upload", status=415, content=endless(), headers={"Content-Type": "image/jpeg"})
    assert "larger than 20 MB" in answer["error"]["what"]
    assert page.store.frames(labelled_only=False) == []


# Roles


CHANGES = [
    ("GET", "/api/queue"),
    *(("POST", f"/api/frames/{NOBODY}/{act}") for act in ("label", "unclear", "skip", "undo")),
    *(("POST", path) for path in ("/api/capture", "/api/learn-empty", "/api/upload")),
]
LOOKS = ["/api/frames", "/api/review", "/api/data", "/api/capture", "/api/learn-empty"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_viewer_changes_nothing(page: Page, method: str, path: str) -> None:
    page.role = "viewer"
    answer = page.ask(method, path, status=403, **({"json": {"label": "head"}} if method == "POST" else {}))
    assert "needs the role labeller" in answer["error"]["what"]


@pytest.mark.parametrize("path", LOOKS)
def test_a_viewer_may_look(page: Page, path: str) -> None:
    page.role = "viewer"
    page.get(path)


def test_every_route_demands_a_role(page: Page) -> None:
    routes = [route for router in page.routers for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) == 15
    for route in routes:
        demanded = [getattr(each.call, "role", None) for each in route.dependant.dependencies]
        assert any(demanded), route.path
