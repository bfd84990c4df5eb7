"""Runs one TensorFlow job in a process of its own: it costs a gigabyte and prints pages, and then it is gone."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.errors import ModelError
from appliance.frame import Pixels
from appliance.models.head import Head

_DEADLINE_S = 600
_DOWNLOAD_STALLS_S = 20  # Keras' download has no time-out of its own


@dataclass(frozen=True)
class Whole:
    """What a whole Keras model is made of, besides its backbone's weights.

    Attributes:
        head: The head part.
        like: A float32 .tflite of the same two, which it must answer like.
    """

    head: bytes
    like: bytes


def convert(job: str, *arguments: str, pictures: Pixels | None = None, whole: Whole | None = None) -> bytes:
    """Run a job; return the .tflite file that it made.

    Args:
        job: "imagenet", "weights" (path), "inside" (path, layer), or "trainer" (features, labels, hidden).
        arguments: As above.
        pictures: uint8 [n, 160, 160, 3], RGB: makes an int8 backbone, its ranges measured on them; None for float32.
        whole: Makes a .keras file of backbone and head instead.

    Raises:
        ModelError: It failed; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="sitecam-convert-") as folder:
        out = Path(folder) / "graph.tflite"
        command = [sys.executable, "-m", "server.convert", str(out), job, *arguments]
        if pictures is not None:
            shown = Path(folder) / "pictures.npy"
            np.save(shown, pictures, allow_pickle=False)
            command += ["--pictures", str(shown)]
        if whole is not None:
            for name, data in vars(whole).items():
                (Path(folder) / name).write_bytes(data)
                command += [f"--{name}", str(Path(folder) / name)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ModelError(f"Converting ({job}) took more than {_DEADLINE_S} s", do="Try again") from error
        if done.returncode == -signal.SIGKILL:
            raise ModelError(
                "The conversion was killed, most likely because memory ran out",
                means="Nothing was written",
                do="Converting takes about 2 GB for a minute: give this machine more memory or swap",
            )
        if done.returncode or not out.exists():
            lines = done.stderr.strip().splitlines() or ["the conversion ended without a reason"]
            raise ModelError(lines[-1][-600:])
        return out.read_bytes()


def main() -> int:
    """The child: import TensorFlow, do the job, write the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("job")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--head", type=Path)
    parser.add_argument("--like", type=Path)
    options = parser.parse_args()
    socket.setdefaulttimeout(_DOWNLOAD_STALLS_S)
    try:
        whole = options.head and Whole(options.head.read_bytes(), options.like.read_bytes())
        graph = _graph(options.job, options.arguments, options.pictures, whole)
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent shows the last line of what we print
        print(" ".join(str(error).split())[:600] or type(error).__name__, file=sys.stderr)
        return 1
    options.out.write_bytes(graph)
    return 0


def _graph(job: str, given: list[str], pictures: Path | None, whole: Whole | None) -> bytes:
    from trainer import graphs

    match job:
        case "imagenet":
            network = graphs.network_from_imagenet()
        case "weights":
            network = graphs.network_from_weights(Path(given[0]))
        case "inside":
            network = graphs.network_inside_model(Path(given[0]), given[1])
        case "trainer":
            return graphs.trainer_graph(*map(int, given))
        case other:
            raise ValueError(f"unknown job {other}")
    if whole is not None:
        return graphs.whole_model(network, Head.from_bytes(whole.head), whole.like)
    if pictures is None:
        return graphs.backbone_graph(network)
    return graphs.quantised_backbone_graph(network, np.load(pictures, allow_pickle=False))


if __name__ == "__main__":
    sys.exit(main())
