"""Broken on purpose: no wrong GGUF file gets past the verifier, and nothing of it stays.

In the first half what makes the file is wrong, so that plan and file agree and only llama.cpp can
tell; in the second the file is damaged after it was written. Each is shown to be written without a
word where nothing is verified: it is the verifier that catches it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pytest
from made import LONGROPE, Pair, make_base, make_pair, run_export
from models_made import LLAMA3_ROPE

from mlx_lora.errors import UserError
from mlx_lora.export import gguf_file, gguf_model, writers
from mlx_lora.export.gguf_file import Field, Plan, Planned, whole
from mlx_lora.export.source import Delta, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

RIGHT_ORDER = gguf_model.rows_in_order
BASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "demo", {"rope_scaling": LLAMA3_ROPE}),
    "llama3": ("llama", "llama3", {}),
    "untied": ("qwen2", "demo", {"tied": False}),
    "gemma2": ("gemma2", "demo", {}),
    "gemma3": ("gemma3_text", "demo", {}),
    "longrope": ("phi3", "demo", LONGROPE),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    """Bases with adapters, each made once."""
    made: dict[str, Pair] = {}

    def pair(name: str) -> Pair:
        if name not in made:
            family, tokenizer, changes = BASES[name]
            folder = tmp_path_factory.mktemp(name)
            model = make_base(folder / "model", family, tokenizer, **changes)
            layers = {"layers": 1} if name == "untied" else {}
            made[name] = make_pair(folder / "adapter", model, **layers)
        return made[name]

    return pair


class Break(NamedTuple):
    """One way to be wrong: done by `do(monkeypatch)`, on which base, in which format."""

    name: str
    do: Callable[[pytest.MonkeyPatch], None]
    base: str = "llama"
    format: str = "gguf"
    said: str = "does not answer like the model"


def caught(pair: Pair, form: str, folder: Path) -> str:
    """Export twice: refused when verified, nothing left; written when not. Returns why."""
    with pytest.raises(UserError) as error:
        run_export(pair, form, "f32", folder / "out")
    assert error.value.code == "broken_export"
    assert list(folder.iterdir()) == []
    run_export(pair, form, "f32", folder / "unverified", verify=False)
    assert (folder / "unverified" / "export.json").is_file()
    return error.value.why


def on_plan(change: Callable[[Plan], Plan], *names: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Change what is planned, hence what is written and what the file is compared with."""

    def do(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in names or ("plan_model",):
            right = getattr(writers, name)
            monkeypatch.setattr(writers, name, lambda *a, right=right: change(right(*a)))

    return do


def on_deltas(change: Callable[[Delta], Delta]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change what the adapter is taken to be; the app's own answers come from elsewhere."""

    def do(monkeypatch: pytest.MonkeyPatch) -> None:
        adapt = Source._adapt

        def wrongly(source: Source, *arguments: Any) -> None:
            adapt(source, *arguments)
            source.deltas = {name: change(delta) for name, delta in source.deltas.items()}

        monkeypatch.setattr(Source, "_adapt", wrongly)

    return do


def on_tensors(change: Callable[[Planned], Planned]) -> Callable[[Plan], Plan]:
    return lambda plan: msgspec.structs.replace(plan, tensors=[change(t) for t in plan.tensors])


def field(key: str, value: Any) -> Callable[[Plan], Plan]:
    """The plan with another value in the field that ends in `key`; without it where None."""

    def change(plan: Plan) -> Plan:
        assert any(f.key.endswith(key) for f in plan.fields)
        fields = [
            Field(f.key, value, f.kind) if f.key.endswith(key) else f
            for f in plan.fields
            if value is not None or not f.key.endswith(key)
        ]
        return msgspec.structs.replace(plan, fields=fields)

    return change


def without(name: str) -> Callable[[Plan], Plan]:
    """The plan without a tensor."""

    def change(plan: Plan) -> Plan:
        kept = [tensor for tensor in plan.tensors if tensor.name != name]
        assert len(kept) < len(plan.tensors)
        return msgspec.structs.replace(plan, tensors=kept)

    return change


def exchange(delta: Delta) -> Delta:
    """A and B swapped where the shapes let it pass."""
    if delta.a.shape[0] != delta.b.shape[1]:
        return delta
    return Delta(delta.b.T, delta.a.T, delta.scale)


def stronger(by: float) -> Callable[[Delta], Delta]:
    return lambda delta: Delta(delta.a, delta.b, delta.scale * by)


def alpha(kind: Callable[..., Field], by: float) -> Callable[[pytest.MonkeyPatch], None]:
    return instead("gguf_adapter.real", lambda key, value: kind(key, value * by))


def native(tensor: Planned) -> Planned:
    """An adapter's matrix as mlx has it, (in, rank) and (rank, out)."""
    shape = (tensor.shape[1], tensor.shape[0])
    return Planned(tensor.name, shape, tensor.kind, lambda: tensor.values().T)


def one_layer_down(tensor: Planned) -> Planned:
    return msgspec.structs.replace(tensor, name=tensor.name.replace("blk.1.", "blk.0."))


def unordered(*_: Any) -> None:
    """q and k as Hugging Face has them."""


def ordered_by_query_heads(name: str, settings: dict[str, Any], arch: Any) -> np.ndarray | None:
    """k permuted as if it had as many heads as q."""
    right = RIGHT_ORDER(name, settings, arch)
    if right is None or "k_proj" not in name:
        return right
    order = np.arange(len(right)).reshape(settings["num_attention_heads"], 2, -1)
    return order.swapaxes(1, 2).reshape(-1)


def instead(name: str, replacement: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """Another function in the place of `module.function`."""
    return lambda monkeypatch: monkeypatch.setattr(f"mlx_lora.export.{name}", replacement)


def split(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return instead("gguf_tokenizer.split_name", lambda _: name)


def nan_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = Source.merged

    def wrongly(source: Source, name: str) -> np.ndarray:
        values = merged(source, name)
        if "layers.1.mlp.up_proj" in name:
            values[3, 5] = np.nan
        return values

    monkeypatch.setattr(Source, "merged", wrongly)


def long_for_short(tensor: Planned) -> Planned:
    """The rope factors of long texts under the name of those of short ones, and back."""
    names = {f"rope_factors_{a}.weight": f"rope_factors_{b}.weight" for a, b in PAIRS}
    return msgspec.structs.replace(tensor, name=names.get(tensor.name, tensor.name))


ADAPTER = "plan_adapter"
PAIRS = (("long", "short"), ("short", "long"))
BREAKS = (
    Break("alpha is the scale", alpha(gguf_file.real, 1 / 4), format="gguf-lora"),
    Break("alpha is an integer", alpha(whole, 1), format="gguf-lora", said="crashed"),
    Break("alpha is missing", on_plan(field("lora.alpha", None), ADAPTER), format="gguf-lora"),
    Break("A for B", on_deltas(exchange), format="gguf-lora"),
    Break("A for B, merged", on_deltas(exchange)),
    Break(
        "not transposed", on_plan(on_tensors(native), ADAPTER), format="gguf-lora", said="shape"
    ),
    Break(
        "another type",
        on_plan(field("general.type", "model"), ADAPTER), format="gguf-lora", said="refuses",
    ),
    Break("one layer down", on_plan(on_tensors(one_layer_down), ADAPTER), "untied", "gguf-lora"),
    Break("1 % too strong", on_deltas(stronger(1.01))),
    Break("twice as strong", alpha(gguf_file.real, 2), format="gguf-lora"),
    Break("unordered", instead("gguf_model.rows_in_order", unordered)),
    Break("unordered B", instead("gguf_adapter.rows_in_order", unordered), format="gguf-lora"),
    Break("k in q's order", instead("gguf_model.rows_in_order", ordered_by_query_heads)),
    Break(
        "k's B in q's order",
        instead("gguf_adapter.rows_in_order", ordered_by_query_heads), format="gguf-lora",
    ),
    Break("no rope factors", instead("gguf_model._rope_tensors", lambda _: [])),
    Break("another base of positions", on_plan(field("rope.freq_base", 5000.0))),
    Break("another epsilon", on_plan(field("rms_epsilon", 1e-2))),
    Break("fewer heads for k", on_plan(field("head_count_kv", 4)), said="refuses"),
    Break("no norms of Gemma", instead("gguf_model.GEMMA", set()), "gemma3"),
    Break("no norms of Gemma 2", instead("gguf_model.GEMMA", set()), "gemma2"),
    Break("no soft cap", on_plan(field("final_logit_softcapping", 1e9)), "gemma2"),
    Break("another window", on_plan(field("attention.sliding_window", 4)), "gemma3"),
    Break("one window", on_plan(field("sliding_window_pattern", 1)), "gemma3", said="crashed"),
    Break("no output matrix", on_plan(without("output.weight")), "untied"),
    Break("short for long", on_plan(on_tensors(long_for_short)), "longrope"),
    Break("no attention factor", on_plan(field("attn_factor", 1.0)), "longrope"),
    Break("a tensor too few", on_plan(without("blk.1.ffn_up.weight")), said="refuses"),
    Break("not a number", nan_inside, said="is off by nan"),
    Break("another split", split("gpt-2"), said="reads"),
    Break("a split for digits", split("qwen2"), "llama3", said="reads"),
    Break("no such split", split("guess"), said="refuses"),
    Break("another begin", on_plan(field("bos_token_id", 1)), said="begins"),
    Break("no begin", on_plan(field("add_bos_token", False)), said="begins"),
    Break("an end too many", on_plan(field("add_eos_token", True)), said="begins"),
    Break("another end", on_plan(field("eos_token_id", 0)), said="ends"),
)  # fmt: skip
_QUICK = {
    "alpha is the scale", "A for B", "not transposed", "unordered", "k in q's order",
    "no norms of Gemma", "another split", "another end", "not a number",
}  # fmt: skip


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(one, id=one.name, marks=() if one.name in _QUICK else pytest.mark.slow)
        for one in BREAKS
    ],
)
def test_what_is_made_wrong_is_caught(
    broken: Break,
    pairs: Callable[[str], Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = pairs(broken.base)
    broken.do(monkeypatch)
    assert broken.said in caught(pair, broken.format, tmp_path)


def shorter(by: int) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        del content[-by:]

    return damage


def half(content: bytearray) -> None:
    del content[len(content) // 2 :]


def in_the_head(content: bytearray) -> None:
    del content[40:]


def nothing(content: bytearray) -> None:
    content.clear()


def flipped(where: float, bits: int) -> Callable[[bytearray], None]:
    """Bits of one byte, `where` from the beginning (0) to the end (1) of the file."""

    def damage(content: bytearray) -> None:
        content[int(where * (len(content) - 1))] ^= bits

    return damage


def written_over(old: bytes, new: bytes) -> Callable[[bytearray], None]:
    def damage(content: bytearray) -> None:
        assert len(old) == len(new)
        at = content.index(old)
        content[at : at + len(old)] = new

    return damage


def number_at(
    key: bytes, layout: str, value: float, behind: int = 4
) -> Callable[[bytearray], None]:
    """A number `behind` a name: a field's value comes four bytes, its type, behind its key."""

    def damage(content: bytearray) -> None:
        struct.pack_into(layout, content, content.index(key) + len(key) + behind, value)

    return damage


def not_a_number(content: bytearray) -> None:
    content[-64:-60] = struct.pack("<f", np.nan)


DAMAGES = {
    "a byte short": shorter(1),
    "cut in a tensor": half,
    "cut in the head": in_the_head,
    "empty": nothing,
    "the lowest bit of a weight": flipped(0.75, 1),
    "the sign of a weight": flipped(0.999, 128),
    "not a number": not_a_number,
    "no GGUF": written_over(b"GGUF", b"GGML"),
    "another version": written_over(b"GGUF\x03", b"GGUF\x02"),
    "another architecture": written_over(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qwen2"),
    "another base of positions": number_at(b"llama.rope.freq_base", "<f", 9999.0),
    "another bos": number_at(b"tokenizer.ggml.bos_token_id", "<I", 1),
    "a type there is not": number_at(b"llama.block_count", "<I", 99, behind=0),
    "a list without end": number_at(b"tokenizer.ggml.token_type", "<Q", 1 << 62, behind=8),
    "fields without end": lambda content: struct.pack_into("<Q", content, 16, 1 << 50),
    "no text": written_over(b"general.name", b"general.\xff\xfe\xfd\xfc"),
    # behind a matrix's name: rank (4), extents (8 each), kind (4), offset
    "a tensor beyond the end": number_at(b"blk.0.attn_q.weight", "<Q", 1 << 62, behind=24),
    "a tensor elsewhere": number_at(b"blk.0.attn_q.weight", "<Q", 64, behind=24),
    "another shape": number_at(b"blk.0.attn_q.weight", "<Q", 32, behind=4),
    "another token": written_over(b"\xc4\xa0the", b"\xc4\xa0teh"),
    "another tensor's name": written_over(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"),
    "two tensors of one name": written_over(b"blk.0.attn_v.weight", b"blk.0.attn_k.weight"),
}


def damaged_by(damage: Callable[[bytearray], None]) -> Callable[..., Generator[Any, None, None]]:
    """Writes as it should, then damages the file."""
    write = gguf_file.write

    def wrongly(path: Path, plan: Plan) -> Generator[Any, None, None]:
        yield from write(path, plan)
        content = bytearray(path.read_bytes())
        damage(content)
        path.write_bytes(content)

    return wrongly


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=() if number % 2 == 0 else pytest.mark.slow)
        for number, one in enumerate(DAMAGES)
    ],
)
def test_a_damaged_file_is_caught(
    name: str, pairs: Callable[[str], Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "write", damaged_by(DAMAGES[name]))
    assert caught(pairs("llama"), "gguf", tmp_path)


@pytest.mark.parametrize("quant", ["f16", "q8_0"])
def test_one_bit_is_seen_in_every_precision(
    quant: str, pairs: Callable[[str], Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rounding would hide it: the bytes are those that were written, or it is broken."""
    monkeypatch.setattr(gguf_file, "write", damaged_by(flipped(0.9, 1)))
    with pytest.raises(UserError, match="as it was written"):
        run_export(pairs("llama"), "gguf", quant, tmp_path / "out")


def test_what_is_right_is_not_refused(pairs: Callable[[str], Pair], tmp_path: Path) -> None:
    """Without a break the very same exports pass."""
    for form in ("gguf", "gguf-lora"):
        assert run_export(pairs("llama"), form, "f32", tmp_path / form)["by"] == "llama.cpp"


def test_no_export_replaces_another_that_was_good(
    pairs: Callable[[str], Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_export(pairs("llama"), "gguf", "f32", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(gguf_model, "rows_in_order", unordered)
    with pytest.raises(UserError, match="broken_export"):
        run_export(pairs("llama"), "gguf", "f32", tmp_path / "out", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
