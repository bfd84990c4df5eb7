"""How the replies of a round become one head: Flower's own strategies, and from how many cameras each means anything.

Flower drives its strategies itself (``strategy.start``), waits in there for nodes without end and takes what it is
sent. Here they only aggregate: replies that were checked before, as messages that they understand, in float64 (Krum's
distances are small differences of large squares). The head that was sent out, which Flower notes when it configures a
round, is given to them by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MessageType, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAdam,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
)

from appliance.errors import NightError, PartError
from appliance.models.head import Array, Head
from server.config import NightSettings, ServerSettings, StrategyName
from server.privacy import epsilon
from server.replies import TrainReply
from trainer import messages

Wide = npt.NDArray[np.float64]

_PRIVATE: tuple[StrategyName, ...] = ("fedavg", "fedprox")


@dataclass(frozen=True)
class Minimum:
    """From how many cameras a strategy means anything.

    Attributes:
        cameras: So many.
        reason: Why, as the end of a sentence.
    """

    cameras: int
    reason: str


def minimum(rules: NightSettings) -> Minimum:
    """The least number of cameras for the strategy that is set.

    FedAvg (McMahan et al., arXiv 1602.05629) and FedProx (Li et al., arXiv 1812.06127): one camera's head is its own
    mean. FedAdam (Reddi et al., arXiv 2003.00295) moves every number by about its own step however small the cameras'
    change was; that can only pay where it is the consensus of several. The median (Yin et al., arXiv 1803.01498) of
    two is their mean. A trimmed mean (same) of n leaves out floor(trim n) at each end, which must be one at least.
    Krum (Blanchard et al., arXiv 1703.02757) is proven for n > 2 f + 2.
    """
    match rules.strategy:
        case "fedavg" | "fedprox":
            return Minimum(1, "one camera's head is its own mean")
        case "fedadam":
            return Minimum(2, "with one there is no consensus that its steps could follow")
        case "fedmedian":
            return Minimum(3, "the median of two is their mean")
        case "fedtrimmedavg":
            cameras = next(n for n in range(1, math.ceil(1 / rules.trim) + 2) if int(rules.trim * n) >= 1)
            return Minimum(cameras, f"of fewer, night.trim = {rules.trim:g} leaves nobody out")
        case "krum":
            return Minimum(2 * rules.malicious + 3, f"night.malicious = {rules.malicious} needs more honest ones")


class Aggregator:
    """The strategy that the settings name. Keeps FedAdam's moments from round to round of one night; a night that is
    resumed after a restart starts them anew, as after a first round.

    With noise on, every camera weighs the same: by frames, one camera could be nearly all of the mean, and the noise,
    which is made for a share of 1/n, would hide it no more.

    Args:
        settings: The server's.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._rules, self._privacy, self._exact_start = settings.night, settings.privacy, settings.night.exact_start
        self._least = minimum(self._rules)
        self._strategy = _strategy(self._rules)
        self._done = 0  # rounds since FedAdam's moments were zero

    @property
    def name(self) -> str:
        """For the registry and for people."""
        return f"{self._rules.strategy} with noise" if self.noisy else self._rules.strategy

    @property
    def noisy(self) -> bool:
        """Whether updates are clipped and noise is added. Then no update may be left out for its size: who is left
        out would depend on what others sent, which the noise doesn't cover; clipping bounds it already."""
        return self._privacy.noise_multiplier > 0

    @property
    def minimum(self) -> int:
        """Cameras below which the strategy means nothing."""
        return self._least.cameras

    def check(self, cameras: int) -> None:
        """May a round be held with so many cameras, and with these settings?

        Raises:
            NightError: It may not; with what to change.
        """
        if self.noisy and self._rules.strategy not in _PRIVATE:
            raise NightError(
                f"privacy.noise_multiplier is set, and night.strategy is {self._rules.strategy}",
                means="Noise is made for a mean in which every camera's share is known; here it would promise too much",
                do='Set night.strategy to "fedavg" or "fedprox", or privacy.noise_multiplier to 0',
            )
        if self.noisy and self._exact_start:
            raise NightError(
                "privacy.noise_multiplier is set, and night.exact_start is on",
                means="Class means travel without noise, so epsilon would promise too much",
                do="Turn one of the two off",
            )
        if cameras < self.minimum:
            raise NightError(
                f"{self._rules.strategy} needs {self.minimum} cameras, and there are {cameras}: {self._least.reason}",
                means="A round with these would not do what its name says",
                do='Wait for more cameras, or set night.strategy to "fedavg"',
            )

    def train_config(self) -> dict[str, float]:
        """What cameras must know of the strategy: keys for the config of a training message."""
        return {"proximal": self._rules.proximal if self._rules.strategy == "fedprox" else 0.0}

    def aggregate(self, number: int, head: Head, replies: Mapping[str, TrainReply]) -> Head:
        """One head of many.

        Args:
            number: The round's.
            head: The one that was sent out.
            replies: By camera; checked.

        Raises:
            NightError: Too few, or they make no head.
        """
        self.check(len(replies))
        clip_to = self._privacy.clipping_norm if self.noisy else math.inf
        answers = [
            _message(_clipped(reply, head, clip_to), 1 if self.noisy else reply.examples) for reply in replies.values()
        ]
        strategy: FedAvg | DifferentialPrivacyClientSideFixedClipping = self._strategy
        if isinstance(self._strategy, FedAdam):
            self._strategy.current_arrays = {str(i): _wide(array) for i, array in enumerate(head.arrays)}
        if self.noisy:
            # Flower's wrapper that clips by itself divides by an update's norm: one camera that sends back the head
            # that it got would end the round for all. So we clip, and its sibling adds the noise.
            strategy = DifferentialPrivacyClientSideFixedClipping(
                self._strategy, self._privacy.noise_multiplier, self._privacy.clipping_norm, len(replies)
            )
        self._done += 1
        try:
            arrays, _ = strategy.aggregate_train(self._done, answers)
            if arrays is None:
                raise NightError(f"{self.name} made no head of round {number}'s replies")
            made = Head.from_arrays([np.asarray(array, np.float32) for array in arrays.to_numpy_ndarrays()])
        except (AggregationError, PartError) as error:
            raise NightError(
                f"{self.name} made nothing usable of round {number}'s replies ({error})",
                means="Tonight ends without a new model",
            ) from error
        return made

    def epsilon(self, rounds: int) -> float | None:
        """What so many noisy rounds amount to at privacy.delta, see server/privacy.py; None without noise."""
        return epsilon(self._privacy.noise_multiplier, rounds, self._privacy.delta) if self.noisy else None


