"""The person's token for the hub: kept in the Keychain, never in a file of ours, argv or a log.

Found in this order: the environment, our entry in the Keychain, the hub's own login. A keyring that
is a plain file is refused. Everything here takes up to half a second: off the window's thread.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mlx_lora.errors import UserError

_SERVICE, _ACCOUNT = "Understudy", "huggingface"
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
# keyrings that the system guards; all others (plain files, files with a password) are refused
_GUARDED = {
    "keyring.backends.macOS", "keyring.backends.SecretService", "keyring.backends.libsecret",
    "keyring.backends.kwallet", "keyring.backends.Windows",
}  # fmt: skip
_FORM = re.compile(r"[\x21-\x7e]{8,512}")
KEYCHAIN = "the Keychain"


class Token:
    """A token and where it is from; printing it shows the latter alone."""

    __slots__ = ("source", "value")

    def __init__(self, value: str, source: str) -> None:
        self.value, self.source = value, source

    def __repr__(self) -> str:
        return f"Token(source={self.source!r})"


def find_token() -> Token | None:
    """The token to use; None where there is none."""
    implicit = not _is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")
    for name in _VARIABLES if implicit else ():
        if value := os.environ.get(name, "").strip():
            return Token(value, f"{name} in the environment")
    if value := _kept():
        return Token(value, KEYCHAIN)
    if implicit and (value := _login()):
        return Token(value, "the hub's own login (hf auth login)")
    return None


def store_token(value: str) -> None:
    """Keep a token in the Keychain.

    Raises:
        UserError: `bad_option` for what is no token, `no_keychain` where none guards it.
    """
    value = value.strip()
    if not _FORM.fullmatch(value):
        why, fix = "this is no token", "copy it from the hub's page of your access tokens"
        raise UserError("bad_option", "token", why, fix)
    vault = _vault()
    if vault is None:
        raise _no_keychain("this machine has no Keychain that guards it")
    from keyring.errors import KeyringError

    try:
        vault.set_password(_SERVICE, _ACCOUNT, value)
    except KeyringError:  # its words may hold anything
        raise _no_keychain("the Keychain did not take it") from None


def forget_token() -> bool:
    """Take our entry out of the Keychain; whether there was one.

    Raises:
        UserError: `no_keychain` where the Keychain refuses.
    """
    vault = _vault()
    if vault is None or not _kept():
        return False
    from keyring.errors import KeyringError

    try:
        vault.delete_password(_SERVICE, _ACCOUNT)
    except KeyringError:
        raise _no_keychain("the Keychain did not let go of it") from None
    return True


def token_source() -> str:
    """Where the token in use is from, in words; empty where there is none."""
    token = find_token()
    return token.source if token else ""


def _kept() -> str:
    vault = _vault()
    if vault is None:
        return ""
    from keyring.errors import KeyringError

    try:
        return str(vault.get_password(_SERVICE, _ACCOUNT) or "")
    except KeyringError:  # locked, or the person said no
        return ""


def _vault() -> Any:
    """The keyring of this system that keeps no plain file; None where there is none."""
    import keyring

    chosen = keyring.get_keyring()
    inner = getattr(chosen, "backends", None)  # a chain of several
    candidates = list(inner) if isinstance(inner, list | tuple) else [chosen]
    return next((one for one in candidates if type(one).__module__ in _GUARDED), None)


def _login() -> str:
    from huggingface_hub import constants

    try:
        return Path(constants.HF_TOKEN_PATH).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}


def _no_keychain(why: str) -> UserError:
    fix = "set HF_TOKEN in the environment, or sign in with: hf auth login"
    return UserError("no_keychain", "token", why, fix)
