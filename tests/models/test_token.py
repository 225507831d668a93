"""Where the hub's token is kept and found; it shows nowhere."""

from __future__ import annotations

import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

from mlx_lora.errors import UserError
from mlx_lora.models.token import Token, find_token, forget_token, store_token, token_source

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "hf_canary_0123"


class Vault(KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked(CANARY)
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise KeyringLocked(password)
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


def vault(monkeypatch: pytest.MonkeyPatch, module: str) -> Vault:
    """A keyring that says it is of this module, in use."""
    kind = type("Keyring", (Vault,), {"__module__": module})
    made: Vault = kind()
    monkeypatch.setattr(keyring, "get_keyring", lambda: made)
    return made


@pytest.fixture(autouse=True)
def no_other_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own login is a file of this test's, not there yet."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "login"))
    return tmp_path / "login"


def test_kept_in_the_keychain_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    made = vault(monkeypatch, "keyring.backends.macOS")
    assert find_token() is None
    assert token_source() == ""
    store_token(f" {CANARY}\n")
    found = find_token()
    assert found is not None
    assert (found.value, found.source) == (CANARY, "the Keychain")
    assert list(made.kept.values()) == [CANARY]
    assert forget_token()
    assert not forget_token()
    assert find_token() is None


@pytest.mark.parametrize(
    "module", ["keyrings.alt.file", "keyring.backends.null", "keyring.backends.fail", "my.keyring"]
)
def test_a_plain_file_is_refused(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    made = vault(monkeypatch, module)
    with pytest.raises(UserError) as caught:
        store_token(CANARY)
    assert caught.value.code == "no_keychain"
    assert made.kept == {}
    # nor is one that lies there used
    made.kept["Understudy", "huggingface"] = CANARY
    assert find_token() is None
    assert not forget_token()


def test_of_a_chain_the_guarded_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, guarded = vault(monkeypatch, "keyrings.alt.file"), vault(
        monkeypatch, "keyring.backends.SecretService"
    )  # fmt: skip
    chain: Any = ModuleType("chain")
    chain.backends = [plain, guarded]
    monkeypatch.setattr(keyring, "get_keyring", lambda: chain)
    store_token(CANARY)
    assert (plain.kept, len(guarded.kept)) == ({}, 1)


def test_a_locked_keychain(monkeypatch: pytest.MonkeyPatch) -> None:
    made = vault(monkeypatch, "keyring.backends.macOS")
    made.locked = True
    assert find_token() is None
    with pytest.raises(UserError) as caught:
        store_token(CANARY)
    assert caught.value.code == "no_keychain"
    # not in what a traceback would show either
    assert caught.value.__suppress_context__
    assert CANARY not in str(caught.value)


def test_the_order_of_the_sources(monkeypatch: pytest.MonkeyPatch, no_other_token: Path) -> None:
    vault(monkeypatch, "keyring.backends.macOS")
    no_other_token.write_text("hf_login_01\n")
    assert "hf auth login" in token_source()
    store_token("hf_vault_01")
    assert token_source() == "the Keychain"
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_older_01")
    assert token_source() == "HUGGING_FACE_HUB_TOKEN in the environment"
    monkeypatch.setenv("HF_TOKEN", "hf_env_01")
    found = find_token()
    assert found is not None
    assert (found.value, found.source) == ("hf_env_01", "HF_TOKEN in the environment")
    # the hub's own setting: nothing that was not given to us
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    assert token_source() == "the Keychain"
    forget_token()
    assert token_source() == ""


@pytest.mark.parametrize(
    "value", ["", "short", "two words here", "hf_\u00e9\u00e9\u00e9\u00e9\u00e9", "x" * 600]
)
def test_what_is_no_token(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    made = vault(monkeypatch, "keyring.backends.macOS")
    with pytest.raises(UserError) as caught:
        store_token(value)
    assert (caught.value.code, made.kept) == ("bad_option", {})
    assert not value or value not in str(caught.value)


def test_it_prints_without_its_value() -> None:
    token = Token(CANARY, "the Keychain")
    assert "canary" not in f"{token} {token!r} {[token]}"
    with pytest.raises(TypeError):
        json.dumps(token)
