"""Datasets of the Hugging Face hub: the files of one configuration and split, brought here once.

They lie in the cache all tools share. What was brought is noted in the data root, with the commit
it is of, so that it is found again without a connection and stays the same.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.data.hub_files import DEFAULT, choose_files, converted_layout, layout_of
from mlx_lora.errors import UserError
from mlx_lora.events import Phase
from mlx_lora.models.library import hub_cache
from mlx_lora.storage import digest, expanded, explain, storage_errors, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_lora.config import DataConfig

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_CONVERTED = "refs/convert/parquet"
# seconds between two words on how far a download is
_PATIENCE = 0.25


class Manifest(msgspec.Struct, frozen=True):
    """What was brought: paths are those in the repository.

    Attributes:
        commit: the version, as the hub names it.
    """

    repository: str
    commit: str
    files: dict[str, list[str]]


class _Wanted(msgspec.Struct, frozen=True):
    """A file to bring: its size in bytes and its SHA-256, where the hub says them."""

    name: str
    size: int
    sha256: str


def is_hub_id(source: str) -> bool:
    """Whether DATA has the form of a dataset id and is no path that exists."""
    if not _ID.fullmatch(source):
        return False
    try:
        return not expanded(source).exists()
    except OSError:
        return False


def needs_fetch(data: DataConfig, root: Path) -> bool:
    """Whether DATA is a dataset of the hub that is not on this machine, or not whole."""
    return is_hub_id(data.source) and _found(data, root) is None


def fetched_files(data: DataConfig, root: Path) -> dict[str, tuple[Path, ...]]:
    """The files of a dataset that was brought, by split.

    Raises:
        UserError: `no_such_data` where it was not.
    """
    found = _found(data, root)
    if found is None:
        why = "this dataset is not on this machine"
        fix = "download it first with: understudy data check " + data.source
        raise UserError("no_such_data", data.source, why, fix)
    return found


def fetch_dataset(data: DataConfig, root: Path) -> Iterator[Phase]:
    """Bring what is missing, saying how far it is in bytes.

    Raises:
        UserError: `no_such_data` for a dataset, configuration or split that is not there or may
        not be had, `network`, or what the storage refuses.
    """
    yield Phase("downloading", 0, 0)
    with _hub_errors(data.source):
        commit, chosen, sizes = _look_up(data)
    wanted = [sizes[name] for names in chosen.values() for name in names]
    total, done = sum(one.size for one in wanted), 0
    _remove_orphans(data.source)
    for one in wanted:
        yield from _bring(data.source, commit, one, (done, total))
        done += one.size
        yield Phase("downloading", done, total)
    manifest = Manifest(data.source, commit, chosen)
    place = _manifest_path(data, root)
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    write_file(place, msgspec.json.encode(manifest) + b"\n")


def _look_up(data: DataConfig) -> tuple[str, dict[str, list[str]], dict[str, _Wanted]]:
    """(commit, files by split, every file of that version by name)."""
    import huggingface_hub

    api = huggingface_hub.HfApi()
    info = api.dataset_info(data.source, files_metadata=True)
    card = _card(info)
    layout = layout_of([one.rfilename for one in info.siblings or ()], card)
    if not layout:
        info = api.dataset_info(data.source, revision=_CONVERTED, files_metadata=True)
        layout = converted_layout(one.rfilename for one in info.siblings or ())
    if not layout:
        why = "no file of it is data that can be read here"
        raise UserError("no_such_data", data.source, why, "choose another dataset")
    chosen = choose_files(data.source, layout, card, data.subset, data.split)
    files = {one.rfilename: _wanted(one) for one in info.siblings or ()}
    return str(info.sha), chosen, files


def _card(info: Any) -> dict[str, Any]:
    """What the head of the repository's README says."""
    card = info.card_data
    found = card.to_dict() if card is not None else {}
    return found if isinstance(found, dict) else {}


def _wanted(sibling: Any) -> _Wanted:
    lfs = sibling.lfs
    sha256 = str(lfs.get("sha256", "")) if lfs else ""
    return _Wanted(sibling.rfilename, int(sibling.size or 0), sha256)


