"""What every test may use: the shared real data where it is, an own data root, the command."""

from __future__ import annotations

import os

# tests side by side: each with two threads of OpenBLAS on two cores, they wait for each other
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from mlx_lora import blas

blas.prepare()

import json  # noqa: E402

# whatever asks a hub asks a port on this machine that nobody listens on
os.environ.setdefault("HF_ENDPOINT", "http://127.0.0.1:9")

import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import pytest  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
SHARED = (ROOT.parent / "shared" / "data").resolve()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gemma's 262 k words take seconds to read: in the fast suite no file of tests/data does."""
    for item in items:
        if item.path.parent.name == "data" and "gemma3" in item.name:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root of this test's own, which child processes see too."""
    folder = tmp_path / "home"
    monkeypatch.setenv("UNDERSTUDY_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared real data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """A real pretrained Llama of 260 k parameters."""
    return shared / "models" / "stories260k"


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The bundled model."""
    return ROOT / "assets" / "demo" / "model"


@pytest.fixture
def understudy(root: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own: `understudy("train", "--model", ...)`."""

    def run(*arguments: str, timeout: float = 120, **environment: str) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "app", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "UNDERSTUDY_HOME": str(root), "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def tiny_text(tmp_path: Path) -> Path:
    """A small play, enough for a few steps."""
    path = tmp_path / "play.txt"
    scene = "FIRST:\nWho goes there in the night?\n\nSECOND:\nA friend, with bread and wine.\n\n"
    path.write_text("".join(scene.replace("night", f"night of day {n}") for n in range(60)))
    return path


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a .jsonl file and return its path."""

    def write(rows: list[Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
