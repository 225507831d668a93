"""The dataset doctor: each fault planted in a dataset is found in its row, and nowhere else."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import events, jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.checks import GARBLED, is_odd_order, reads_as_json, seen_in
from mlx_lora.data.clean import clean
from mlx_lora.data.findings import KINDS, SAFE, words
from mlx_lora.data.formats import Conversation, Message
from mlx_lora.data.inspect import inspect
from mlx_lora.data.long_rows import effects_of
from mlx_lora.data.near import Likeness
from mlx_lora.data.verdict import judge_size
from mlx_lora.errors import UserError
from mlx_lora.models.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[..., Path]

WORDS = [
    "tower",
    "river",
    "night",
    "friend",
    "letter",
    "winter",
    "garden",
    "window",
    "stone",
    "harbour",
    "candle",
    "bridge",
]


def sentence(seed: int, count: int = 24) -> str:
    generator = random.Random(seed)
    return " ".join(generator.choice(WORDS) + str(generator.randrange(99)) for _ in range(count))


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"What of {sentence(n, 6)}?", "completion": f"{sentence(1000 + n)}."}
        for n in range(count)
    ]


def check(path: Path, **settings: Any) -> dict[str, Any]:
    config = DataConfig(source=str(path), **settings)
    job = jobs.InspectJob(model=ModelConfig(source="demo"), data=config, seed=0, root="")
    found = list(inspect(job, Control()))
    (report,) = (e.data for e in found if isinstance(e, events.Report) and e.kind == "inspect")
    return report


def found_in(path: Path, **settings: Any) -> dict[str, list[int]]:
    return {
        f"{issue['code']}/{issue['split']}": issue["rows"]
        for issue in check(path, **settings)["issues"]
    }


def test_good_rows_have_nothing_wrong(write_rows: Write) -> None:
    assert found_in(write_rows(rows_of(80))) == {}


def test_a_late_conversation_is_put_by_a_template_as_in_training(write_rows: Write) -> None:
    """Behind the rows that are read first, for a model without a template of its own."""
    texts = [{"text": f"{sentence(n, 12)}."} for n in range(260)]
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    facts = check(write_rows([*texts, {"messages": turns}]))
    assert not [issue for issue in facts["issues"] if issue["level"] == "error"]
    assert facts["template"] == {"name": "plain"}
    refused = check(write_rows([*texts, {"messages": turns}]), template="none")
    assert refused["issues"][0]["code"] == "refused"


PLANTED: dict[str, Callable[[list[dict[str, Any]]], None]] = {
    "empty": lambda rows: rows[7].update(completion=" \n"),
    "cut": lambda rows: rows[7].update(completion=sentence(5, 400)),
    "no_target": lambda rows: rows[7].update(prompt=sentence(5, 400)),
    "duplicate": lambda rows: rows.__setitem__(7, dict(rows[3])),
    "near_duplicate": lambda rows: rows.__setitem__(
        7, {**rows[3], "completion": rows[3]["completion"] + " Indeed"}
    ),
    "control_characters": lambda rows: rows[7].update(prompt="What\u200b of\x07 it?"),
    "garbled": lambda rows: rows[7].update(prompt="Where is the caf\u00c3\u00a9?"),
    "email": lambda rows: rows[7].update(prompt="Who is jo.doe+x@example.co.uk?"),
    "phone": lambda rows: rows[7].update(completion="Call +49 30 901820, please."),
    "key": lambda rows: rows[7].update(completion=f"It is sk-{'a1' * 16}."),
    "unknown": lambda rows: rows.__setitem__(7, {"title": "t", "body": "b"}),
    "broken": lambda rows: rows[7].update(completion=5),
}  # fmt: skip


@pytest.mark.parametrize("code", PLANTED)
def test_a_planted_fault_is_found_in_its_row(write_rows: Write, code: str) -> None:
    rows = rows_of(80)
    PLANTED[code](rows)
    found = found_in(write_rows(rows))
    assert found.pop(f"{code}/train") == [8]
    # a row that is cut also loses its answer's end
    assert set(found) <= ({"cut_answer/train"} if code == "cut" else set())


def test_broken_lines_are_found_with_their_places(write_rows: Write) -> None:
    path = write_rows(rows_of(60))
    lines = path.read_text().splitlines()
    lines[4], lines[20] = '{"prompt": "x", "completion": }', '{"prompt": "x"'
    path.write_text("\n".join(lines))
    report = check(path)
    (issue,) = report["issues"]
    assert (issue["code"], issue["level"], issue["rows"]) == ("broken", "error", [5, 21])
    first, second = issue["places"]
    assert first["where"].endswith(f"{path.name}:5:31")
    assert '"completion": }' in first["why"]
    assert ":21:" in second["where"]
    assert report["rows_read"] == 60
    assert report["training_rows"] + report["validation_rows"] == 58


def test_where_every_row_is_broken_the_first_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{a}\n{b}\n")
    with pytest.raises(UserError) as caught:
        check(path)
    assert caught.value.where.endswith("rows.jsonl:1:2")


def test_leaks_exact_and_near(tmp_path: Path) -> None:
    rows = rows_of(60)
    near = {**rows[30], "completion": rows[30]["completion"] + " Indeed"}
    for name, part in (("train", rows[:50]), ("valid", [*rows[50:], rows[4], near])):
        lines = "\n".join(map(json.dumps, part))
        (tmp_path / f"{name}.jsonl").write_text(lines)
    assert found_in(tmp_path) == {"leak/valid": [11], "near_leak/valid": [12]}


def test_answers_that_are_json_but_for_a_few(write_rows: Write) -> None:
    rows = [{**row, "completion": json.dumps({"a": n})} for n, row in enumerate(rows_of(60))]
    rows[3]["completion"], rows[9]["completion"] = '{"a": 3', "Three."
    report = check(write_rows(rows))
    assert report["json_answers"] == {"parse": 58, "of": 60}
    (issue,) = report["issues"]
    assert (issue["code"], issue["rows"]) == ("bad_json", [4, 10])
    plain = check(write_rows(rows_of(60)))
    assert plain["json_answers"] is None


def test_a_length_that_stands_out(write_rows: Write) -> None:
    rows = [*rows_of(60), {"prompt": "All?", "completion": sentence(1, 4000)}]
    found = found_in(write_rows(rows), max_length=512)
    assert found["extreme_length/train"] == [61]


def turns(*roles: str) -> Conversation:
    return Conversation(1, tuple(Message(role, "x") for role in roles))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("roles", "odd"),
    [
        ("user assistant", False),
        ("system user assistant user assistant", False),
        ("user assistant tool assistant", False),
        ("user assistant tool tool assistant", False),
        ("assistant user assistant", True),
        ("user user assistant", True),
        ("user assistant assistant", True),
        ("user assistant user", True),
        ("user system assistant", True),
        ("system assistant", True),
        ("user tool assistant", True),
    ],
)
def test_role_order(roles: str, odd: bool) -> None:
    assert is_odd_order(turns(*roles.split())) is odd


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("plain words, 1,000,000 of them; 3.14159 and 2020-11-24, 10.0.0.1", []),
        ("tabs\tand\nlines", []),
        ("na\u00efve caf\u00e9 \u4e16\u754c \U0001f600\u200d\U0001f468", []),
        ("Jones@home is no address", []),
        ("a.b@c.de", ["email"]),
        ("(555) 123-4567", ["phone"]),
        ("555-123-4567", ["phone"]),
        ("1-2-3 and 12-34-56 and 100 - 200 - 300", []),
        ("= 48/2 = 24 clips +12 more", []),
        ("ghp_" + "a" * 36, ["key"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["key"]),
        ('api_key = "a8f9c2d1e0"', ["key"]),
        ("the secret: a garden full of roses", []),
        ("it\u00e2\u20ac\u2122s", ["garbled"]),
        ("\ufffd", ["garbled"]),
        ("\u00c3ther", []),
        ("bell\x07", ["control_characters"]),
        ("\ufeffmark", ["control_characters"]),
    ],
)
def test_what_is_seen_in_a_text(text: str, codes: list[str]) -> None:
    assert seen_in(text) == codes


def test_garbled_finds_what_a_wrong_reading_makes() -> None:
    for char in "\u00e4\u00f6\u00fc\u00df\u00e9\u00e8\u00f1\u00e5\u2019\u201c\u2013\u2026":
        wrong = char.encode().decode("cp1252", errors="replace")
        assert GARBLED.search(f"a{wrong}b"), (char, wrong)


@pytest.mark.parametrize(
    ("answer", "reads"),
    [
        ('{"a": 1}', True), (" [1, 2]\n", True), ('```json\n{"a": 1}\n```', True),
        ('{"a": 1', False), ("{'a': 1}", False), ("a text", None), ("42", None), ("", None),
    ],
)  # fmt: skip
def test_answers_as_json(answer: str, reads: bool | None) -> None:
    assert reads_as_json(answer) is reads


def test_likeness_finds_pairs_above_its_border_and_no_others() -> None:
    generator = random.Random(0)
    vocabulary = [f"word{n}" for n in range(5000)]
    missed = wrong = 0
    for _ in range(150):
        base = [generator.choice(vocabulary) for _ in range(120)]
        close, far = list(base), list(base)
        close[generator.randrange(120)] = "other"
        for at in range(0, 120, 6):
            far[at] = "other"
        like = Likeness()
        like.is_like_another(base, keep=True)
        missed += not like.is_like_another(close, keep=False)
        wrong += like.is_like_another(far, keep=False)
    assert missed <= 1
    assert wrong == 0


def test_copies_and_almost_copies_are_counted_apart(write_rows: Write) -> None:
    """Also beyond the rows that are named, and where copies are too short to be like another."""
    rows = rows_of(60)
    short = [{"prompt": "Why?", "completion": "So."}] * 301
    near = [{**rows[n], "completion": rows[n]["completion"] + " Indeed"} for n in range(30)]
    report = check(write_rows([*rows, *short, *rows[:40] * 6, *near, *near]))
    counts = {issue["code"]: issue["count"] for issue in report["issues"]}
    assert counts == {"duplicate": 300 + 240 + 30, "near_duplicate": 30}


def test_rows_that_are_all_alike_are_compared_with_one() -> None:
    like, base = Likeness(), sentence(3, 60)
    found = [like.is_like_another([f"{base} {n}"], keep=True) for n in range(3000)]
    assert not found[0]
    assert all(found[1:])
    assert len(like._kept) == 1


def test_every_finding_has_words_for_one_and_many() -> None:
    for code, kind in KINDS.items():
        one, many = (words(code, count, "valid", 512) for count in (1, 1234))
        assert "{" not in one["title"] + many["title"]
        if code != "no_validation":
            assert one["title"] != many["title"]
            assert "1,234" in many["title"]
        assert kind.effect.endswith(".")
        assert kind.fix.endswith(".")
        assert one["cleanable"] is bool(kind.cleans)
    assert {"broken", "empty", "duplicate", "control_characters"} <= set(SAFE)
    assert not {"email", "near_duplicate", "role_order"} & set(SAFE)


def test_the_effect_of_every_choice_for_a_long_row() -> None:
    mask = [0] * 6 + [1] * 4
    found = effects_of(mask, 8, text=False)
    assert (found["cut"].trained_tokens, found["cut"].lost_tokens) == (2, 2)
    assert (found["cut"].rows, found["cut"].ends_lost) == (1, 1)
    assert (found["keep-end"].trained_tokens, found["keep-end"].ends_lost) == (4, 0)
    assert found["split"] == found["cut"]
    assert (found["drop"].rows, found["drop"].lost_tokens) == (0, 4)
    assert effects_of(mask, 6, text=False)["cut"].rows == 0
    text = effects_of([0] + [1] * 19, 8, text=True)["split"]
    assert (text.rows, text.trained_tokens, text.lost_tokens) == (3, 19, 0)


def test_long_rows_say_what_each_choice_costs(write_rows: Write) -> None:
    rows = rows_of(40)
    rows[5]["completion"] = sentence(3, 100)
    path = write_rows(rows)
    found = {
        name: check(path, max_length=128, long_rows=name) for name in ("cut", "keep-end", "drop")
    }
    told = found["cut"]["long_rows"]
    assert told["count"] == 1
    assert found["drop"]["long_rows"] == told
    whole = check(path, max_length=512)["trained_tokens"]
    for name, report in found.items():
        assert whole - report["trained_tokens"] == told["choices"][name]["lost_tokens"], name


def test_the_windows_of_long_texts_are_counted_as_they_are_made(write_rows: Write) -> None:
    path = write_rows([{"text": sentence(n, 8 + 60 * (n == 5))} for n in range(40)])
    settings = {"max_length": 64, "overlap": 16}
    split = check(path, long_rows="split", **settings)
    told = check(path, long_rows="cut", **settings)["long_rows"]
    assert told["count"] == split["long_rows"]["count"]
    windows = split["rows_read"] - 40 + told["count"]
    assert told["choices"]["split"]["rows"] == windows > 3
    whole = check(path, max_length=512)["trained_tokens"]
    assert whole - split["trained_tokens"] == told["choices"]["split"]["lost_tokens"]


SHAPE = Shape(
    family="llama", layers=4, hidden=64, intermediate=128, heads=4, kv_heads=4, head_dim=16,
    vocabulary=512, context=512, tied=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "tokens", "running", "size"),
    [
        (9, 9_000, False, "too_few"), (10, 9_000, False, "few"), (50, 500, False, "good"),
        (1_000, 50_000, False, "plenty"), (5, 1_999, True, "too_few"), (5, 2_000, True, "few"),
        (5, 20_000, True, "good"), (5, 500_000, True, "plenty"),
    ],
)  # fmt: skip
def test_the_verdict_on_size(rows: int, tokens: int, running: bool, size: str) -> None:
    assert judge_size(rows, tokens, running_text=running, shape=SHAPE)["size"] == size


def test_the_rank_holds_what_the_rows_teach() -> None:
    # rank x layers x (4 x (64 + 64) + 3 x (64 + 128)) numbers, 2 bits each; a token is 1 bit
    numbers = 4 * (4 * 128 + 3 * 192)
    for rank in (8, 16, 32):
        teaches = 2 * rank * numbers
        fits = judge_size(50, teaches, running_text=False, shape=SHAPE)
        assert fits["rank"] == rank
        assert f"{rank * numbers:,}" in fits["rank_text"]
        more = judge_size(50, teaches + 1, running_text=False, shape=SHAPE)
        assert more["rank"] == 2 * rank
    assert judge_size(50, 10**12, running_text=False, shape=SHAPE)["rank"] == 64


def cleaned(path: Path, out: Path, *fixes: str) -> dict[str, Any]:
    job = jobs.CleanJob(
        model=ModelConfig(source="demo"), data=DataConfig(source=str(path)), seed=0, root="",
        out=str(out), fixes=fixes or SAFE,
    )  # fmt: skip
    (report,) = (e.data for e in clean(job, Control()) if isinstance(e, events.Report))
    return report


def test_a_cleaned_copy_has_nothing_left_to_clean(write_rows: Write, tmp_path: Path) -> None:
    rows = rows_of(60)
    for at, code in enumerate(PLANTED):
        if code not in {"cut", "no_target"}:
            line = rows_of(8)
            line[7] = rows_of(100)[70 + at]
            PLANTED[code](line)
            rows.append({**line[7], "n": at})
    path = write_rows([rows[3], *rows])
    before = path.read_bytes()
    path.write_bytes(before + b'{"prompt": \n')
    before = path.read_bytes()
    every = [code for code, kind in KINDS.items() if kind.cleans]
    report = cleaned(path, tmp_path / "copy.jsonl", *every)
    assert path.read_bytes() == before
    assert report["removed"]["broken"] == 2
    assert report["removed"]["email"] == report["removed"]["phone"] == 1
    assert found_in(tmp_path / "copy.jsonl") == {}
    lines = (tmp_path / "copy.jsonl").read_text().splitlines()
    assert len(lines) == report["rows"]
    kept = [json.loads(line) for line in lines]
    assert kept[0] == rows[3]
    assert any("[e-mail]" in row["prompt"] for row in kept)
    assert any(row["prompt"] == "Where is the caf\u00e9?" for row in kept)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["copy.jsonl", path.name])


def test_only_what_is_asked_is_cleaned(write_rows: Write, tmp_path: Path) -> None:
    rows = rows_of(12)
    rows[1]["prompt"], rows[2] = "Who is a@b.org?", rows[0]
    cleaned(write_rows(rows), tmp_path / "copy.jsonl", "email")
    kept = [json.loads(line) for line in (tmp_path / "copy.jsonl").read_text().splitlines()]
    assert len(kept) == 12
    assert kept[1]["prompt"] == "Who is [e-mail]?"


def test_leaks_leave_the_training_rows(tmp_path: Path) -> None:
    rows = rows_of(30)
    (tmp_path / "set").mkdir()
    for name, part in (("train", rows), ("valid", rows[4:9])):
        (tmp_path / "set" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    report = cleaned(tmp_path / "set", tmp_path / "copy", "leak")
    assert report["removed"] == {"leak": 5}
    assert not any("leak" in code for code in found_in(tmp_path / "copy"))
    assert len((tmp_path / "copy" / "valid.jsonl").read_text().splitlines()) == 5


def test_a_text_in_another_encoding_becomes_utf8(tmp_path: Path) -> None:
    words = (
        "Der K\u00f6nig w\u00e4hlt \u2013 \u201esch\u00f6n\u201c gr\u00fc\u00dft die B\u00e4ume.\n"
        * 30
    )
    path = tmp_path / "play.txt"
    path.write_bytes(words.encode("cp1252"))
    with pytest.raises(UserError, match="it is not UTF-8"):
        check(path)
    cleaned(path, tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_text(encoding="utf-8").strip() == words.strip()


@pytest.mark.parametrize("case", ["exists", "unknown", "nothing left"])
def test_copies_that_are_refused(write_rows: Write, tmp_path: Path, case: str) -> None:
    path, out = write_rows([{"text": ""}, {"text": " "}]), tmp_path / "copy.jsonl"
    if case == "exists":
        out.write_text("kept")
    with pytest.raises(UserError) as caught:
        cleaned(path, out, "few_rows" if case == "unknown" else "empty")
    code = {"exists": "exists", "unknown": "bad_option", "nothing left": "bad_data"}[case]
    assert caught.value.code == code
    assert (out.read_text() if out.exists() else "") == ("kept" if case == "exists" else "")
    assert len(list(tmp_path.iterdir())) == (2 if case == "exists" else 1)
