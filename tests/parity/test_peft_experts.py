"""GPT-OSS with an adapter on its attention, in transformers and PEFT, as in the app."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from models_made import make_model, random_weights
from reference import log_softmax
from test_peft_export import IDS, adapted, exported

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


def in_its_pieces(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """The weights as the maker's file has them: experts (experts, in, out), gate and up woven."""
    weights = random_weights(config, 0)
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}.mlp.experts"
        parts = {
            (name, kind): weights.pop(f"{layer}.{name}_proj.{kind}")
            for name in ("gate", "up", "down") for kind in ("weight", "bias")
        }  # fmt: skip
        for kind in ("weight", "bias"):
            both = np.stack([parts["gate", kind], parts["up", kind]], axis=2)
            shape = both.shape
            woven = both.reshape(shape[0], shape[1] * 2, *shape[3:])
            if kind == "weight":
                woven = woven.swapaxes(1, 2)
            weights[f"{layer}.gate_up_proj{'_bias' if kind == 'bias' else ''}"] = woven
        weights[f"{layer}.down_proj"] = parts["down", "weight"].swapaxes(1, 2)
        weights[f"{layer}.down_proj_bias"] = parts["down", "bias"]
    return weights


def test_attention_of_gpt_oss(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers, peft = (pytest.importorskip(name) for name in ("transformers", "peft"))
    model = make_model(tmp_path / "model", "gpt_oss")
    one = adapted(model, shape={"targets": ("attention",), "layers": "all"})
    out = exported(one, "peft")
    config = json.loads((model / "config.json").read_text())
    # left out, they would be scaled as the 20B's are
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": config["rope_theta"]}}
    settings = transformers.GptOssConfig(**config | plain, attn_implementation="eager")
    theirs = transformers.GptOssForCausalLM(settings).eval()
    made = {name: torch.from_numpy(np.array(w)) for name, w in in_its_pieces(config).items()}
    missing, unknown = theirs.load_state_dict(made, strict=False)
    assert not unknown
    assert not missing
    ids = torch.from_numpy(IDS.astype(np.int64))
    with torch.no_grad():
        before = log_softmax(theirs(ids, use_cache=False).logits.double().numpy())
        assert np.abs(before - one.before).max() < 1e-3
        found = peft.PeftModel.from_pretrained(theirs, str(out))
        says = log_softmax(found(ids, use_cache=False).logits.double().numpy())
    assert np.abs(says - one.says).max() < 1e-3
