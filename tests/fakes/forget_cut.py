"""A program: forgets copies of a camera, each cut off by SIGKILL at another step, then started again.

    python -m tests.fakes.forget_cut STATE_FOLDER WORK_FOLDER

One process with one thread forks a child for every cut. Prints one JSON line per cut.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.forget import begin, wipe
from appliance.forget_asking import resume
from appliance.paths import CameraPaths


def _forget(paths: CameraPaths, step: Callable[[str], None]) -> None:
    begin(paths, camera="North gate", by="Ada", step=step)
    wipe(paths, step=step)


def _killed_at(number: int, work: Callable[[Callable[[str], None]], object]) -> bool:
    """Whether a child that does the work lived to step ``number``, where it killed itself."""
    child = os.fork()
    if child == 0:
        steps = 0

        def step(_: str) -> None:
            nonlocal steps
            steps += 1
            if steps == number:
                os.kill(os.getpid(), signal.SIGKILL)

        work(step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def main(arguments: list[str]) -> int:
    """Cut at the first step, the second, and so on until a run gets through."""
    state, work = map(Path, arguments)
    number = 0
    while True:
        number += 1
        paths = CameraPaths(work / str(number))
        shutil.copytree(state, paths.root, symlinks=True)
        cut = _killed_at(number, lambda step, paths=paths: _forget(paths, step))  # type: ignore[misc]  # bound now
        left = _names(paths.root)
        # The next start is cut off too, a little later in its own work; the one after that is not.
        again = cut and _killed_at(3, lambda step, paths=paths: wipe(paths, step=step) if resumable(paths) else None)  # type: ignore[misc]
        resume(paths)
        report = {"cut": cut, "again": again, "left": left, "end": _names(paths.root)}
        proof = paths.root / "forgotten.json"
        print(json.dumps({**report, "proof": json.loads(proof.read_bytes()) if proof.exists() else None}), flush=True)
        shutil.rmtree(paths.root)
        if not cut:
            return 0


def resumable(paths: CameraPaths) -> bool:
    """Whether there is something to go on with."""
    return (paths.root / "forgetting.json").exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
