"""Models of the hub: searched, looked at, brought, refused in words."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import LARGE, Hub, Repository

from mlx_lora import jobs
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.events import Finished, Phase, Report
from mlx_lora.models.fetch import bring, fetch_model, needs_download
from mlx_lora.models.hub import look_up, search
from mlx_lora.models.library import check_model, find_model
from mlx_lora.models.model_files import suggested_twin
from mlx_lora.models.offline import offline_reason, switch_offline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
TAGS = ["safetensors", "license:apache-2.0"]


def llama(downloads: int = 5, **extra: Any) -> Repository:
    """What a search tells of a model that can be trained."""
    facts = {"config": LLAMA, "tags": TAGS, "downloads": downloads, "library_name": "transformers"}
    return Repository({}, **{**facts, **extra})


def whole(folder: Path, **extra: Any) -> Repository:
    """A repository with a model in it, and with what is not to be fetched."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    others = ("pytorch_model.bin", "onnx/model.onnx", "original/model.safetensors", "run.py")
    files |= dict.fromkeys(others, b"other" * LARGE)
    return Repository(files, **{"config": LLAMA, "tags": TAGS, **extra})


def refusal(tmp_path: Path, repository: str) -> UserError:
    with pytest.raises(UserError) as caught:
        look_up(repository, tmp_path)
    return caught.value


