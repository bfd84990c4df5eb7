"""Fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import parts


@pytest.fixture(scope="session")
def tiny_backbone() -> bytes:
    """A real float32 .tflite backbone of 32 x 32 pixels and 8 features."""
    try:
        return parts.tiny_backbone()
    except parts.NoTensorFlowError:
        pytest.skip("the tiny backbone isn't cached and TensorFlow, which authors it, isn't installed")


@pytest.fixture(scope="session")
def tiny_eim(tiny_backbone: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real .eim of it, version 1, labels head, hardhat and nobody."""
    return parts.tiny_eim(tmp_path_factory.mktemp("eim") / "tiny.eim", tiny_backbone)
