"""Texts in other encodings than UTF-8: told by their letters, and called a guess by few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.clean import clean
from mlx_lora.data.encodings import guess_encoding
from mlx_lora.data.latin import guess_latin
from mlx_lora.data.reading import read_rows
from mlx_lora.errors import UserError
from mlx_lora.events import Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# a day in the country, in words of our own
TEXTS = {
    "tr": (
        "cp1254",
        (
            "Bugün hava çok güzeldi ve çocuklar bahçede oynuyordu. Öğleden sonra şehre gittik, "
            "eski bir kahvede çay içtik. İstanbul'un sokakları kalabalıktı, herkes işine "
            "yetişmeye çalışıyordu. Akşam olunca ışıklar yandı ve deniz pırıl pırıl görünüyordu. "
            "Yarın yağmur yağacağını söylüyorlar, ama biz yine de yürüyüşe çıkacağız. "
        ),
    ),
    "de": (
        "cp1252",
        (
            "Heute war das Wetter schön und die Kinder spielten im Garten. Später fuhren wir in "
            "die große Stadt und tranken in einem alten Café Tee. Die Straßen waren überfüllt, "
            "jeder wollte pünktlich nach Hause. Am Abend gingen die Lichter an und der Fluss "
            "glänzte. Morgen könnte es regnen, aber wir würden trotzdem wandern. "
        ),
    ),
    "fr": (
        "cp1252",
        (
            "Aujourd'hui il a fait très beau et les enfants ont joué dans le jardin. L'après-midi "
            "nous sommes allés en ville, où nous avons bu un thé dans un vieux café. Les rues "
            "étaient pleines de monde, chacun se dépêchait. Le soir, les lumières se sont "
            "allumées et la rivière brillait. Demain, ça pourrait être différent, même s'il "
            "pleut. "
        ),
    ),
    "es": (
        "cp1252",
        (
            "Hoy hizo muy buen tiempo y los niños jugaron en el jardín. Después fuimos a la "
            "ciudad y tomamos un té en un café antiguo. Las calles estaban llenas, todo el mundo "
            "corría según su costumbre. ¿Mañana lloverá? Quizás, pero también iremos a la "
            "montaña. "
        ),
    ),
    "cs": (
        "cp1250",
        (
            "Dnes bylo krásné počasí a děti si hrály na zahradě. Odpoledne jsme jeli do města a "
            "ve staré kavárně jsme pili čaj. Ulice byly plné lidí, každý spěchal domů. Večer se "
            "rozsvítila světla a řeka se třpytila. Zítra prý bude pršet, ale přesto půjdeme na "
            "výlet. "
        ),
    ),
    "pl": (
        "cp1250",
        (
            "Dziś była piękna pogoda i dzieci bawiły się w ogrodzie. Po południu pojechaliśmy do "
            "miasta i w starej kawiarni piliśmy herbatę. Ulice były pełne ludzi, każdy się "
            "śpieszył. Wieczorem zapaliły się światła i rzeka błyszczała. Jutro może będzie "
            "padać, ale i tak pójdziemy na wycieczkę. "
        ),
    ),
}
CASES = [*TEXTS.values(), *(("mac_roman", TEXTS[name][1]) for name in ("de", "fr", "es"))]


@pytest.mark.parametrize(("encoding", "text"), CASES, ids=lambda value: value[:9])
def test_a_page_is_told_for_sure(tmp_path: Path, encoding: str, text: str) -> None:
    path, text = tmp_path / "a.txt", f"{text}\n" * 3
    path.write_bytes(text.encode(encoding))
    guess = guess_encoding(path)
    assert guess is not None
    assert guess.sure
    assert path.read_bytes().decode(guess.encoding) == text
    with pytest.raises(UserError) as caught:
        list(read_rows(path))
    assert "it looks like" in caught.value.why
    assert "probably" not in caught.value.why


@pytest.mark.parametrize(("encoding", "text"), CASES, ids=lambda value: value[:9])
def test_no_stretch_of_words_is_told_wrong_for_sure(encoding: str, text: str) -> None:
    words, sure, unsure = text.split() * 2, 0, 0
    for length in (1, 2, 3, 5, 8, 13, 21, 34, 55):
        for at in range(len(words) // 2):
            part = " ".join(words[at : at + length])
            if part.isascii():
                continue
            guess = guess_latin(part.encode(encoding))
            sure += guess.sure
            unsure += not guess.sure
            if guess.sure:
                assert part.encode(encoding).decode(guess.encoding, "replace") == part
    assert sure > 10
    assert unsure > 10


def test_few_letters_make_a_guess_that_says_so(
    tmp_path: Path, understudy: Callable[..., Any]
) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    path.write_bytes('{"text": "Geçti şık"}\n{"text": "b"}\n'.encode("cp1254"))
    with pytest.raises(UserError) as caught:
        list(read_rows(path))
    assert "probably " in caught.value.why
    assert "by few letters" in caught.value.why
    assert caught.value.fix.endswith("; check its letters")
    done = understudy("data", "clean", path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "a.jsonl was read as probably " in done.stdout
    assert "check the letters of the copy" in " ".join(done.stdout.split())


def test_a_copy_says_what_it_was_made_of(tmp_path: Path) -> None:
    encoding, text = TEXTS["cs"]
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    job = jobs.CleanJob(
        model=ModelConfig(source="demo"), data=DataConfig(source=str(path)), seed=0, root="",
        out=str(tmp_path / "b.txt"), fixes=(),
    )  # fmt: skip
    (report,) = (e.data for e in clean(job, Control()) if isinstance(e, Report))
    assert report["encodings"] == {
        "a.txt": {
            "encoding": "cp1250", "sure": True,
            "text": "Central European, as Windows writes it (cp1250)",
        }
    }  # fmt: skip
    assert (tmp_path / "b.txt").read_text(encoding="utf-8").strip() == text.strip()
