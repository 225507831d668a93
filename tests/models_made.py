"""Small random models as Hugging Face folders, and adapters and rows to go with them.

Call `make_model` after `mlx_lora.blas.prepare()`, which conftest does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from pathlib import Path

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA = {"gemma2", "gemma3_text"}
SPECIAL = ("<unk>", "<s>", "</s>")
VOCABULARY = 272


def make_model(
    folder: Path, family: str = "llama", *, tied: bool = True, seed: int = 0, **changes: Any
) -> Path:
    """Write config.json, weights and tokenizer of a random model; returns its folder.

    Families: llama, mistral, gemma2, gemma3_text, gpt_oss, qwen2, qwen3, phi3. `changes` go into
    config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(family, tied) | changes
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    weights = random_weights(config, seed)
    tensors = {name: mx.array(array) for name, array in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "pt"})
    make_tokenizer(folder)
    return folder


def random_weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Float32 tensors by their Hugging Face names."""
    generator = np.random.default_rng(seed)
    return {
        name: _draw(generator, name, shape, config["model_type"])
        for name, shape in _shapes(config).items()
    }


def make_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges: every byte is a token, so an emoji is four."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: number for number, text in enumerate([*SPECIAL, *alphabet])}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    inner.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names | kind))


def random_ids(rows: int, length: int, seed: int = 0, vocabulary: int = VOCABULARY) -> np.ndarray:
    """Token ids (rows, length), no special ones."""
    return np.random.default_rng(seed).integers(3, min(vocabulary, 259), (rows, length), np.int32)


def randomize_adapter(adapter: Any, seed: int = 0, size: float = 0.1) -> None:
    """Give A and B random values, so that the adapter has an effect and A has a gradient."""
    generator = np.random.default_rng(seed)
    drawn = {
        name: mx.array(generator.normal(0, size, tensor.shape).astype(np.float32))
        for name, tensor in sorted(adapter.tensors().items())
    }
    adapter.load(drawn)


def _config(family: str, tied: bool) -> dict[str, Any]:
    config = {
        "model_type": family,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "attention_bias": False,
        "torch_dtype": "float32",
    }
    own: dict[str, dict[str, Any]] = {
        "llama": {"architectures": ["LlamaForCausalLM"]},
        "mistral": {"architectures": ["MistralForCausalLM"], "sliding_window": None},
        "gemma2": {
            "architectures": ["Gemma2ForCausalLM"],
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6,
        },
        "gemma3_text": {
            "architectures": ["Gemma3ForCausalLM"],
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "sliding_window_pattern": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6,
        },
        # under the names of MLX's community: the maker's own file has experts in one piece
        "gpt_oss": {
            "architectures": ["GptOssForCausalLM"],
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
        "qwen2": {"architectures": ["Qwen2ForCausalLM"]},
        "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 24},
        "phi3": {
            "architectures": ["Phi3ForCausalLM"],
            "original_max_position_embeddings": 256,
            "pad_token_id": 0,
        },
    }
    return config | own[family]


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    family, hidden, inner = config["model_type"], config["hidden_size"], config["intermediate_size"]
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or hidden // heads
    layer: dict[str, tuple[int, ...]] = {
        "self_attn.o_proj": (hidden, heads * width),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    if family == "phi3":
        layer["self_attn.qkv_proj"] = ((heads + 2 * shared) * width, hidden)
        layer["mlp.gate_up_proj"] = (2 * inner, hidden)
    else:
        layer["self_attn.q_proj"] = (heads * width, hidden)
        layer["self_attn.k_proj"] = layer["self_attn.v_proj"] = (shared * width, hidden)
        layer["mlp.gate_proj"] = layer["mlp.up_proj"] = (inner, hidden)
    if family == "gpt_oss":
        layer = {name: shape for name, shape in layer.items() if not name.startswith("mlp.")}
    if family in {"qwen3", "gemma3_text"}:
        layer["self_attn.q_norm"] = layer["self_attn.k_norm"] = (width,)
    if family in GEMMA:
        layer["pre_feedforward_layernorm"] = layer["post_feedforward_layernorm"] = (hidden,)
    biased = "qkv" if family == "qwen2" else "qkvo" if config["attention_bias"] else ""
    biases = {f"self_attn.{name}_proj.bias": layer[f"self_attn.{name}_proj"][:1] for name in biased}
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for number in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in biases.items()}
    if family == "gpt_oss":
        shapes |= _expert_shapes(config)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def _expert_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Router, experts and attention sinks."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    experts, shapes = config["num_local_experts"], dict[str, tuple[int, ...]]()
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        shapes[f"{layer}.self_attn.sinks"] = (config["num_attention_heads"],)
        shapes[f"{layer}.mlp.router.weight"] = (experts, hidden)
        shapes[f"{layer}.mlp.router.bias"] = (experts,)
        for name, out, width in (
            ("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner),
        ):  # fmt: skip
            shapes[f"{layer}.mlp.experts.{name}.weight"] = (experts, out, width)
            shapes[f"{layer}.mlp.experts.{name}.bias"] = (experts, out)
    return shapes


def _draw(
    generator: np.random.Generator, name: str, shape: tuple[int, ...], family: str
) -> np.ndarray:
    if family == "gpt_oss" and name.endswith((".bias", ".sinks")):
        return generator.normal(0, 1.0 if "sinks" in name else 0.3, shape).astype(np.float32)
    if len(shape) == 1:  # gemma keeps its norms around 0, the others around 1
        around = 0.0 if family in GEMMA else 1.0
        return (around + generator.normal(0, 0.1, shape)).astype(np.float32)
    # experts bound what they make at 7: some of it is to reach that
    steep = 3.0 if "experts.gate" in name or "experts.up" in name else 1.5
    spread = 0.3 if "embed_tokens" in name else steep * shape[-1] ** -0.5
    return generator.normal(0, spread, shape).astype(np.float32)


def attach_adapter(model: Any, *, seed: int = 0, **config: Any) -> Any:
    """An initialized adapter on a model, shaped as AdapterConfig(**config) says."""
    from mlx_lora.config import AdapterConfig
    from mlx_lora.lora.attach import attach, choose_shape

    adapter = attach(model, choose_shape(model, AdapterConfig(**config))[0])
    for module in adapter.modules.values():
        module.initialize(seed)
    return adapter


def random_rows(lengths: list[int], seed: int = 0, learnt: float = 0.6) -> list[Any]:
    """Rows of random ids; about `learnt` of them are targets, the first never, the last always."""
    from mlx_lora.data.render import Rendered

    generator = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths):
        tokens = generator.integers(3, 259, length).tolist()
        mask = (generator.random(length) < learnt).astype(int).tolist()
        rows.append(Rendered(number, tokens, [0, *mask[1:-1], 1]))
    return rows


def as_numpy(tensors: dict[str, mx.array]) -> dict[str, np.ndarray]:
    """Copies, float64."""
    return {name: np.array(tensor).astype(np.float64) for name, tensor in tensors.items()}


def lora_parts(tensors: dict[str, Any], scale: float) -> dict[str, tuple[Any, Any, float]]:
    """(A, B, scale) by module name, as the reference takes them."""
    names = {name.rpartition(".")[0] for name in tensors}
    return {n: (tensors[f"{n}.lora_a"], tensors[f"{n}.lora_b"], scale) for n in names}


def base_weights(model: Any) -> dict[str, np.ndarray]:
    """Every tensor that is not the adapter's, by the name it has without one; copies."""
    flat = nn.utils.tree_flatten(model.parameters())
    return {
        name.replace(".linear.", "."): np.array(tensor)
        for name, tensor in flat
        if not name.endswith(("lora_a", "lora_b"))
    }