def test_a_search_finds_what_can_be_trained(hub: Callable[..., Hub], tmp_path: Path) -> None:
    packed = {**LLAMA, "quantization_config": {"quant_method": "gptq"}}
    repositories = {
        "a/llama-few": llama(3),
        "a/llama-many": llama(900, gated="manual"),
        "mlx-community/llama-mlx": llama(
            50, tags=[*TAGS, "mlx"], config={**LLAMA, "quantization_config": {"bits": 4}},
            safetensors={"parameters": {"U32": 10, "BF16": 1}, "total": 11},
        ),
        "a/llama-known": llama(40, safetensors={"parameters": {"BF16": 7}, "total": 7}),
        # what cannot be trained here
        "a/llama-gguf": llama(999, tags=["gguf"], library_name="gguf"),
        "a/llama-awq": llama(999, config=packed),
        "a/llama-odd": llama(999, config={"model_type": "odd_kind"}),
        "a/llama-sorter": llama(
            999, config={**LLAMA, "architectures": ["LlamaForSequenceClassification"]}
        ),
        "a/llama-lora": llama(999, library_name="peft"),
        "a/llama-none": llama(999, config=None),
        "b/other": llama(999),
    }  # fmt: skip
    hub(repositories)
    found = search("llama", tmp_path)
    names = [one.repository for one in found]
    assert names == ["a/llama-many", "mlx-community/llama-mlx", "a/llama-known", "a/llama-few"]
    assert [one.gated for one in found] == [True, False, False, False]
    assert [one.mlx for one in found] == [False, True, False, False]
    assert [one.parameters for one in found] == [0, 0, 7, 0]
    assert {one.licence for one in found} == {"apache-2.0"}
    assert [one.repository for one in search("llama", tmp_path, 2)] == names[:2]
    assert [one.repository for one in search("", tmp_path, 1)] == ["b/other"]
    assert search("nothing-like-it", tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_search_the_hub_refuses(hub: Callable[..., Hub], tmp_path: Path, status: int) -> None:
    made = llama()
    made.status = status
    hub({"a/llama": made})
    with pytest.raises(UserError) as caught:
        search("llama", tmp_path)
    assert caught.value.code == "network"


def test_a_network_that_answers_with_a_page_of_its_own(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.json.dumps", lambda _: "<html>sign in</html>")
    hub({"a/llama": llama()})
    for ask in (lambda: search("llama", tmp_path), lambda: look_up("a/llama", tmp_path)):
        with pytest.raises(UserError, match="not the hub"):
            ask()


def test_looked_at_and_brought(hub: Callable[..., Hub], tmp_path: Path, demo_model: Path) -> None:
    made = whole(demo_model)
    made.card = {"license": "other", "license_name": "my-licence"}
    server = hub({"anna/tiny": made})
    model = look_up("anna/tiny", tmp_path)
    wanted = {path.name: path.stat().st_size for path in demo_model.iterdir()}
    del wanted["training.json"], wanted["README.md"]
    assert {one.name: one.size for one in model.files} == wanted
    assert (model.licence, model.kind, model.gated) == ("my-licence", "llama", False)
    assert (model.size, model.missing) == (sum(wanted.values()), model.size)
    assert model.page == f"{server.url}/anna/tiny"
    assert needs_download("anna/tiny")
    for phase in fetch_model(model, tmp_path):
        if phase.done < phase.total:
            # nobody else finds half a model
            assert needs_download("anna/tiny")
    assert not needs_download("anna/tiny")
    folder, _, tensors = check_model("anna/tiny")
    assert tensors
    assert {path.name for path in folder.iterdir()} == set(wanted)
    assert look_up("anna/tiny", tmp_path).missing == 0


def test_a_newer_version_takes_the_place_of_the_old_when_it_is_whole(
    hub: Callable[..., Hub], tmp_path: Path, demo_model: Path
) -> None:
    made = whole(demo_model)
    server = hub({"anna/tiny": made})
    list(fetch_model(look_up("anna/tiny", tmp_path), tmp_path))
    before = find_model("anna/tiny")
    made.files["generation_config.json"] = b"{}"
    made.files["model-extra.safetensors"] = b"x" * 9000
    made.halt, sent = 4000, server.sent
    control = Control()
    for phase in fetch_model(look_up("anna/tiny", tmp_path), tmp_path, control):
        if phase.done and server.sent >= sent + 4000:
            control.stop()
    assert find_model("anna/tiny") == before
    made.halt = 0
    server.ranges.clear()
    list(fetch_model(look_up("anna/tiny", tmp_path), tmp_path))
    assert find_model("anna/tiny") != before
    # what both have is one file
    assert server.ranges == [4000]


def test_a_job_of_its_own(hub: Callable[..., Hub], tmp_path: Path, demo_model: Path) -> None:
    hub({"anna/tiny": whole(demo_model)})
    job = jobs.DownloadJob(model="anna/tiny", root=str(tmp_path))
    events = list(bring(job, Control()))
    report = next(event for event in events if isinstance(event, Report))
    assert (report.data["repository"], report.data["gated"]) == ("anna/tiny", False)
    assert {event.name for event in events if isinstance(event, Phase)} >= {"downloading"}
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.result["bytes"] == report.data["size"]
    stopped = Control()
    stopped.stop()
    (tmp_path / "cache").rename(tmp_path / "old")
    assert list(bring(job, stopped))[-1] == Finished(reason="stopped")


def test_gated_and_then_open(
    hub: Callable[..., Hub], tmp_path: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = whole(demo_model)
    made.gated = True
    server = hub({"google/gemma-3-1b-it": made})
    model = look_up("google/gemma-3-1b-it", tmp_path)
    assert (model.gated, model.licence) == (True, "Gemma Terms of Use")
    assert model.twin == "mlx-community/gemma-3-1b-it-4bit"
    with pytest.raises(UserError) as caught:
        list(fetch_model(model, tmp_path))
    error = caught.value
    assert error.code == "no_access"
    assert f"{server.url}/google/gemma-3-1b-it" in error.fix
    assert "understudy models token set" in error.fix
    assert "mlx-community/gemma-3-1b-it" in error.fix
    # a token of somebody who did not accept
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_0123")
    with pytest.raises(UserError) as caught:
        list(fetch_model(model, tmp_path))
    assert "HF_TOKEN in the environment" in caught.value.fix
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    list(fetch_model(model, tmp_path))
    assert check_model("google/gemma-3-1b-it")


@pytest.mark.parametrize(
    ("files", "card", "code", "words"),
    [
        (["m.Q4_K_M.gguf"], {"base_model": "Qwen/Qwen3-0.6B"}, "unsupported_model",
         "download mlx-community/Qwen3-0.6B-4bit"),
        (["m.gguf", "config.json"], {"base_model": ["somebody/else"]}, "unsupported_model",
         "download somebody/else"),
        (["m.gguf"], {}, "unsupported_model", "in safetensors or MLX format"),
        (["adapter_config.json", "adapter_model.safetensors"], {"base_model": "a/base"},
         "unsupported_model", "download a/base"),
        (["config.json", "pytorch_model.bin"], {}, "no_weights", "safetensors format"),
        (["model.safetensors"], {}, "no_such_model", "models search"),
        (["notes.txt"], {}, "no_such_model", "models search"),
        (["original/model.safetensors", "config.json"], {}, "no_such_model", "models search"),
    ],
)  # fmt: skip
def test_what_holds_no_model_to_train(  # noqa: PLR0917
    hub: Callable[..., Hub], tmp_path: Path, files: list[str], card: dict[str, Any],
    code: str, words: str,
) -> None:  # fmt: skip
    hub({"a/some": Repository(dict.fromkeys(files, b"{}"), card, config=LLAMA)})
    error = refusal(tmp_path, "a/some")
    assert error.code == code
    assert words in error.fix


def test_names_that_are_wrong(hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub({"a/llama": llama()})
    assert refusal(tmp_path, "a/b/c").code == "no_such_model"
    assert refusal(tmp_path, "a/llamo").fix == "did you mean a/llama?"
    private = refusal(tmp_path, "zz/nothing-of-it")
    assert (private.code, "private" in private.why) == ("no_access", True)


def test_a_kind_that_is_not_known(hub: Callable[..., Hub], tmp_path: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"x"}
    hub({"a/odd": Repository(files, config={"model_type": "odd_kind"})})
    assert "odd_kind" in refusal(tmp_path, "a/odd").why


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
          "model.safetensors", "model.safetensors.index.json"],
         ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
          "model.safetensors.index.json"]),
        (["weights.00.safetensors", "x.npz"], ["weights.00.safetensors"]),
        (["model.safetensors", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
          "vocab.json", "merges.txt", "chat_template.jinja", "special_tokens_map.json",
          "training_args.bin", "optimizer.pt", "README.md", "LICENSE", "modeling_x.py",
          "1_Pooling/config.json", "rng_state.pth", "model.onnx", "model.gguf"],
         ["chat_template.jinja", "merges.txt", "model.safetensors", "special_tokens_map.json",
          "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"]),
    ],
)  # fmt: skip
def test_which_files_are_fetched(
    hub: Callable[..., Hub], tmp_path: Path, names: list[str], chosen: list[str]
) -> None:
    files = {name: name.encode() for name in [*names, "config.json"]}
    hub({"a/some": Repository(files, config=LLAMA)})
    found = [one.name for one in look_up("a/some", tmp_path).files]
    assert sorted(found) == sorted([*chosen, "config.json"])


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("Qwen3-1.7B-Q8_0", "mlx-community/Qwen3-1.7B-4bit"),
        ("anyone/Llama-3.2-1B-Instruct-GGUF", "mlx-community/Llama-3.2-1B-Instruct-4bit"),
        ("gemma-3-1b-it-UD-Q4_K_XL", "mlx-community/gemma-3-1b-it-4bit"),
        ("somebody/else-GGUF", ""),
    ],
)
def test_a_packed_copy_by_its_name(name: str, twin: str) -> None:
    assert suggested_twin(name) == twin


