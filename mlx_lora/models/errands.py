"""Short questions about models, answered in a worker: the hub, its token, what is deleted.

The hub's library and the Keychain take up to half a second each and never enter the process of a
window. No mlx here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora import jobs
from mlx_lora.errors import UserError
from mlx_lora.events import Event, Finished, Phase, Report
from mlx_lora.models import hub, token
from mlx_lora.models.catalog import find_variant, open_twin
from mlx_lora.models.deletion import delete_model
from mlx_lora.models.description import core_description, read_description
from mlx_lora.models.holdings import find_holding
from mlx_lora.models.hub_api import PATIENCE, open_hub
from mlx_lora.models.hub_layout import Place, discard
from mlx_lora.models.library import find_model
from mlx_lora.models.shape import Shape, parameters, shape_of
from mlx_lora.runs import RunStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIG = "config.json"
# a config.json is a few kB; what claims to be more is not read
_LARGEST = 4 << 20


def run_errand(job: jobs.Errand) -> Iterator[Event]:
    """The answer as one report: `search`, `remote`, `token` or `deleted`.

    Raises:
        UserError: as `hub.search`, `hub.look_up`, `store_token` or `delete_model`.
    """
    yield Phase("asking")
    match job:
        case jobs.SearchJob():
            found = hub.search(job.words, Path(job.root), job.limit)
            yield Report(kind="search", data={"models": msgspec.to_builtins(found)})
        case jobs.LookJob():
            yield Report(kind="remote", data=describe(job.model, Path(job.root)))
        case jobs.TokenJob():
            yield Report(kind="token", data=_handle_token(job))
        case jobs.DeleteJob():
            yield Report(kind="deleted", data={"model": job.model, "freed": _delete(job)})
    yield Finished(reason="done")


def describe(repository: str, root: Path) -> dict[str, Any]:
    """A model of the hub with its sizes, so that it can be said whether it fits.

    Keys: those of `RemoteModel` without its files, `weights` (bytes), `bits` and `numbers` (0 where
    they are not known), `shape` (None where the hub does not show config.json).
    """
    model = hub.look_up(repository, root)
    data: dict[str, Any] = msgspec.to_builtins(model)
    del data["files"]
    shape, bits = _sizes(model, root)
    return data | {
        "twin": model.twin or (open_twin(repository) if model.gated else ""),
        "weights": sum(one.size for one in model.files if one.name.endswith(".safetensors")),
        "bits": bits,
        "numbers": parameters(shape) if shape else model.parameters,
        "shape": msgspec.to_builtins(shape),
    }


def _sizes(model: hub.RemoteModel, root: Path) -> tuple[Shape | None, int]:
    """(shape, bits a weight) as the catalogue or the model's config.json has them."""
    entry = find_variant(model.repository)
    if entry is not None:
        return entry.shape, entry.bits
    content = _read_config(model, root)
    if not content:
        return None, 0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / _CONFIG).write_bytes(content)
        try:
            description = read_description(Path(folder))
            shape = shape_of(core_description(description))
        except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError):
            return None, 0  # a download will say what is wrong with it
    packed = description.get("quantization")
    if isinstance(packed, dict):
        return shape, int(packed.get("bits", 4))
    kind = description.get("torch_dtype") or description.get("dtype")
    return shape, 32 if kind == "float32" else 16


def _read_config(model: hub.RemoteModel, root: Path) -> bytes:
    """Its config.json, a few kB; empty where the hub keeps it back until terms are accepted."""
    one = next((file for file in model.files if file.name == _CONFIG), None)
    if one is None or one.size > _LARGEST:
        return b""
    here = Place(model.repository, model.commit, "model").pointer(one)
    if here.is_file():
        return here.read_bytes()
    import huggingface_hub

    library: Any = huggingface_hub.utils
    address = huggingface_hub.hf_hub_url(model.repository, _CONFIG, revision=model.commit)
    headers = library.build_hf_headers(token=open_hub(root, model.repository).token)
    try:
        answer = library.get_session().get(address, headers=headers, timeout=PATIENCE)
        library.hf_raise_for_status(answer)
    except (OSError, huggingface_hub.errors.HTTPError):  # type: ignore[attr-defined]
        return b""
    return bytes(answer.content[:_LARGEST])


def _handle_token(job: jobs.TokenJob) -> dict[str, Any]:
    """What was asked for, and where the token in use is from now; never the token."""
    gone = False
    if job.act == "store":
        token.store_token(job.value)
    elif job.act == "forget":
        gone = token.forget_token()
    return {"act": job.act, "source": token.token_source(), "gone": gone}


def _delete(job: jobs.DeleteJob) -> int:
    """Bytes that became free."""
    store = RunStore(Path(job.root))
    if job.unfinished and _is_whole(job.model):
        return discard(job.model, "model")
    try:
        found = find_holding(job.model, store, job.folders)
    except UserError:
        if job.unfinished:  # nothing had arrived
            return 0
        raise
    return delete_model(found, store, even_if_used=job.even_if_used or job.unfinished)


def _is_whole(source: str) -> bool:
    try:
        find_model(source)
    except UserError:
        return False
    return True
