from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from PIL import Image

from appliance.frame import Decision, Frame
from appliance.web.stream import PictureStream
from tests.fakes.page_source import FakePageSource


async def take(pictures: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await asyncio.wait_for(anext(pictures), 10) for _ in range(count)]


def run_with(source: FakePageSource, count: int, **options: float) -> list[bytes]:
    stream = PictureStream(source, max_fps=200, **options)  # type: ignore[arg-type]

    async def watch() -> list[bytes]:
        async with aclosing(stream.pictures()) as pictures:  # type: ignore[type-var]
            return await take(pictures, count)

    try:
        return asyncio.run(watch())
    finally:
        stream.close()


def test_pictures_are_jpegs_of_the_frames() -> None:
    for picture in run_with(FakePageSource(size=(320, 240)), 3):
        image = Image.open(io.BytesIO(picture))
        assert (image.format, image.size) == ("JPEG", (320, 240))


def test_a_wide_frame_is_made_smaller_in_its_own_shape() -> None:
    (picture,) = run_with(FakePageSource(size=(320, 240)), 1, max_width=160)
    assert Image.open(io.BytesIO(picture)).size == (160, 120)


def test_each_frame_is_encoded_once_for_all_viewers(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakePageSource(rate_fps=50)
    encoded: list[int] = []
    encode = PictureStream._encode

    def counting(self: PictureStream, frame: Frame) -> bytes:
        encoded.append(frame.sequence)
        return encode(self, frame)

    monkeypatch.setattr(PictureStream, "_encode", counting)
    stream = PictureStream(source, max_fps=200)

    async def watch() -> None:
        iterators = [stream.pictures() for _ in range(4)]
        await asyncio.gather(*(take(pictures, 5) for pictures in iterators))
        for pictures in iterators:
            await pictures.aclose()  # type: ignore[attr-defined]

    asyncio.run(watch())
    stream.close()
    assert len(encoded) == len(set(encoded))


def test_nothing_is_asked_or_encoded_while_nobody_watches() -> None:
    source = FakePageSource()
    stream = PictureStream(source, max_fps=200)

    async def watch() -> None:
        async with aclosing(stream.pictures()) as pictures:  # type: ignore[type-var]
            await take(pictures, 2)
        assert stream.viewers == 0
        await asyncio.sleep(0.1)  # the encoder may be on its way round
        asked = source.asked
        await asyncio.sleep(0.2)
        assert source.asked == asked

    asyncio.run(watch())
    stream.close()


def test_a_viewer_who_comes_while_the_camera_stalls_still_sees_the_last_picture() -> None:
    source = FakePageSource()
    stream = PictureStream(source, max_fps=200)

    async def watch() -> None:
        first, second = stream.pictures(), stream.pictures()
        await take(first, 2)
        source.flowing.clear()
        await asyncio.sleep(0.1)
        assert len(await take(second, 1)) == 1
        await first.aclose()  # type: ignore[attr-defined]
        await second.aclose()  # type: ignore[attr-defined]

    asyncio.run(watch())
    stream.close()


def test_a_slow_viewer_misses_pictures_and_gets_the_newest() -> None:
    source = FakePageSource(rate_fps=100)
    stream = PictureStream(source, max_fps=200)

    async def watch() -> None:
        quick, slow = stream.pictures(), stream.pictures()
        await take(slow, 1)
        taken = await take(quick, 30)
        (late,) = await take(slow, 1)
        assert late in taken[-3:] + await take(quick, 1)
        await quick.aclose()  # type: ignore[attr-defined]
        await slow.aclose()  # type: ignore[attr-defined]

    asyncio.run(watch())
    stream.close()


def test_closing_ends_every_viewer_and_whoever_comes_later() -> None:
    stream = PictureStream(FakePageSource(), max_fps=200)

    async def watch() -> None:
        pictures = stream.pictures()
        await take(pictures, 1)
        await asyncio.to_thread(stream.close)
        rest = [picture async for picture in pictures]
        assert rest == []
        assert [picture async for picture in stream.pictures()] == []
        stream.close()

    asyncio.run(watch())


def test_a_frame_that_cannot_be_shown_is_logged_and_the_next_one_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FailsOnce(FakePageSource):
        failed = False

        def newest(self, after_sequence: int, timeout_s: float) -> tuple[Frame, Decision | None] | None:
            if not self.failed:
                self.failed = True
                raise OSError("the disk is gone")
            return super().newest(after_sequence, timeout_s)

    with caplog.at_level(logging.ERROR):
        assert len(run_with(FailsOnce(), 1)) == 1
    assert "the disk is gone" in caplog.text
