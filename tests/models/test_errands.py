"""Questions about models, as a worker answers them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import Hub, Repository

from mlx_lora import jobs
from mlx_lora.errors import UserError
from mlx_lora.events import Finished, Report
from mlx_lora.models import token
from mlx_lora.models.errands import describe, run_errand
from mlx_lora.models.hub_layout import repository_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
CANARY = "hf_canary_0123"


def whole(folder: Path, **extra: Any) -> Repository:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Repository(files, **{"config": LLAMA, "tags": ["safetensors"], **extra})


def answer(job: jobs.Errand) -> tuple[str, dict[str, Any]]:
    *_, report, last = run_errand(job)
    assert last == Finished(reason="done")
    assert isinstance(report, Report)
    json.dumps(report.data)
    return report.kind, report.data


def test_searched_and_looked_at_with_its_sizes(
    hub: Callable[..., Hub], tmp_path: Path, demo_model: Path
) -> None:
    made = whole(demo_model, downloads=7)
    hub({"anna/tiny": made})
    kind, data = answer(jobs.SearchJob(words="tiny", root=str(tmp_path)))
    assert (kind, [one["repository"] for one in data["models"]]) == ("search", ["anna/tiny"])
    kind, data = answer(jobs.LookJob(model="anna/tiny", root=str(tmp_path)))
    config = json.loads((demo_model / "config.json").read_text())
    assert (kind, data["shape"]["hidden"]) == ("remote", config["hidden_size"])
    assert (data["numbers"], data["bits"]) == (3_410_176, 16)
    assert data["weights"] == (demo_model / "model.safetensors").stat().st_size
    assert data["missing"] == data["size"] > data["weights"]
    made.gated = True  # then even config.json is kept back
    data = describe("anna/tiny", tmp_path)
    assert (data["gated"], data["shape"], data["bits"]) == (True, None, 0)


def test_a_suggested_model_needs_no_file_to_be_known(
    hub: Callable[..., Hub], tmp_path: Path, demo_model: Path
) -> None:
    made = whole(demo_model)
    made.gated = True
    hub({"google/gemma-3-1b-it": made})
    data = describe("google/gemma-3-1b-it", tmp_path)
    assert (data["shape"]["family"], data["bits"]) == ("gemma3_text", 16)
    assert data["twin"].startswith("mlx-community/gemma-3-1b-it")


def test_the_token_is_kept_and_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(token, "store_token", kept.append)
    monkeypatch.setattr(token, "forget_token", lambda: True)
    monkeypatch.setattr(token, "token_source", lambda: "the Keychain")
    job = jobs.TokenJob(act="store", value=CANARY)
    assert CANARY not in repr(job)
    said = [repr(event) for event in run_errand(job)]
    assert kept == [CANARY]
    assert CANARY not in "".join(said)
    assert answer(jobs.TokenJob()) == (
        "token", {"act": "show", "source": "the Keychain", "gone": False},
    )  # fmt: skip
    assert answer(jobs.TokenJob(act="forget"))[1]["gone"]


def test_deleted_whole_or_only_what_was_begun(
    hub: Callable[..., Hub], tmp_path: Path, demo_model: Path
) -> None:
    hub({"anna/tiny": whole(demo_model)})
    from mlx_lora.control import Control
    from mlx_lora.models.fetch import bring

    list(bring(jobs.DownloadJob(model="anna/tiny", root=str(tmp_path)), Control()))
    folder = repository_folder("anna/tiny", "model")
    partial = folder / "blobs" / f"{'a' * 64}.incomplete"
    partial.write_bytes(bytes(70))
    begun = jobs.DeleteJob(model="anna/tiny", root=str(tmp_path), unfinished=True)
    assert answer(begun) == ("deleted", {"model": "anna/tiny", "freed": 70})
    assert (folder / "refs" / "main").is_file()
    (folder / "refs" / "main").unlink()  # it never became whole
    assert answer(begun)[1]["freed"] > 1_000_000
    assert not folder.exists()
    assert answer(begun)[1]["freed"] == 0
    with pytest.raises(UserError, match="not on this machine"):
        answer(jobs.DeleteJob(model="anna/tiny", root=str(tmp_path)))
