"""The one way to the hub: its own library, with the person's token, where that is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlx_lora import __version__
from mlx_lora.models.offline import check_online
from mlx_lora.models.token import find_token

if TYPE_CHECKING:
    from pathlib import Path


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