def _strategy(rules: NightSettings) -> FedAvg:
    match rules.strategy:
        case "fedavg" | "fedprox":
            # FedProx is another objective on the camera; its aggregation is FedAvg's, also in Flower's own class.
            return FedAvg(weighted_by_key=messages.EXAMPLES)
        case "fedadam":
            return FedAdam(weighted_by_key=messages.EXAMPLES, eta=rules.server_rate)
        case "fedmedian":
            return FedMedian(weighted_by_key=messages.EXAMPLES)
        case "fedtrimmedavg":
            return FedTrimmedAvg(weighted_by_key=messages.EXAMPLES, beta=rules.trim)
        case "krum":
            return Krum(weighted_by_key=messages.EXAMPLES, num_malicious_nodes=rules.malicious)


def _wide(array: Array) -> Wide:
    return np.asarray(array, np.float64)


def _clipped(reply: TrainReply, head: Head, norm: float) -> list[Wide]:
    """The reply's arrays in float64, its change to the head scaled down to a norm."""
    if reply.norm <= norm:
        return [_wide(array) for array in reply.head.arrays]
    pairs = zip(reply.head.arrays, head.arrays, strict=True)
    return [_wide(start) + (_wide(array) - _wide(start)) * (norm / reply.norm) for array, start in pairs]


def _message(arrays: list[Wide], weight: int) -> Message:
    """A reply as Flower's strategies want it."""
    metadata = Metadata(0, "", 0, 0, "", "", 0.0, 0.0, MessageType.TRAIN)
    content = RecordDict({messages.ARRAYS: ArrayRecord(arrays), messages.METRICS: messages.metrics(examples=weight)})
    return make_message(metadata, content)
