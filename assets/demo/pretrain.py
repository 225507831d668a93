"""Make the demo model: a small Llama taught on public-domain storybooks, from nothing.

Not part of the app; run once, by hand, where torch is installed (it is no dependency of the project):

    pip install torch tokenizers safetensors
    python assets/demo/pretrain.py CORPUS_FOLDER OUTPUT_FOLDER

CORPUS_FOLDER holds plain text books. OUTPUT_FOLDER receives the model in Hugging Face layout (float16),
its tokenizer (byte-level BPE, 4,096 entries, the Llama-3 split pattern) and `training.json` with what was
measured. The last 3 % of every book are held out and never trained on.

Hidden weights are trained with Muon (Jordan et al. 2024, orthogonalised momentum), embeddings and norms with
AdamW, both on a warm-up / constant / linear-decay schedule.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "vocab_size": 4096,
}
ROW = 256


def read_books(folder: Path) -> list[list[list[str]]]:
    """Every book as its chapters, each a list of paragraphs with its hard line wraps undone."""
    books = []
    plain = str.maketrans(
        {"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "\ufeff": "", "_": ""}
    )
    for path in sorted(folder.glob("*.txt")):
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n").translate(plain)
        chapters = []
        for chapter in re.split(r"\n{4,}", text):
            paragraphs = [unwrap(block) for block in re.split(r"\n\s*\n", chapter) if block.strip()]
            if sum(map(len, paragraphs)) > 400:
                chapters.append(paragraphs)
        books.append(chapters)
    return books


def divide(chapters: list[list[str]], share: float = 0.03) -> tuple[list[list[str]], list[str]]:
    """A book without its last `share` of characters (cut between paragraphs), and that end."""
    keep, kept, end = (1 - share) * sum(len(p) for c in chapters for p in c), [], []
    for chapter in chapters:
        kept.append([])
        for paragraph in chapter:
            keep -= len(paragraph)
            (kept[-1] if keep >= 0 else end).append(paragraph)
    return [chapter for chapter in kept if chapter], end


def unwrap(block: str) -> str:
    """One paragraph on one line; verse (indented lines) keeps its lines."""
    lines = block.strip("\n").split("\n")
    verse = sum(line.startswith("  ") for line in lines) * 2 > len(lines)
    return ("\n" if verse else " ").join(" ".join(line.split()) for line in lines)


def train_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0)]
    )
    return tokenizer


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads, self.kv, self.width = 8, 4, 32
        hidden = CONFIG["hidden_size"]
        self.q_proj = nn.Linear(hidden, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv * self.width, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q = self.q_proj(x).view(rows, length, self.heads, self.width).transpose(1, 2)
        k = self.k_proj(x).view(rows, length, self.kv, self.width).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, self.kv, self.width).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, -1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in the half-split layout Hugging Face stores."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        hidden, eps = CONFIG["hidden_size"], CONFIG["rms_norm_eps"]
        self.self_attn, self.mlp = Attention(), MLP()
        self.input_layernorm = nn.RMSNorm(hidden, eps)
        self.post_attention_layernorm = nn.RMSNorm(hidden, eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, drop: float) -> Tensor:
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), drop)
        return x + F.dropout(self.mlp(self.post_attention_layernorm(x)), drop)


class Llama(nn.Module):
    """The names are those of the Hugging Face file, so that `state_dict` is the file."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = nn.RMSNorm(CONFIG["hidden_size"], CONFIG["rms_norm_eps"])
        angle = torch.outer(torch.arange(512), 10000.0 ** (-torch.arange(0, 32, 2) / 32))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                depth = (
                    math.sqrt(2 * len(self.layers))
                    if name.endswith(("o_proj.weight", "down_proj.weight"))
                    else 1
                )
                nn.init.normal_(weight, std=0.02 / depth)

    def forward(self, tokens: Tensor, drop: float = 0.0) -> Tensor:
        x, length = F.dropout(self.embed_tokens(tokens), drop), tokens.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length], drop)
        return self.norm(x) @ self.embed_tokens.weight.T


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by five Newton-Schulz steps; decoupled weight decay."""

    def __init__(self, weights: list[nn.Parameter], lr: float, decay: float) -> None:
        super().__init__(weights, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 0.05)
                update = orthogonalise(weight.grad.lerp(momentum, 0.95))
                weight.mul_(1 - group["lr"] * group["decay"])
                weight.add_(
                    update, alpha=-group["lr"] * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                )


def orthogonalise(matrix: Tensor) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if flip else x).float()


@torch.no_grad()
def measure(model: Llama, rows: Tensor) -> float:
    """Mean loss in nats a token over the held-out rows."""
    model.eval()
    losses = []
    for part in rows.split(32):
        logits = model(part[:, :-1])
        losses.append(F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
    model.train()
    return float(torch.stack(losses).sum()) / (rows.shape[0] * (rows.shape[1] - 1))


def encode_rows(tokenizer: Tokenizer, documents: list[list[str]]) -> tuple[Tensor, Tensor]:
    """All documents as one stream (EOS after each), and where a row may start: at a paragraph."""
    stream, starts = [], []
    for paragraphs in documents:
        for paragraph in paragraphs:
            starts.append(len(stream))
            stream += tokenizer.encode(paragraph + "\n\n", add_special_tokens=False).ids
        stream.append(1)
    return torch.tensor(stream), torch.tensor([s for s in starts if s + ROW < len(stream)])


def sample(model: Llama, tokenizer: Tokenizer, prompt: str, count: int = 60) -> str:
    tokens = torch.tensor([tokenizer.encode(prompt).ids])
    model.eval()
    with torch.no_grad():
        for _ in range(count):
            probabilities = torch.softmax(model(tokens)[0, -1] / 0.7, -1)
            tokens = torch.cat((tokens, torch.multinomial(probabilities, 1)[None]), 1)
    model.train()
    return tokenizer.decode(tokens[0].tolist())


def write_model(model: Llama, tokenizer: Tokenizer, out: Path, facts: dict[str, object]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    weights = {f"model.{k}": v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    tokenizer.save(str(out / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS}
    (out / "tokenizer_config.json").write_text(json.dumps(names) + "\n")
    (out / "training.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.15)
    options = parser.parse_args()
    torch.manual_seed(1)
    parts = [divide(chapters) for chapters in read_books(options.corpus)]
    train, held = [c for chapters, _ in parts for c in chapters], [end for _, end in parts]
    tokenizer = train_tokenizer(["\n\n".join(d) for d in train])
    stream, starts = encode_rows(tokenizer, train)
    held_stream, _ = encode_rows(tokenizer, held)
    held_bytes = len(tokenizer.decode(held_stream.tolist()).encode())
    held_rows = held_stream[: len(held_stream) // ROW * ROW].view(-1, ROW)
    held_rows = torch.cat((torch.zeros(len(held_rows), 1, dtype=torch.long), held_rows), 1)
    print(f"{len(stream)} training tokens, {len(held_stream)} held-out tokens", flush=True)

    model = Llama()
    matrices = [w for n, w in model.named_parameters() if w.ndim == 2 and "embed" not in n]
    others = [w for n, w in model.named_parameters() if w.ndim != 2 or "embed" in n]
    optimizers = [
        Muon(matrices, lr=0.012, decay=0.15),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.97), weight_decay=0.0),
    ]
    peaks = [group["lr"] for o in optimizers for group in o.param_groups]
    began, offsets = time.time(), torch.arange(ROW)
    order, at = starts[torch.randperm(len(starts))], 0
    for step in range(options.steps):
        if at + options.batch > len(order):
            order, at = starts[torch.randperm(len(starts))], 0
        begin = order[at : at + options.batch].clone()
        begin[::2] += torch.randint(0, ROW, begin[::2].shape)  # every other row starts mid-text
        rows = stream[begin.clamp(max=len(stream) - ROW)[:, None] + offsets]
        at += options.batch
        rows = torch.cat((torch.zeros(len(rows), 1, dtype=torch.long), rows), 1)
        share = min(1.0, (step + 1) / 100) * min(
            1.0, (options.steps - step) / (0.7 * options.steps)
        )
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(rows[:, :-1], options.dropout)
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if (step + 1) % 250 == 0 or step + 1 == options.steps:
            held_loss = measure(model, held_rows)
            minutes = (time.time() - began) / 60
            facts: dict[str, object] = {
                "corpus": sorted(p.stem for p in options.corpus.glob("*.txt")),
                "parameters": sum(w.numel() for w in model.parameters()),
                "training_tokens_distinct": len(stream),
                "steps": step + 1,
                "tokens": (step + 1) * options.batch * ROW,
                "held_out_tokens": len(held_stream),
                "held_out_loss": round(held_loss, 4),
                "held_out_bits_per_byte": round(
                    held_loss * len(held_stream) / held_bytes / math.log(2), 4
                ),
                "minutes_two_cores": round(minutes, 1),
            }
            print(
                f"{step + 1} train {float(loss.detach()):.3f} held out {held_loss:.4f} {minutes:.1f} min",
                flush=True,
            )
            print("   ", repr(sample(model, tokenizer, "Once upon a time")), flush=True)
            write_model(model, tokenizer, options.out, facts)


if __name__ == "__main__":
    main()
