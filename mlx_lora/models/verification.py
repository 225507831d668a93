"""The job that looks whether a model's files are what they should be, and mends them if asked to.

No mlx here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.events import Event, Finished, Phase, Pulse, Report
from mlx_lora.models.damage import INDEX, check_hashes, damage_error, find_damage, repair_plan
from mlx_lora.models.download import fetch_files
from mlx_lora.models.hub_api import open_hub
from mlx_lora.models.hub_layout import Place
from mlx_lora.models.library import find_snapshot
from mlx_lora.models.model_files import refuse_gguf
from mlx_lora.models.proofs import Proofs, wanted_hash

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlx_lora.control import Control
    from mlx_lora.jobs import VerifyJob
    from mlx_lora.models.damage import Damage, Repair


def verify(job: VerifyJob, control: Control) -> Generator[Event, None, None]:
    """Check a model: a report `verify` names what is damaged; `repair` brings just that again.

    Raises:
        UserError: `damaged_model` or `missing_shard` for what is damaged and stays so,
            `no_such_model`, `network` and others of a download.
    """
    root = Path(job.root)
    plan = yield from _checked(job, root, control)
    if control.stopping:
        yield Finished(reason="stopped")
        return
    yield Report(kind="verify", data=_facts(plan))
    if plan.damage and not (job.repair and plan.possible):
        raise damage_error(job.model, plan)
    mended = []
    while plan.damage:
        mended += [one.name for one in plan.damage]
        open_hub(root, job.model)
        place = Place(plan.repository, plan.commit, "model")
        whole = yield from fetch_files(place, plan.files, root, control)
        if not whole:
            yield Finished(reason="stopped")
            return
        plan = repair_plan(job.model)  # an index that is whole again may name more
        if any(one.name in mended for one in plan.damage):
            raise damage_error(job.model, plan)
    yield Finished(reason="done", result={"model": job.model, "repaired": mended})


def _checked(job: VerifyJob, root: Path, control: Control) -> Generator[Event, None, Repair]:
    """What is damaged: by its looks, and of the rest by its hash."""
    folder, _, _ = find_snapshot(job.model)
    refuse_gguf(folder)
    found = {one.name: one for one in find_damage(folder)}
    proofs, pulse = Proofs(root), Pulse()
    if job.again:
        for path in folder.iterdir():
            proofs.forget(path)
    reading = check_hashes(folder, proofs)
    while True:
        try:
            done, total = next(reading)
        except StopIteration as end:
            found = {**{one.name: one for one in end.value}, **found}
            break
        if pulse.due():
            yield Phase("checking", done, total)
        if control.stopping:
            break
    if INDEX in found:  # what it says is missing is not to be believed
        found = {name: one for name, one in found.items() if not _said_by_index(folder, one)}
    return repair_plan(job.model, [found[name] for name in sorted(found)])


def _said_by_index(folder: Path, one: Damage) -> bool:
    """Whether only the index told that a file is missing."""
    is_linked = (folder / one.name).is_symlink()
    return one.kind == "missing" and one.name != "config.json" and not is_linked


def _facts(plan: Repair) -> dict[str, Any]:
    folder, _, _ = find_snapshot(plan.source)
    hashed = [path.name for path in sorted(folder.iterdir()) if wanted_hash(path)]
    damage: list[Any] = msgspec.to_builtins(plan.damage)
    return {"model": plan.source, "damage": damage, "repairable": plan.possible, "hashed": hashed}