def test_gguf_on_this_machine(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-0.6B"
    folder.mkdir()
    (folder / "Qwen3-0.6B-Q4_K_M.gguf").write_bytes(b"GGUF")
    for source in (folder, folder / "Qwen3-0.6B-Q4_K_M.gguf"):
        with pytest.raises(UserError) as caught:
            check_model(str(source))
        assert caught.value.code == "unsupported_model"
        assert "mlx-community/Qwen3-0.6B-4bit" in caught.value.fix


def test_offline_no_connection_is_tried(
    hub: Callable[..., Hub], tmp_path: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub({"anna/tiny": whole(demo_model)})
    model = look_up("anna/tiny", tmp_path)
    list(fetch_model(model, tmp_path))
    asked = len(server.asked)

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    from mlx_lora.data.shakespeare import find_shakespeare

    def tried() -> list[UserError]:
        errors = []
        for ask in (
            lambda: search("x", tmp_path),
            lambda: look_up("anna/tiny", tmp_path),
            lambda: find_shakespeare(tmp_path),
            lambda: list(bring(jobs.DownloadJob(model="a/b", root=str(tmp_path)), Control())),
        ):
            with pytest.raises(UserError) as caught:
                ask()
            errors.append(caught.value)
        return errors

    switch_offline(tmp_path, on=True)
    assert all("models offline off" in error.fix for error in tried())
    # what is here works
    assert check_model("anna/tiny")
    switch_offline(tmp_path, on=False)
    assert offline_reason(tmp_path) == ""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert {error.why for error in tried()} == {"HF_HUB_OFFLINE is set"}
    assert check_model("anna/tiny")
    assert len(server.asked) == asked
