"""Our adapted model against transformers and PEFT: same files, same A and B, same numbers.

Needs torch, transformers and peft beside mlx; it is skipped where they are not.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from models_made import (
    LLAMA3_ROPE,
    as_numpy,
    attach_adapter,
    make_model,
    random_ids,
    random_rows,
    randomize_adapter,
)
from reference import log_softmax

from mlx_lora.data.batching import make_batch
from mlx_lora.models.loading import load_model
from mlx_lora.training.loss import step_gradient
from mlx_lora.training.objective import Objective
from mlx_lora.training.validation import measure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

RANK, SCALE = 4, 1.5
MADE: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama-rope": {"family": "llama", "rope_scaling": LLAMA3_ROPE, "tied": False},
    "gemma3_text": {"family": "gemma3_text"},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    "phi3": {"family": "phi3", "tied": False},
}


class Pair:
    """One model in both programs, with the same adapter."""

    def __init__(self, folder: Path, made: str, **shape: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.torch = pytest.importorskip("torch", reason="torch is not installed")
            transformers = pytest.importorskip("transformers", reason="transformers is missing")
            self.peft = pytest.importorskip("peft", reason="peft is not installed")
        self.torch.set_num_threads(1)
        make_model(folder, **MADE[made])
        self.model = load_model(str(folder)).module
        self.adapter = attach_adapter(self.model, rank=RANK, alpha=SCALE * RANK, **shape)
        randomize_adapter(self.adapter)
        self.adapter.train(False)
        self.base = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=self.torch.float32, attn_implementation="eager"
        )
        self.peft_folder = folder / "peft"
        self._write_peft(self.peft_folder)
        self.other = self.peft.PeftModel.from_pretrained(
            self.base, self.peft_folder, is_trainable=True
        )
        self.other.eval()
        self._all_loaded()

    def _write_peft(self, folder: Path) -> None:
        """interop.md, section 3: A and B transposed, alpha = scale * rank."""
        from safetensors.numpy import save_file

        shape, tensors = self.adapter.shape, {}
        for name, module in self.adapter.modules.items():
            key = f"base_model.model.{name}"
            tensors[f"{key}.lora_A.weight"] = np.ascontiguousarray(np.array(module.lora_a).T)
            tensors[f"{key}.lora_B.weight"] = np.ascontiguousarray(np.array(module.lora_b).T)
        count = len(self.model.layers)
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": shape.rank,
            "lora_alpha": int(shape.scale * shape.rank),
            "target_modules": sorted({key.rpartition(".")[2] for key in shape.keys}),
            "bias": "none",
            "use_rslora": False,
            "fan_in_fan_out": False,
        }
        if shape.layers < count:
            config["layers_to_transform"] = list(range(count - shape.layers, count))
            config["layers_pattern"] = "layers"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(config))
        save_file(tensors, folder / "adapter_model.safetensors")

    def _all_loaded(self) -> None:
        """PEFT takes missing and unknown keys without a word, so compare both ways."""
        found = {n: p for n, p in self.other.named_parameters() if "lora_" in n}
        assert {self.ours(name) for name in found} == self.adapter.tensors().keys()
        for name, parameter in found.items():
            ours = np.array(self.adapter.tensors()[self.ours(name)]).T
            assert np.array_equal(parameter.detach().numpy(), ours), name

    def ours(self, name: str) -> str:
        """PEFT's parameter name as we call it."""
        name = name.removeprefix("base_model.model.").removesuffix(".default.weight")
        return name.replace("lora_A", "lora_a").replace("lora_B", "lora_b")

    def logprobs(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ours, theirs, theirs without the adapter)."""
        with self.torch.no_grad():
            batch = self.torch.tensor(ids, dtype=self.torch.long)
            theirs = self.other(input_ids=batch).logits.double().numpy()
            with self.other.disable_adapter():
                plain = self.other(input_ids=batch).logits.double().numpy()
        own = np.array(self.model(mx.array(ids)), np.float64)
        return log_softmax(own), log_softmax(theirs), log_softmax(plain)

    def their_loss(self, rows: list[Any]) -> tuple[Any, int]:
        """Mean loss of the learnt targets, row by row without padding, by torch's function."""
        total, count = self.torch.zeros(()), 0
        for row in rows:
            tokens = self.torch.tensor([row.tokens], dtype=self.torch.long)
            labels = self.torch.tensor(row.tokens[1:])
            labels[self.torch.tensor(row.mask[1:]) == 0] = -100
            logits = self.other(input_ids=tokens[:, :-1]).logits[0]
            total = total + self.torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=-100, reduction="sum"
            )
            count += int((labels != -100).sum())
        return total / count, count


@pytest.mark.parametrize("made", MADE)
def test_adapted_log_probabilities(tmp_path: Path, made: str, record_property: Any) -> None:
    pair = Pair(tmp_path / "m", made)
    ours, theirs, plain = pair.logprobs(random_ids(3, 40))
    difference, effect = np.abs(ours - theirs).max(), np.abs(theirs - plain).mean()
    record_property("max_dlogp", float(difference))
    assert effect > 0.05, "the adapter does nothing, so nothing is compared"
    assert difference <= 2e-3
    with pair.adapter.disabled():
        assert np.abs(pair.logprobs(random_ids(3, 40))[0] - plain).max() <= 2e-3


@pytest.mark.parametrize("made", ["llama", "qwen3"])
def test_only_some_layers_and_modules(tmp_path: Path, made: str) -> None:
    pair = Pair(tmp_path / "m", made, layers=1, targets=("q_proj", "down_proj"))
    assert len(pair.adapter.modules) == 2
    ours, theirs, plain = pair.logprobs(random_ids(3, 40))
    assert np.abs(theirs - plain).mean() > 0.02
    assert np.abs(ours - theirs).max() <= 2e-3


@pytest.mark.parametrize("made", MADE)
def test_loss_and_gradient(tmp_path: Path, made: str, record_property: Any) -> None:
    pair, rows = Pair(tmp_path / "m", made), random_rows([14, 6, 23, 3], learnt=0.5)
    loss, count = pair.their_loss(rows)
    loss.backward()
    batches = [make_batch(rows[:3]), make_batch(rows[3:])]
    key = pair.adapter.dropout_key
    for checkpoint in (False, True):
        found = step_gradient(
            pair.model, batches, key=key, seed=0, step=1, checkpoint_layers=checkpoint
        )
        assert found.targets == count
        assert found.loss == pytest.approx(loss.item(), rel=1e-3)
        gradients = as_numpy(dict(nn.utils.tree_flatten(found.tree)))
        wanted = {
            pair.ours(name): parameter.grad.double().numpy().T
            for name, parameter in pair.other.named_parameters()
            if parameter.grad is not None
        }
        assert gradients.keys() == wanted.keys()
        relative = {
            name: np.linalg.norm(gradients[name] - value) / np.linalg.norm(value)
            for name, value in wanted.items()
        }
        record_property("worst_gradient", max(relative.values()))
        record_property("loss", abs(found.loss / loss.item() - 1))
        assert max(relative.values()) < 1e-3, max(relative, key=relative.__getitem__)


def test_measured_loss(tmp_path: Path) -> None:
    pair, rows = Pair(tmp_path / "m", "llama"), random_rows([14, 6, 23, 3], learnt=0.5)
    found = []

    def run() -> Any:
        found.append((yield from measure(Objective(pair.model), rows, 3)))

    list(run())
    assert found[0].loss == pytest.approx(pair.their_loss(rows)[0].item(), rel=1e-4)
