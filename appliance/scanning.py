"""Reads the QR code that a person holds before the camera: an invitation to a fleet."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from appliance.camera.source import CameraSource
from appliance.errors import CameraError, CaptureTimeoutError, ConfigError
from appliance.join_code import Invitation, read_uri

logger = logging.getLogger(__name__)

Grey = npt.NDArray[np.uint8]


def _as_it_is(grey: Grey) -> Grey:
    return grey


def _turned(grey: Grey) -> Grey:
    return np.ascontiguousarray(np.rot90(grey))


def _smaller(grey: Grey) -> Grey:
    return np.asarray(cv2.resize(grey, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA), np.uint8)


def _larger(grey: Grey) -> Grey:
    return np.asarray(cv2.resize(grey, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), np.uint8)


# OpenCV's detector reads nothing in about one of fifteen sharp, upright codes, depending on what is written in them.
# Each of these views fails on others. One view per picture, so a picture costs about what it did before.
VIEWS: tuple[Callable[[Grey], Grey], ...] = (_as_it_is, _turned, _smaller, _larger)


def scan(
    source: CameraSource, *, deadline_s: float, capture_timeout_s: float, say: Callable[[str], None]
) -> Invitation:
    """Wait for an invitation before the camera.

    Args:
        source: Opened and closed here.
        deadline_s: How long to look.
        capture_timeout_s: For one picture.
        say: Told what is wrong with a QR code that isn't one of ours, once for each.

    Raises:
        CameraError: It doesn't work, or no invitation came in time.
    """
    detector = cv2.QRCodeDetector()
    views = itertools.cycle(VIEWS)
    wrong: set[str] = set()
    pictures = 0
    ends = time.monotonic() + deadline_s
    try:
        source.open()
        while time.monotonic() < ends:
            try:
                frame = source.capture(capture_timeout_s)
            except CaptureTimeoutError as error:
                logger.warning("%s", error)
                continue
            pictures += 1
            try:
                grey = np.asarray(cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2GRAY), np.uint8)
                text, _, _ = detector.detectAndDecode(next(views)(grey))
            except cv2.error as error:  # some pictures without a code make it fail inside
                logger.debug("This picture can't be searched: %s", error)
                continue
            if not text or text in wrong:
                continue
            try:
                return read_uri(text)
            except ConfigError as error:
                wrong.add(text)
                say(f"A QR code, but not an invitation. {error}")
    finally:
        source.close()
    raise CameraError(
        f"No invitation was seen in {pictures} pictures within {deadline_s:g} s",
        means="This camera was not enrolled",
        do="Hold it flat, well lit, a third of the picture wide; or type the code: sitecam enrol CODE --server ...",
    )
