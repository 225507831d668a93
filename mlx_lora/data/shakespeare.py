"""Tiny Shakespeare by name: found on this machine or fetched, SHA-256 checked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mlx_lora.errors import UserError
from mlx_lora.models.library import hub_cache
from mlx_lora.models.offline import check_online
from mlx_lora.storage import digest, storage_errors, write_file

if TYPE_CHECKING:
    from pathlib import Path

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
HOME = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
_LARGEST = 4_000_000


def find_shakespeare(root: Path, home: str = HOME) -> Path:
    """The full text (1,115,394 bytes), downloaded once into `root/datasets`.

    Raises:
        UserError: `network` when it is nowhere and cannot be fetched, or when what arrives is
        something else.
    """
    kept = root / "datasets" / "tiny-shakespeare.txt"
    cached = hub_cache().glob("datasets--*shakespeare*/snapshots/*/*.txt")
    for path in (kept, *sorted(cached)):
        if path.is_file() and digest(path) == SHA256:
            return path
    check_online(root, "tiny-shakespeare")
    content = _download(home)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise _network("what arrived is not Tiny Shakespeare (its SHA-256 differs)")
    with storage_errors(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
    write_file(kept, content)
    return kept


def _download(home: str) -> bytes:
    # 15 ms to import, for the one command that needs it
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(home, timeout=20) as answer:
            content: bytes = answer.read(_LARGEST)
    except urllib.error.HTTPError as error:
        error.close()
        raise _network(
            f"it is not on this machine, and its home answers with an error ({error.code})"
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _network(
            "it is not on this machine, and it cannot be downloaded (no connection)"
        ) from error
    return content


def _network(why: str) -> UserError:
    fix = "connect once, or use --data demo, or name a text file of your own"
    return UserError("network", "tiny-shakespeare", why, fix)
