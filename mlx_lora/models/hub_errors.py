"""What the hub's library reports, in words; no token is in any of them."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.models.catalog import open_twin
from mlx_lora.models.hub_api import list_entries
from mlx_lora.models.library import hub_cache
from mlx_lora.models.token import token_source
from mlx_lora.storage import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

# answers to a person who is not known, or may not
_CLOSED = {401, 403}
_BUSY = {429: "the hub asks to wait a while", 503: "the hub is busy"}
_MISSING = {"dataset": "no_such_data", "model": "no_such_model"}
_EMPTY = {
    "dataset": "it holds no data files, only a program that makes them, which is never run",
    "model": "a file of it is not there any more",
}
_OTHER = {
    "dataset": "choose a dataset with parquet, JSON lines or CSV files",
    "model": "try again, or choose another model",
}


@contextmanager
def hub_errors(source: str, kind: str = "dataset") -> Iterator[None]:
    """Turn the hub library's errors into words.

    Raises:
        UserError: `no_such_data` or `no_such_model`, `no_access`, `network`, or what the storage
        refuses.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise gated(source, kind) from error
    except errors.DisabledRepoError as error:
        why, fix = f"the hub has shut this {kind} off", f"choose another {kind}"
        raise UserError(_MISSING[kind], source, why, fix) from error
    except errors.RepositoryNotFoundError as error:
        raise _unknown(source, kind, error) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _network(source, error) from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise UserError(_MISSING[kind], source, _EMPTY[kind], _OTHER[kind]) from error
    except errors.HFValidationError as error:
        fix = f"name a folder, or a {kind} as owner/name"
        raise UserError(_MISSING[kind], source, f"this is no {kind} id", fix) from error
    except ValueError as error:  # a web page in place of JSON
        why = "what answers is not the hub, but this network's own page or another server"
        fix = "sign in to the network or check HF_ENDPOINT, then try again"
        raise UserError("network", source, why, fix) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.errno is not None:
            raise explain(error, hub_cache()) from error
        raise _network(source, error) from error


def gated(source: str, kind: str) -> UserError:
    """Its owner wants terms accepted first; the same model without that is offered."""
    twin = open_twin(source) if kind == "model" else ""
    fix = f"accept its terms on its page ({page(source, kind)}), then {_sign_in()}"
    if used := token_source():
        fix = (
            f"accept its terms on its page ({page(source, kind)}) with the account whose token is "
            f"in use ({used})"
        )
    if twin:
        fix += f"; or take the same model without asking: {twin}"
    return UserError("no_access", source, "its owner asks for consent", fix)


def page(source: str, kind: str) -> str:
    """The address of a repository's page, for a person to open."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{source}"


def _unknown(source: str, kind: str, error: Exception) -> UserError:
    why = f"the hub has no such {kind}, or it is private"
    near = _nearest(source, kind)
    fix = f"did you mean {near}?" if near else f"check the name; for a private one {_sign_in()}"
    # a private one is answered as one that is not there, but for the number
    code = "no_access" if status(error) in _CLOSED and not near else _MISSING[kind]
    return UserError(code, source, why, fix)


def _network(source: str, error: Exception) -> UserError:
    from huggingface_hub import constants

    answer = status(error)
    if answer in _CLOSED:
        used = token_source()
        why = f"the hub does not accept the token it was sent ({used})" if used else (
            "the hub does not open this without a token"
        )  # fmt: skip
        return UserError("no_access", source, why, _sign_in())
    if constants.is_offline_mode():
        fix = "take HF_HUB_OFFLINE out of the environment and try again"
        return UserError("network", source, "HF_HUB_OFFLINE is set", fix)
    why = "the hub cannot be reached (no connection)"
    if answer:
        why = _BUSY.get(answer, f"the hub answers with an error ({answer})")
    return UserError("network", source, why, "check the connection and try again")


def status(error: BaseException) -> int:
    """The number the hub answered with, 0 where there was no answer."""
    return int(getattr(getattr(error, "response", None), "status_code", None) or 0)


def _nearest(source: str, kind: str) -> str:
    """One of a like name, empty where there is none or the hub does not say."""
    import huggingface_hub

    api = huggingface_hub.HfApi(token=False)
    try:
        found = list_entries(api, kind, search=source.rpartition("/")[2], limit=20)
    except (OSError, ValueError, huggingface_hub.errors.HTTPError):  # type: ignore[attr-defined]
        return ""
    names = [one["id"] for one in found]
    return next(iter(difflib.get_close_matches(source, names, n=1)), "")


def _sign_in() -> str:
    return "give a token with: understudy models token set (hf auth login and HF_TOKEN work too)"
