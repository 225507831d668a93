"""What can be wrong with the rows of a dataset: in words, with what it does to training.

One entry a code; the command line and the window say the same sentences.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Level = Literal["error", "warning", "note"]


class Kind(msgspec.Struct, frozen=True):
    """One kind of finding.

    Attributes:
        level: `error` where training refuses the file as it is.
        one, many: the title for one row and for several; `{n}` is their number, `{rows}` whose rows
            they are, `{limit}` the length limit in tokens.
        effect: what it does to training.
        fix: what a person can do.
        cleans: what a cleaned copy does about it; empty where nothing is to be done there.
        asked: a copy does so only when it is asked to.
    """

    level: Level
    one: str
    many: str
    effect: str
    fix: str
    cleans: str = ""
    asked: bool = False


KINDS: dict[str, Kind] = {
    "unread": Kind(
        "error", "Reading ended before the end of the{rows} file",
        "Reading ended before the end of {n}{rows} files",
        "Nothing tells where the next row begins, so the rows behind are in none of the figures.",
        "Correct the file at this place and check it again.", "leaves out what stands behind",
        asked=True,
    ),
    "broken": Kind(
        "error", "1{rows} row cannot be read", "{n}{rows} rows cannot be read",
        "Training does not begin with rows it cannot read.",
        "Correct them, or write a cleaned copy without them.", "leaves them out",
    ),
    "unknown": Kind(
        "error", "1{rows} row has fields nobody knows", "{n}{rows} rows have fields nobody knows",
        "Nothing says which of the fields is the question and which the answer.",
        "Say which column is which, or leave these rows out.", "leaves them out",
    ),
    "refused": Kind(
        "error", "The model\u2019s chat form refuses 1{rows} row",
        "The model\u2019s chat form refuses {n}{rows} rows",
        "Training does not begin with rows the model cannot be shown.",
        "Correct the order of their turns, or leave them out.", "leaves them out",
    ),
    "few_rows": Kind(
        "warning", "There is only 1 row", "There are only {n} rows",
        "So few are learnt by heart, and little else.", "From 50 good rows on it gets better.",
    ),
    "no_validation": Kind(
        "warning", "No row is held out", "No row is held out",
        "Nothing can measure what was learnt, or pick the best step.",
        "Hold out a tenth of the rows, or add a validation file.",
    ),
    "empty": Kind(
        "warning", "1{rows} row has no text or no answer",
        "{n}{rows} rows have no text or no answer",
        "There is nothing to learn in them, so they are left out.",
        "Fill in the answers, or leave them out.", "leaves them out",
    ),
    "no_target": Kind(
        "warning", "1{rows} row has nothing to learn within {limit} tokens",
        "{n}{rows} rows have nothing to learn within {limit} tokens",
        "The question alone fills the limit, so they are left out.",
        "Raise the length limit, or keep the end of long rows.",
    ),
    "dropped": Kind(
        "warning", "1{rows} row is longer than {limit} tokens and is left out",
        "{n}{rows} rows are longer than {limit} tokens and are left out",
        "Nothing of them is learnt.", "Raise the length limit, or cut long rows instead.",
    ),
    "cut": Kind(
        "warning", "1{rows} row is longer than {limit} tokens and is cut",
        "{n}{rows} rows are longer than {limit} tokens and are cut",
        "What is cut off is never seen.", "Raise the length limit, split long rows, or leave them "
        "out.",
    ),
    "cut_answer": Kind(
        "warning", "The end of 1 answer is cut off", "The ends of {n} answers are cut off",
        "Their last words, and the sign to stop, are never learnt: answers may run on.",
        "Raise the length limit, or keep the end of long rows.",
    ),
    "no_stop": Kind(
        "warning", "1{rows} row does not teach where to stop",
        "{n}{rows} rows do not teach where to stop",
        "The model may not end its answers by itself.",
        "End the conversation with an answer, or choose another template.",
    ),
    "untrained_stop": Kind(
        "warning", "The model never saw the sign that ends 1{rows} row",
        "The model never saw the sign that ends {n}{rows} rows",
        "To it, it is the same as signs nobody uses, and adapters do not change that: answers will "
        "hardly end by themselves.",
        "Limit the length of answers, or choose a model that was taught to end them.",
    ),
    "leak": Kind(
        "warning", "1 row held out for measuring is also learnt",
        "{n} rows held out for measuring are also learnt",
        "Results will look better than they are.", "Take them out of one of the two files.",
        "takes them out of the training rows",
    ),
    "near_leak": Kind(
        "warning", "1 row held out for measuring is almost the same as a learnt one",
        "{n} rows held out for measuring are almost the same as learnt ones",
        "Results will look better than they are.", "Take them out of one of the two files.",
        "takes them out of the training rows", asked=True,
    ),
    "role_order": Kind(
        "warning", "The turns of 1 conversation are in an odd order",
        "The turns of {n} conversations are in an odd order",
        "Question and answer do not take turns, which the model never saw.",
        "Check who speaks: system, then user and assistant in turn, an answer last.",
        "leaves them out", asked=True,
    ),
    "garbled": Kind(
        "warning", "1{rows} row holds garbled signs", "{n}{rows} rows hold garbled signs",
        "Signs such as \u201c\u00c3\u00a9\u201d or \u201c\ufffd\u201d would be learnt as they "
        "stand.",
        "Save the source again as UTF-8.", "mends what can be read again", asked=True,
    ),
    "control_characters": Kind(
        "warning", "1{rows} row holds invisible control signs",
        "{n}{rows} rows hold invisible control signs",
        "They would be learnt as if they were text.", "Take them out.", "takes the signs out",
    ),
    "bad_json": Kind(
        "warning", "1 answer is no valid JSON, while most are",
        "{n} answers are no valid JSON, while most are",
        "The model would learn to break the form now and then.",
        "Correct them, or leave them out.", "leaves them out", asked=True,
    ),
    "key": Kind(
        "warning", "1{rows} row may hold a password or a key",
        "{n}{rows} rows may hold a password or a key",
        "A model can say what it was taught, word for word.",
        "Take them out before you share the adapter.", "puts [key] in their place", asked=True,
    ),
    "email": Kind(
        "note", "1{rows} row holds an e-mail address", "{n}{rows} rows hold e-mail addresses",
        "A model can say what it was taught, word for word.",
        "Take them out if they are private.", "puts [e-mail] in their place", asked=True,
    ),
    "phone": Kind(
        "note", "1{rows} row holds a phone number", "{n}{rows} rows hold phone numbers",
        "A model can say what it was taught, word for word.",
        "Take them out if they are private.", "puts [phone] in their place", asked=True,
    ),
    "control_tokens": Kind(
        "note", "1{rows} row has a sign of the model typed into its text",
        "{n}{rows} rows have signs of the model typed into their text",
        "They are read as plain text, so they cannot end an answer.",
        "Nothing need be done; check that the text is meant so.",
    ),
    "duplicate": Kind(
        "note", "1{rows} row is a copy of an earlier one",
        "{n}{rows} rows are copies of earlier ones",
        "What is there twice weighs twice.", "Leave the copies out unless they are meant.",
        "leaves the copies out",
    ),
    "near_duplicate": Kind(
        "note", "1{rows} row is almost a copy of an earlier one",
        "{n}{rows} rows are almost copies of earlier ones",
        "What is there often is learnt by heart.", "Leave most of them out.",
        "leaves them out", asked=True,
    ),
    "extreme_length": Kind(
        "note", "1{rows} row is far longer than the others",
        "{n}{rows} rows are far longer than the others",
        "They cost the most memory and time.", "Look at them: often two rows ran into one.",
    ),
    "few_validation": Kind(
        "note", "Only 1 row measures what was learnt", "Only {n} rows measure what was learnt",
        "The figures will be rough.", "Hold out more rows, or add some.",
    ),
}  # fmt: skip
# errors first, each level in the order above
CODES = sorted(KINDS, key=lambda code: ("error", "warning", "note").index(KINDS[code].level))
# what a cleaned copy does without being asked
SAFE = tuple(code for code, kind in KINDS.items() if kind.cleans and not kind.asked)


def words(code: str, count: int, split: str, limit: int) -> dict[str, Any]:
    """Title, effect, fix, level of so many rows of a split, and whether a copy can be cleaned."""
    kind = KINDS[code]
    whose = {"valid": " validation", "test": " test"}.get(split, "")
    title = (kind.one if count == 1 else kind.many).format(
        n=f"{count:,}", rows=whose, limit=f"{limit:,}"
    )
    return {
        "level": kind.level,
        "title": title,
        "effect": kind.effect,
        "fix": kind.fix,
        "cleanable": bool(kind.cleans),
    }
