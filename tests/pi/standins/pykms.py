"""Tests only, never installed on a camera: stands in for python3-kms++. picamera2 imports it; nobody shows anything."""


class _Names(type):
    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class PixelFormat(metaclass=_Names):
    """Every format has its own name."""


class Card:
    """There is none."""

    def __init__(self, *_: object) -> None:
        raise RuntimeError("this machine has no display (pykms stand-in)")


ResourceManager = DumbFramebuffer = DmabufFramebuffer = AtomicReq = Card
