"""The camera process, as ``sitecam camera`` runs it, with a pipe to ask about its pace. Started by the rig."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from appliance.config import load
from appliance.process import CameraProcess


def main() -> int:
    """Run until stdin ends or SIGTERM comes; answer one line of JSON per line asked."""
    logging.basicConfig(level=logging.WARNING)
    process = CameraProcess(load(Path(sys.argv[1])))
    process.start()
    start = mark = process.loop.mark()
    try:
        for line in sys.stdin:
            what = line.strip()
            if what == "mark":
                mark = process.loop.mark()
                answer: dict[str, object] = {}
            elif what == "pace":
                pace = process.loop.pace_since(mark)
                answer = {"decisions": pace.decisions, "dropped": pace.dropped, "gaps_ms": list(pace.gaps_ms)}
            else:
                answer = {
                    "decisions": process.loop.mark()[1] - start[1],
                    "dropped": process.loop.dropped,
                    "failed_answers": process.loop.failed_answers,
                    "version": process.loop.version,
                    "typical_ms": process.loop.typical_ms,
                }
            print(json.dumps(answer), flush=True)
    finally:
        process.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
