"""The one way to the hub: its own library, with the person's token, where that is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlx_lora import __version__
from mlx_lora.models.hub_layout import Wanted
from mlx_lora.models.offline import check_online
from mlx_lora.models.token import find_token

if TYPE_CHECKING:
    from pathlib import Path

# seconds for an answer to a question; the library itself would wait for ever, or half a minute
PATIENCE = 12.0


def open_hub(root: Path, where: str) -> Any:
    """The hub's API (`huggingface_hub.HfApi`); HF_ENDPOINT and the proxies are the library's own.

    Importing it takes 0.3 s: off the window's thread.

    Raises:
        UserError: `network` where connections are switched off; `where` is what was asked for.
    """
    check_online(root, where)
    import huggingface_hub

    # its warnings of retries have long addresses in them
    huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    token = find_token()
    return huggingface_hub.HfApi(
        token=token.value if token else False,
        library_name="understudy",
        library_version=__version__,
    )


def list_entries(api: Any, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    """Entries of the hub's list of models or datasets: one page, asked for once.

    The library's own listing tries for 26 s where there is no connection.
    """
    import huggingface_hub

    library: Any = huggingface_hub.utils
    answer = library.get_session().get(
        f"{huggingface_hub.constants.ENDPOINT}/api/{kind}s",
        params={name: value for name, value in wanted.items() if value},
        headers=library.build_hf_headers(
            token=api.token, library_name="understudy", library_version=__version__
        ),
        timeout=PATIENCE,
    )
    library.hf_raise_for_status(answer)
    found = answer.json()
    entries = found if isinstance(found, list) else []
    return [one for one in entries if isinstance(one, dict) and isinstance(one.get("id"), str)]


def wanted_file(sibling: Any) -> Wanted:
    """A file of a repository's info (`RepoSibling`)."""
    lfs = sibling.lfs
    sha256 = str(lfs.get("sha256", "")) if lfs else ""
    return Wanted(sibling.rfilename, int(sibling.size or 0), sha256, str(sibling.blob_id or ""))


def card_of(info: Any) -> dict[str, Any]:
    """What the head of the repository's README says."""
    card = info.card_data
    found = card.to_dict() if card is not None else {}
    return found if isinstance(found, dict) else {}
