"""Who imports what: rooms only to their right, and TensorFlow in one file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ROOMS = ("appliance", "trainer", "server", "datasets")
FORBIDDEN = {"appliance": {"trainer", "server"}, "trainer": {"server"}, "datasets": {"trainer", "server"}}
HEAVY = {"tensorflow", "keras", "tf_keras"}
ON_A_CAMERA = ("appliance.cli", "appliance.process", "trainer.night", "trainer.client")


def imports() -> Iterator[tuple[str, str]]:
    """(file, top package it imports) of every import in the product, inside functions too."""
    for room in ROOMS:
        for path in sorted((PROJECT / room).rglob("*.py")):
            name = path.relative_to(PROJECT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from ((name, alias.name.split(".")[0]) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield name, node.module.split(".")[0]


def test_the_scan_sees_every_room_and_imports_inside_functions() -> None:
    found = set(imports())
    assert {name.split("/")[0] for name, _ in found} == set(ROOMS)
    assert ("server/convert.py", "trainer") in found  # written inside a function


def test_a_room_imports_only_from_rooms_to_its_right() -> None:
    wrong = [(name, package) for name, package in imports() if package in FORBIDDEN.get(name.split("/")[0], set())]
    assert wrong == []


def test_tensorflow_is_imported_in_one_file_only() -> None:
    assert {name for name, package in imports() if package in HEAVY} == {"trainer/graphs.py"}


def test_no_import_is_relative() -> None:
    """A relative import would go past the scan above."""
    for room in ROOMS:
        for path in (PROJECT / room).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level], path


@pytest.mark.parametrize("module", ON_A_CAMERA)
def test_nothing_that_runs_on_a_camera_imports_tensorflow(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert module.split(".")[0] in loaded
    assert loaded & (HEAVY | {"server", "pytest"}) == set()
