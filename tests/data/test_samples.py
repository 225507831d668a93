"""The bundled samples: understood as they stand, with nothing wrong in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora import events, jobs
from mlx_lora.config import DataConfig, ModelConfig
from mlx_lora.control import Control
from mlx_lora.data.examples import read_examples
from mlx_lora.data.inspect import inspect
from mlx_lora.data.samples import SAMPLES, Sample
from mlx_lora.data.source import find_source
from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

FORMS = {
    "quiz": "completion", "support": "sharegpt", "plain-words": "alpaca", "faq": "completion",
    "tools": "messages", "diary": "text", "stories": "document",
}  # fmt: skip


def report(sample: Sample) -> dict[str, Any]:
    data = DataConfig(source=sample.source, max_length=512)
    job = jobs.InspectJob(model=ModelConfig(source="demo"), data=data, seed=0, root="")
    said = [e for e in inspect(job, Control()) if isinstance(e, events.Report)]
    return next(e.data for e in said if e.kind == "inspect")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.key)
def test_a_sample_is_understood_and_sound(sample: Sample) -> None:
    found = report(sample)
    assert set(found["formats"]) == {FORMS[sample.key]}
    codes = {issue["code"] for issue in found["issues"]}
    assert codes <= {"cut", "cut_answer", "few_validation"}, codes
    size = sum(path.stat().st_size for path in find_source(
        DataConfig(source=sample.source), sample.path
    ).paths)  # fmt: skip
    assert size < 80_000
    assert sample.sentence.endswith(".")


def test_every_form_has_a_sample() -> None:
    assert {sample.key for sample in SAMPLES} == set(FORMS)
    assert set(FORMS.values()) == {
        "text", "completion", "alpaca", "sharegpt", "messages", "document"
    }  # fmt: skip


def test_every_quiz_can_be_asked() -> None:
    source = find_source(DataConfig(source="sample:quiz"), SAMPLES[0].path)
    rows = [one.row.value for one in read_examples(source)]
    assert len(rows) >= 60
    places: list[int] = []
    for row in rows:
        questions = json.loads(row["completion"])["questions"]
        assert questions
        for question in questions:
            assert question["question"].endswith("?")
            assert len(set(question["answers"])) == 4
            places.append(question["correct"])
            assert question["answers"][question["correct"]]
    # the right answer is in no favourite place
    assert all(places.count(place) > len(places) / 8 for place in range(4))
    assert report(SAMPLES[0])["json_answers"] == {"parse": len(rows), "of": len(rows)}


def test_a_name_that_is_not_there_has_a_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_source(DataConfig(source="sample:quizz"), tmp_path)
    assert caught.value.code == "no_such_data"
    assert "sample:quiz" in caught.value.fix
