"""What ``./install.sh test`` runs: formatting, lint, types, the suite, and the LiteRT tests on tflite-runtime too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_TESTS_FAILED = 1  # pytest's exit code
_FEW = 5
OLD_RUNTIME = ROOT / ".venv-tflite" / "bin" / "python"


def main(arguments: list[str]) -> int:
    """Run everything; with arguments, run pytest with them and nothing else."""
    if arguments:
        return _run(sys.executable, "-m", "pytest", *arguments)
    steps = [
        (str(BIN / "ruff"), "format", "--check", "--quiet", "."),
        (str(BIN / "ruff"), "check", "--quiet", "."),
        (str(BIN / "mypy"),),
    ]
    if OLD_RUNTIME.exists():
        # Ours first: it has TensorFlow to author the small graphs that both then run.
        pythons = (sys.executable, str(OLD_RUNTIME))
        steps += [(python, "-m", "pytest", "-q", "-m", "litert", *_litert_files()) for python in pythons]
    # Four processes, file by file, on two cores: tests that start whole sites or browsers mostly wait. They come before
    # the many quick ones.
    # Last: its closing line is the one to read.
    worst = 0
    for step in steps:
        worst = max(worst, _run(*step))
    return max(worst, _suite())


def _suite() -> int:
    """Every test. A few that fail beside three others on a busy machine are tried once more, alone, and named.

    A deadline of seconds that passes by itself and not in a crowd says something of the machine. Alone it must hold.
    """
    split = ("-n", "4", "--dist", "loadfile", "--no-loadscope-reorder")
    status = _run(sys.executable, "-m", "pytest", "-q", "--durations=25", *split)
    if status != _TESTS_FAILED:
        return status
    failed = json.loads((ROOT / ".pytest_cache/v/cache/lastfailed").read_text(encoding="utf-8"))
    if len(failed) > _FEW:
        return status
    print(f"Once more, alone, because they failed in a crowd: {', '.join(failed)}", flush=True)
    return _run(sys.executable, "-m", "pytest", "-q", *failed)


def _litert_files() -> list[str]:
    """Only files with such a test: the old runtime's environment has nothing that the others import."""
    return [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.litert" in path.read_text(encoding="utf-8")
    ]


def _run(*command: str) -> int:
    print("$", " ".join(Path(part).name if part.startswith(str(ROOT)) else part for part in command), flush=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    return abs(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
