"""What the hub's library reports, in words; no token is in any of them."""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.models.library import hub_cache
from mlx_lora.storage import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

# answers to a person who is not known, or may not
_CLOSED = {401, 403}
_BUSY = {429: "the hub asks to wait a while", 503: "the hub is busy"}


@contextmanager
def hub_errors(source: str) -> Iterator[None]:
    """Turn the hub library's errors into words.

    Raises:
        UserError: `no_such_data`, `no_access`, `network`, or what the storage refuses.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        fix = f"accept its terms on its page ({_page(source)}), then {_sign_in()}"
        raise UserError("no_access", source, "its owner asks for consent", fix) from error
    except errors.DisabledRepoError as error:
        why, fix = "the hub has shut this dataset off", "choose another dataset"
        raise UserError("no_such_data", source, why, fix) from error
    except errors.RepositoryNotFoundError as error:
        why = "the hub has no such dataset, or it is private"
        near = _nearest(source)
        fix = f"did you mean {near}?" if near else f"check the name; for a private one {_sign_in()}"
        # a private one is answered as one that is not there, but for the number
        code = "no_access" if _status(error) in _CLOSED and not near else "no_such_data"
        raise UserError(code, source, why, fix) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _network(source, error) from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        why = "it holds no data files, only a program that makes them, which is never run"
        fix = "choose a dataset with parquet, JSON lines or CSV files"
        raise UserError("no_such_data", source, why, fix) from error
    except errors.HFValidationError as error:
        fix = "name a file, a folder, or a dataset as owner/name"
        raise UserError("no_such_data", source, "this is no dataset id", fix) from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]
        raise _network(source, error) from error
    except OSError as error:
        if error.errno is not None:
            raise explain(error, hub_cache()) from error
        raise _network(source, error) from error


def _network(source: str, error: Exception) -> UserError:
    from huggingface_hub import constants

    answer = _status(error)
    if answer in _CLOSED:
        why = f"the hub does not accept the token it was sent ({_token_source()})"
        return UserError("no_access", source, why, _sign_in())
    if constants.is_offline_mode():
        fix = "take HF_HUB_OFFLINE out of the environment and try again"
        return UserError("network", source, "HF_HUB_OFFLINE is set", fix)
    why = "the hub cannot be reached (no connection)"
    if answer:
        why = _BUSY.get(answer, f"the hub answers with an error ({answer})")
    return UserError("network", source, why, "check the connection and try again")


def _status(error: Exception) -> int:
    """The number the hub answered with, 0 where there was no answer."""
    return int(getattr(getattr(error, "response", None), "status_code", None) or 0)


def _nearest(source: str) -> str:
    """A dataset of a like name, empty where there is none or the hub does not say."""
    import huggingface_hub

    try:
        found = huggingface_hub.HfApi().list_datasets(search=source.rpartition("/")[2], limit=20)
        names = [one.id for one in found]
    except (OSError, ValueError, huggingface_hub.errors.HTTPError):  # type: ignore[attr-defined]
        return ""
    return next(iter(difflib.get_close_matches(source, names, n=1)), "")


def _token_source() -> str:
    named = next((n for n in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(n)), "")
    return f"{named} in the environment" if named else "the one of hf auth login"


def _sign_in() -> str:
    return "sign in with: hf auth login, or set HF_TOKEN"


def _page(source: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/datasets/{source}"
