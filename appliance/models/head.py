"""The head: the few trained numbers between a backbone's features and the labels' scores."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import PartError

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head:
    """Dense layers with ReLU between them and softmax at the end; one layer is a linear head.

    Attributes:
        layers: (kernel float32 [inputs, outputs], bias float32 [outputs]) per layer, first to last.
    """

    layers: tuple[tuple[Array, Array], ...]

    @property
    def feature_count(self) -> int:
        """Numbers per frame that it wants."""
        return int(self.layers[0][0].shape[0])

    @property
    def label_count(self) -> int:
        """Scores per frame that it gives."""
        return int(self.layers[-1][1].shape[0])

    @property
    def hidden_units(self) -> int:
        """Units of its hidden layer; 0 for a linear head."""
        return int(self.layers[0][1].shape[0]) if len(self.layers) > 1 else 0

    @property
    def arrays(self) -> list[Array]:
        """Kernel, bias, kernel, bias ...: the order in which heads travel."""
        return [array for layer in self.layers for array in layer]

    def scores(self, features: Array) -> Array:
        """Probabilities, float32 [frames, labels], for float32 [frames, features]."""
        values = features
        for kernel, bias in self.layers[:-1]:
            values = np.maximum(values @ kernel + bias, 0)
        kernel, bias = self.layers[-1]
        logits = values @ kernel + bias
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)

    @staticmethod
    def from_arrays(arrays: Sequence[npt.NDArray[np.generic]]) -> Head:
        """Build a head from kernel, bias, kernel, bias ...

        Raises:
            PartError: The arrays are not float32, not finite, or don't fit together.
        """
        if not arrays or len(arrays) % 2 or len(arrays) > 4:
            raise PartError(f"A head has 2 or 4 arrays, not {len(arrays)}", do="Send it again")
        layers: list[tuple[Array, Array]] = []
        for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True):
            fits = kernel.ndim == 2 and bias.ndim == 1 and kernel.shape[1] == bias.shape[0]
            if fits and layers:
                fits = kernel.shape[0] == layers[-1][1].shape[0]
            if not fits or kernel.dtype != np.float32 or bias.dtype != np.float32:
                raise PartError(
                    f"A head's arrays don't fit together ({[(a.dtype.name, a.shape) for a in arrays]})",
                    means="This head can't be used",
                    do="Send it again",
                )
            if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
                raise PartError("A head has numbers that are not finite", means="This head can't be used")
            layers.append((np.asarray(kernel, np.float32), np.asarray(bias, np.float32)))
        return Head(tuple(layers))

    @staticmethod
    def untrained(feature_count: int, label_count: int, hidden_units: int, *, seed: int) -> Head:
        """Small random numbers (Glorot uniform, as Keras starts a dense layer), repeatable by their seed."""
        generator = np.random.default_rng(seed)
        sizes = [feature_count, *([hidden_units] if hidden_units else []), label_count]
        layers = []
        for inputs, outputs in itertools.pairwise(sizes):
            limit = float(np.sqrt(6 / (inputs + outputs)))
            kernel = generator.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
            layers.append((kernel, np.zeros(outputs, np.float32)))
        return Head(tuple(layers))

    def to_bytes(self) -> bytes:
        """The head as a part: an uncompressed .npz, byte for byte the same for the same numbers."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f"array_{index}": array for index, array in enumerate(self.arrays)})  # type: ignore[arg-type]  # numpy types the keyword as its allow_pickle flag
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Head:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            PartError: The bytes are not a head.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                names = [f"array_{index}" for index in range(len(arrays.files))]
                return Head.from_arrays([arrays[name] for name in names])
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise PartError(f"The head part can't be read ({error})", do="Fetch it again") from error
