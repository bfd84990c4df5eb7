"""Picks the LiteRT runtime: ai-edge-litert, else its predecessor tflite-runtime (up to Python 3.11)."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from appliance.errors import ConfigError


class Signature(Protocol):
    """One named function of a model, as ``Interpreter.get_signature_runner`` gives it."""

    def __call__(self, **inputs: npt.NDArray[np.float32] | np.float32) -> dict[str, npt.NDArray[np.float32]]:
        """Run it: float32 arrays in by name, out by name."""

    def get_input_details(self) -> dict[str, Any]:
        """Shape and dtype of every input, by name."""


RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def runtime_module() -> Any:
    """Import and return the first runtime module that is installed.

    Raises:
        ConfigError: Neither is installed.
    """
    for name in RUNTIMES:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ConfigError(
        "No LiteRT runtime is installed",
        means="Models can neither run nor learn here",
        do="Install ai-edge-litert (Python 3.11 to 3.13) or tflite-runtime (up to Python 3.11)",
    )


def load(model: bytes, *, threads: int = 1) -> Any:
    """Make an interpreter for a .tflite model, its tensors allocated.

    Args:
        model: The file's content.
        threads: CPU threads for one inference.

    Returns:
        A LiteRT ``Interpreter``.

    Raises:
        ConfigError: No runtime is installed.
        ValueError: The bytes are not a model that the runtime takes.
    """
    interpreter = runtime_module().Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter
