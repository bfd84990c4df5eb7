"""Backbone and head as the program inside our .eim runs them: from packed pixels to scores."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance import litert
from appliance.eim.features import unpack
from appliance.errors import PartError
from appliance.models.head import Head

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Facts:
    """What ``hello`` says of the model: ``impulse.json``, made when the .eim is packed.

    Attributes:
        fleet: The fleet's name.
        version: The model's version.
        labels: In the order of the head's outputs.
        width: Pixels of the model's input.
        height: Pixels of the model's input.
        resize_mode: In Edge Impulse's words.
        threads: CPU threads for one inference.
    """

    fleet: str
    version: int
    labels: list[str]
    width: int
    height: int
    resize_mode: str
    threads: int


class Model:
    """Backbone and head, from packed pixels to scores."""

    def __init__(self, facts: Facts, backbone: bytes, head: Head) -> None:
        """Load the backbone.

        Raises:
            ConfigError: No LiteRT runtime is installed.
            PartError: The backbone doesn't load, or backbone, head and facts don't fit together.
        """
        try:
            self._interpreter = litert.load(backbone, threads=facts.threads)
        except ValueError as error:
            raise PartError(f"The backbone can't be loaded ({error})", do="Fetch it again") from error
        [source], [sink] = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        found = [(part["dtype"], tuple(part["shape"])) for part in (source, sink)]
        wanted = [
            (np.float32, (1, facts.height, facts.width, 3)),
            (np.float32, (1, head.feature_count)),
        ]
        if found != wanted or head.label_count != len(facts.labels):
            raise PartError(
                f"Backbone {found}, head ({head.feature_count} to {head.label_count}) and manifest "
                f"({facts.width} x {facts.height}, {len(facts.labels)} labels) don't fit together",
                means="This version can't be used",
            )
        self._head = head
        self._input = self._interpreter.tensor(source["index"])
        self._output = self._interpreter.tensor(sink["index"])

    @property
    def feature_count(self) -> int:
        """Numbers that the backbone gives per picture."""
        return self._head.feature_count

    def scores(self, packed: Array) -> tuple[list[float], float, float]:
        """Classify one packed picture.

        Args:
            packed: float32 [height * width], whole numbers from 0 to 0xFFFFFF.

        Returns:
            Scores in the order of the labels; milliseconds of unpacking; milliseconds of the model.

        Raises:
            RuntimeError: The interpreter failed.
        """
        begun = time.perf_counter()
        # No name for the view: the interpreter refuses to run while anything refers to its tensors.
        unpack(packed, self._input()[0])
        ready = time.perf_counter()
        self._interpreter.invoke()
        scores = self.head_scores(self._output())
        return scores, (ready - begun) * 1000, (time.perf_counter() - ready) * 1000

    def run(self, rgb: npt.NDArray[np.uint8], features: Array) -> tuple[float, float]:
        """Run the backbone on one picture, uint8 [height, width, 3] RGB; write its features into ``features``.

        Returns:
            Milliseconds of taking the picture in; milliseconds of the backbone.

        Raises:
            RuntimeError: The interpreter failed.
        """
        begun = time.perf_counter()
        np.copyto(self._input()[0], rgb)
        ready = time.perf_counter()
        self._interpreter.invoke()
        np.copyto(features, self._output()[0])
        return (ready - begun) * 1000, (time.perf_counter() - ready) * 1000

    def head_scores(self, features: Array) -> list[float]:
        """Scores in the order of the labels, for float32 [1, features]."""
        scores: list[float] = self._head.scores(features)[0].tolist()
        return scores
