"""The budgets and directions of the house (architecture.md), over `ast` and processes."""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("app", "mlx_lora") for path in (ROOT / room).rglob("*.py"))
_NAMES = [str(path.relative_to(ROOT)) for path in FILES]
_Function = ast.FunctionDef | ast.AsyncFunctionDef
LIGHT = (
    "mlx_lora.config", "mlx_lora.events", "mlx_lora.errors", "mlx_lora.runs",
    "mlx_lora.checkpoints", "mlx_lora.jobs", "mlx_lora.machine", "mlx_lora.demo",
    "mlx_lora.preflight", "mlx_lora.data.reading", "mlx_lora.data.formats",
    "mlx_lora.models.library", "mlx_lora.export.formats", "mlx_lora.forecast", "mlx_lora.pace",
    "mlx_lora.models.catalog", "mlx_lora.models.defaults", "mlx_lora.models.shape",
    "mlx_lora.models.shelf", "mlx_lora.fit",
    "mlx_lora.models.hub_api", "mlx_lora.models.hub_errors", "mlx_lora.models.download",
    "mlx_lora.models.hub", "mlx_lora.models.fetch", "mlx_lora.models.errands",
    "mlx_lora.models.stream",
    "mlx_lora.models.token", "mlx_lora.models.offline",
    "mlx_lora.footprint", "mlx_lora.training.writer", "mlx_lora.training.links",
    "mlx_lora.bench.measure", "mlx_lora.bench.surroundings",
)  # fmt: skip
HEAVY = (
    "mlx",
    "mlx_lm",
    "numpy",
    "tokenizers",
    "transformers",
    "torch",
    "jinja2",
    "huggingface_hub",
)


def _length(function: _Function) -> int:
    """Lines from the first statement behind the docstring to the last."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@cache
def _trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text()) for name, path in zip(_NAMES, FILES, strict=True)}


def _functions() -> dict[str, int]:
    return {
        f"{name}:{node.lineno} {node.name}": _length(node)
        for name, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, _Function)
    }


def test_files_are_short() -> None:
    lengths = {n: len(path.read_text().splitlines()) for n, path in zip(_NAMES, FILES, strict=True)}
    assert statistics.median(lengths.values()) <= 150
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_functions_are_short() -> None:
    lengths = _functions()
    assert statistics.median(lengths.values()) <= 10
    assert statistics.quantiles(lengths.values(), n=20)[-1] <= 40
    loop = {"train": 100, "_train_loop": 100}
    long = {n: length for n, length in lengths.items() if length > loop.get(n.split()[-1], 60)}
    assert long == {}


def test_classes_are_small() -> None:
    methods = {
        f"{name}:{node.lineno} {node.name}": sum(isinstance(part, _Function) for part in node.body)
        for name, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert {name: count for name, count in methods.items() if count > 20} == {}


def test_only_last_resorts_catch_everything() -> None:
    broad = {
        name
        for name, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & _caught(node.type))
    }
    assert broad <= {"app/tasks.py", "mlx_lora/worker.py", "mlx_lora/models/tokenizer.py"}


def _caught(kind: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(kind) if isinstance(node, ast.Name)}


def test_names_are_nouns() -> None:
    words = {word for name in _NAMES for word in re.split(r"[/_.]", name)}
    assert not words & {
        "util",
        "utils",
        "helper",
        "helpers",
        "manager",
        "managers",
        "misc",
        "common",
    }


@pytest.mark.parametrize("name", _NAMES)
def test_no_path_of_anybodys_machine(name: str) -> None:
    text = (ROOT / name).read_text()
    found = re.findall(r"(?:/Users|/home|/root|/work|/private)/[\w.-]*|C:\\\\", text)
    assert found == []


def test_the_map_names_every_file_and_no_other() -> None:
    text = (ROOT / "README.md").read_text()
    tree = text[text.index("## Where things are") : text.index("## Measured")]
    named = set(re.findall(r"\w+\.py", tree))
    assert named == {path.name for path in FILES if path.name != "__init__.py"}


def _fresh(code: str) -> str:
    """What a fresh interpreter prints, with this checkout in front."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    "names", [("app",), ("app.__main__",), LIGHT, ("mlx_lora.cli",)], ids=lambda names: names[0]
)
def test_loads_nothing_heavy(names: tuple[str, ...]) -> None:
    code = f"import {', '.join(names)}, json; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(_fresh(code))}
    assert not loaded & set(HEAVY)


def test_light_half_loads_at_once() -> None:
    """Measured in seconds of computing, which a busy machine does not stretch."""
    clock = "time.process_time()"
    code = f"import time; t = {clock}; import {', '.join(LIGHT)}; print({clock} - t)"
    median = statistics.median(float(_fresh(code)) for _ in range(5))
    assert median < 0.25, f"{median:.3f} s"
