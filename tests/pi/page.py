"""A camera's page, as a person's browser uses it: over TLS, checked, with a session and the page's own API."""

from __future__ import annotations

import io
import ssl
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from PIL import Image

from appliance.errors import InstallError

_SIDE = 16  # pixels: enough to tell drawn frames apart


class CameraPage:
    """Somebody at a camera's page; a context manager.

    Args:
        address: Of the camera.
        authority: PEM file of who signed its certificate.
        port: Its page's.
    """

    def __init__(self, address: str, authority: Path, *, port: int = 4912) -> None:
        self.url = f"https://{address}:{port}"
        context = ssl.create_default_context(cafile=str(authority))
        headers = {"Origin": self.url}
        self._client = httpx.Client(
            base_url=self.url, verify=context, timeout=30, trust_env=False, headers=headers, follow_redirects=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._client.close()

    def get(self, path: str, **parameters: str | int) -> httpx.Response:
        """Ask for something.

        Raises:
            InstallError: The page did not give it.
        """
        return self._good(self._client.get(path, params=parameters))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Have something done.

        Raises:
            InstallError: The page refused.
        """
        return dict(self._good(self._client.post(path, json=body)).json())

    def status_of(self, path: str) -> int:
        """The status with which the page answers."""
        return self._client.get(path).status_code

    def first_login(self, code: str) -> dict[str, Any]:
        """Make the first account with the one-time code; return who one is."""
        self.post("/api/first", {"code": code, "name": "inspector", "password": "a long walk over the yard"})
        return dict(self.get("/api/me").json())

    def picture(self, frame: str) -> bytes:
        """One kept frame, JPEG."""
        return self.get(f"/api/frames/{frame}/picture").content

    def capture(self, count: int, every_s: float) -> None:
        """Have frames of the live loop kept, and wait until they are."""
        self.post("/api/capture", {"count": count, "every_s": every_s})
        end_s = time.monotonic() + count * every_s * 2 + 60
        while self.get("/api/capture").json().get("busy", False):
            if time.monotonic() > end_s:
                raise InstallError(f"{self.url}: the frames were not taken: {self.get('/api/capture').text}")
            time.sleep(1)

    def _good(self, response: httpx.Response) -> httpx.Response:
        if response.status_code != 200:
            raise InstallError(
                f"{response.request.method} {response.request.url} answered {response.status_code}: "
                f"{response.text[:300]}"
            )
        return response


class Eye:
    """Knows what a camera's frames show, because it knows the pictures that the virtual camera sees.

    Args:
        folder: Those pictures, named like ``003-head.jpg``.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.jpg"))
        self._labels = [path.stem.partition("-")[2] for path in paths]
        self._seen = np.stack([_small(path.read_bytes()) for path in paths])

    def label(self, jpeg: bytes) -> str:
        """What is on a frame."""
        distances = np.abs(self._seen - _small(jpeg)).mean(axis=(1, 2, 3))
        return self._labels[int(np.argmin(distances))]


def _small(jpeg: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB").resize((_SIDE, _SIDE)), dtype=np.float32)
