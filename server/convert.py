"""Runs one TensorFlow job in a process of its own: it costs a gigabyte and prints pages, and then it is gone."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from appliance.errors import ModelError

_DEADLINE_S = 600
_DOWNLOAD_STALLS_S = 20  # Keras' download has no time-out of its own


def convert(job: str, *arguments: str) -> bytes:
    """Run a job; return the .tflite file that it made.

    Args:
        job: "imagenet", "weights" (path), "inside" (path, layer), or "trainer" (features, labels, hidden).
        arguments: As above.

    Raises:
        ModelError: It failed; with its last words.
    """
    with tempfile.TemporaryDirectory(prefix="sitecam-convert-") as folder:
        out = Path(folder) / "graph.tflite"
        command = [sys.executable, "-m", "server.convert", str(out), job, *arguments]
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
    options = parser.parse_args()
    socket.setdefaulttimeout(_DOWNLOAD_STALLS_S)
    from trainer import graphs

    given: list[str] = options.arguments
    try:
        match options.job:
            case "imagenet":
                graph = graphs.backbone_graph(graphs.network_from_imagenet())
            case "weights":
                graph = graphs.backbone_graph(graphs.network_from_weights(Path(given[0])))
            case "inside":
                graph = graphs.backbone_graph(graphs.network_inside_model(Path(given[0]), given[1]))
            case "trainer":
                graph = graphs.trainer_graph(*map(int, given))
            case other:
                parser.error(f"unknown job {other}")
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent shows the last line of what we print
        print(" ".join(str(error).split())[:600] or type(error).__name__, file=sys.stderr)
        return 1
    options.out.write_bytes(graph)
    return 0


if __name__ == "__main__":
    sys.exit(main())
