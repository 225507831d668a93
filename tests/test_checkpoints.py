"""Complete-or-absent checkpoints: found by scanning, checked by hash, pruned."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import trial

from mlx_lora import checkpoints
from mlx_lora.checkpoints import Checkpoint, best, drop_damaged, prune, save_checkpoint, scan
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def save(folder: Path, step: int, loss: float | None = None, content: str = "") -> Checkpoint:
    def write(temporary: Path) -> None:
        (temporary / checkpoints.WEIGHTS).write_text(content or f"weights {step}")
        (temporary / checkpoints.OPTIMIZER).write_text(f"moments {step}")

    facts: dict[str, Any] = {"state": {"step": step}, "environment": {"mlx": "1"}}
    return save_checkpoint(folder, step, write, base_fingerprint="f", validation_loss=loss, **facts)


def steps(folder: Path) -> list[int]:
    return [checkpoint.manifest.step for checkpoint in scan(folder)]


def test_latest_and_best_are_found_by_scanning(tmp_path: Path) -> None:
    assert scan(tmp_path) == []
    assert best([]) is None
    for step, loss in ((1000, 2.0), (4, 1.0), (8, 1.0), (12, None)):
        save(tmp_path, step, loss)
    found = scan(tmp_path)
    assert [c.manifest.step for c in found] == [4, 8, 12, 1000]
    winner = best(found)
    assert winner is not None
    assert winner.manifest.step == 4
    assert best(found[2:3]) == found[2]
    assert found[0].manifest.state == {"step": 4}
    assert found[0].file(checkpoints.WEIGHTS).read_text() == "weights 4"


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, loss in ((1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, None)):
        save(tmp_path, step, loss)
        prune(tmp_path, keep=2)
    assert steps(tmp_path) == [2, 4, 5]
    (tmp_path / ".incomplete-1-step-000006").mkdir()
    (tmp_path / ".incomplete-1-step-000006" / "half").write_text("")
    prune(tmp_path, keep=2)
    assert steps(tmp_path) == [2, 4, 5]
    assert trial.leftovers(tmp_path) == []
    prune(tmp_path / "nowhere", keep=2)


def test_the_same_step_again_is_not_written_again(tmp_path: Path) -> None:
    save(tmp_path, 3, content="first")
    save(tmp_path, 3, content="second")
    assert (tmp_path / "step-000003" / checkpoints.WEIGHTS).read_text() == "first"


def test_without_a_manifest_it_is_none_and_does_not_stand_in_the_way(tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoint = save(tmp_path, 2)
    (checkpoint.folder / "manifest.json").unlink()
    assert steps(tmp_path) == [1]
    assert drop_damaged(tmp_path) == []
    save(tmp_path, 2)
    assert steps(tmp_path) == [1, 2]
    assert trial.leftovers(tmp_path) == []


def damage(checkpoint: Checkpoint, how: str) -> str:
    """Harm a checkpoint; returns the file that is not what it was."""
    name = "manifest.json" if how == "manifest" else checkpoints.OPTIMIZER
    path = checkpoint.folder / name
    content = path.read_bytes()
    match how:
        case "gone":
            path.unlink()
        case "flipped":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case _:
            path.write_bytes(content[:-4])
    return name


@pytest.mark.parametrize("how", ["truncated", "flipped", "gone", "manifest"])
def test_damage_is_named_and_costs_only_that_checkpoint(how: str, tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoint = save(tmp_path, 2)
    name = damage(checkpoint, how)
    if how != "manifest":
        with pytest.raises(UserError) as caught:
            checkpoint.file(name)
        assert caught.value.code == "damaged_checkpoint"
        assert caught.value.where.endswith(f"step-000002/{name}")
        assert "step-000002" in caught.value.fix
    errors = drop_damaged(tmp_path)
    assert [error.code for error in errors] == ["damaged_checkpoint"]
    assert errors[0].where.endswith(f"step-000002/{name}")
    assert steps(tmp_path) == [1]
    assert trial.leftovers(tmp_path) == []


def test_where_none_is_whole_nothing_is_deleted(tmp_path: Path) -> None:
    for step in (1, 2):
        damage(save(tmp_path, step), "manifest")
    with pytest.raises(UserError) as caught:
        drop_damaged(tmp_path)
    assert caught.value.where.endswith("step-000002/manifest.json")
    assert len(list(tmp_path.glob("step-*"))) == 2


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_full_disk_at_every_write_harms_nothing(
    nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    calls, real = 0, os.fsync

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError) as caught:
        save(tmp_path, 2)
    assert caught.value.code == "disk_full"
    assert "step-000002" in caught.value.where
    assert "MB free" in caught.value.why
    for checkpoint in scan(tmp_path):
        for name in checkpoint.manifest.files:
            checkpoint.file(name)
    assert steps(tmp_path) in ([1], [1, 2])
    assert trial.leftovers(tmp_path) == []