def _bring(repository: str, commit: str, one: _Wanted, so_far: tuple[int, int]) -> Iterator[Phase]:
    """One file, checked against what the hub says of it."""
    import huggingface_hub

    def download() -> str:
        return huggingface_hub.hf_hub_download(
            repository, one.name, repo_type="dataset", revision=commit
        )

    done, total = so_far
    with _hub_errors(repository), ThreadPoolExecutor(1) as pool:
        work = pool.submit(download)
        while not wait_for([work], timeout=_PATIENCE).done:
            yield Phase("downloading", done + _arrived(repository), total)
        path = Path(work.result())
    good = not one.size or path.stat().st_size == one.size
    if good and one.sha256:
        good = digest(path) == one.sha256
    if not good:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        why = "what arrived is not what the hub holds (its checksum differs)"
        raise UserError("network", f"{repository}/{one.name}", why, "try again")


def _found(data: DataConfig, root: Path) -> dict[str, tuple[Path, ...]] | None:
    """The files, where all of them are here."""
    try:
        manifest = msgspec.json.decode(_manifest_path(data, root).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    if manifest.repository != data.source:
        return None
    snapshot = _repository(data.source) / "snapshots" / manifest.commit
    files = {
        split: tuple(snapshot / name for name in names) for split, names in manifest.files.items()
    }
    return files if all(p.is_file() for paths in files.values() for p in paths) else None


def _manifest_path(data: DataConfig, root: Path) -> Path:
    def plain(text: str) -> str:
        return re.sub(r"[^\w.-]", "_", text) or "_"

    name = f"{plain(data.subset or DEFAULT)}@{plain(data.split or '_')}.json"
    return root / "datasets" / "hub" / data.source.replace("/", "--") / name


def _repository(source: str) -> Path:
    return hub_cache() / f"datasets--{source.replace('/', '--')}"


def _arrived(source: str) -> int:
    """Bytes of the file that is on its way."""
    sizes = []
    for path in (_repository(source) / "blobs").glob("*.incomplete"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return max(sizes, default=0)


def _remove_orphans(source: str) -> None:
    """What an interrupted download left: the hub's library begins anew and leaves it lying."""
    for path in (_repository(source) / "blobs").glob("*.incomplete"):
        path.unlink(missing_ok=True)


@contextmanager
def _hub_errors(source: str) -> Iterator[None]:
    """Turn the hub library's errors into words; no token is in any of them."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        fix = f"accept its terms on its page ({_page(source)}), then sign in with: hf auth login"
        raise UserError("no_such_data", source, "its owner asks for consent", fix) from error
    except errors.RepositoryNotFoundError as error:
        why = "the hub has no such dataset, or it is private"
        fix = "check the name (owner/name); for a private one sign in with: hf auth login"
        raise UserError("no_such_data", source, why, fix) from error
    except errors.LocalEntryNotFoundError as error:  # what it says where it has no connection
        raise _network(source, error) from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        why = "it holds no data files, only a program that makes them, which is never run"
        fix = "choose a dataset with parquet, JSON lines or CSV files"
        raise UserError("no_such_data", source, why, fix) from error
    except errors.HFValidationError as error:
        fix = "name a file, a folder, or a dataset as owner/name"
        raise UserError("no_such_data", source, "this is no dataset id", fix) from error
    except (errors.HTTPError, errors.OfflineModeIsEnabled) as error:  # type: ignore[attr-defined]
        raise _network(source, error) from error
    except OSError as error:
        if error.errno is not None:
            raise explain(error, _repository(source)) from error
        raise _network(source, error) from error


def _network(source: str, error: Exception) -> UserError:
    answer = getattr(getattr(error, "response", None), "status_code", None)
    busy = {429: "the hub asks to wait a while", 503: "the hub is busy"}
    why = busy.get(answer or 0, f"the hub answers with an error ({answer})" if answer else "")
    why = why or "the hub cannot be reached (no connection)"
    return UserError("network", source, why, "check the connection and try again")


def _page(source: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{source}"
