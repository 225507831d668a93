"""Options: every number at its edges, names that do not exist, settings files."""

# ruff: noqa: E501  (a table reads best with a case a line)

from __future__ import annotations

from bad_inputs.case import Case, each, lines, text, train

# option -> (field, bad numbers); what is no number at all is tried with every one of them
_WHOLE = {
    "--rank": ("adapter.rank", ["0", "-1", "4097", "1000000000", "9" * 30]),
    "--steps": ("training.steps", ["0", "-5", "10000001", "9" * 40]),
    "--batch-size": ("training.batch_size", ["0", "-2", "4097", "9" * 25]),
    "--max-length": ("data.max_length", ["0", "-1", "7", "131073"]),
    "--grad-accumulation": ("training.grad_accumulation", ["0", "-1", "4097"]),
    "--eval-every": ("training.eval_every", ["0", "-1", "10000001"]),
    "--eval-rows": ("training.eval_rows", ["0", "-1", "1000001"]),
    "--save-every": ("training.save_every", ["0", "-7", "10000001"]),
    "--sample-every": ("training.sample_every", ["0", "-1", "10000001"]),
    "--patience": ("training.patience", ["0", "-1", "10001"]),
    "--seed": ("training.seed", ["-1", "9" * 20]),
}
_REAL = {
    "--alpha": ("adapter.alpha", ["0", "-1", "nan", "inf", "-inf", "1e30", "1e400"]),
    "--dropout": ("adapter.dropout", ["1", "-0.1", "nan", "inf", "0.95"]),
    "--epochs": ("training.epochs", ["0", "-3", "nan", "inf", "1e30"]),
    "--learning-rate": ("training.learning_rate", ["0", "-1e-4", "nan", "inf", "1e3", "1e30"]),
    "--warmup": ("training.warmup", ["-0.1", "1.5", "nan", "inf"]),
    "--weight-decay": ("training.weight_decay", ["-1", "11", "nan", "inf"]),
    "--clip": ("training.clip", ["0", "-1", "nan", "inf", "1e30"]),
    "--val-fraction": ("data.val_fraction", ["-0.1", "0.95", "1", "nan", "inf"]),
}
_SAMPLING_WHOLE = {"--max-tokens": ["0", "-1", "131073", "9" * 20], "--seed": ["-1", "9" * 20]}
_SAMPLING_REAL = {
    "--temperature": ["-0.1", "10.5", "nan", "inf"],
    "--top-p": ["0", "-1", "1.1", "nan", "inf"],
    "--repetition-penalty": ["0", "0.5", "-1", "11", "nan", "inf"],
}
_GENERATE = ["generate", "--model", "{model}", "--prompt", "Hello"]
_COMPARE = ["compare", "{run}", "--prompt", "Hello"]


def _numbers() -> list[Case]:
    cases = []
    for option, (field, values) in {**_WHOLE, **_REAL}.items():
        wanted = ["bad_option", field, "choose a number of"]
        cases += [Case(f"{option} {v[:12]}", train(option, v), wanted) for v in values]
    for option, values in {**_SAMPLING_WHOLE, **_SAMPLING_REAL}.items():
        wanted = ["bad_option", option, "choose a number of"]
        cases += [Case(f"generate {option} {v}", [*_GENERATE, option, v], wanted) for v in values]
        cases.append(Case(f"compare {option}", [*_COMPARE, option, values[1]], wanted))
    return cases


def _no_numbers() -> list[Case]:
    cases = []
    for option in (*_WHOLE, *_REAL):
        words = ["bad_option", "understudy train", option, "valid", "--help"]
        cases += [Case(f"{option} {v!r}", train(option, v), words) for v in ("many", "")]
        cases.append(Case(f"{option} alone", train(option), ["bad_option", option, "argument"]))
    for option in _WHOLE:
        words = ["bad_option", option, "valid"]
        cases += [Case(f"{option} {v}", train(option, v), words) for v in ("1e9", "2.5", "nan")]
    for option in (*_SAMPLING_WHOLE, *_SAMPLING_REAL):
        words = ["bad_option", option, "valid"]
        cases += [
            Case(f"generate {option} {v!r}", [*_GENERATE, option, v], words) for v in ("a", "")
        ]
    return cases


_NAMES = [
    Case("no such command", ["trian"], ["bad_option", "trian", "--help"]),
    Case("a command with a capital", ["Train"], ["bad_option", "Train"]),
    Case("runs without a command", ["runs"], ["bad_option", "understudy runs", "--help"]),
    Case("data without a command", ["data"], ["bad_option", "understudy data"]),
    Case("runs with a wrong command", ["runs", "remove", "x"], ["bad_option", "remove"]),
    Case("no such option", train("--rnk", "4"), ["bad_option", "--rnk", "--rank"]),
    Case("no such option at all", train("--zzz"), ["bad_option", "--zzz"]),
    Case("one dash", train("-rank", "4"), ["bad_option", "-r"]),
    Case("an extra word", train("more"), ["bad_option", "more"]),
    Case("--data-dir alone", ["--data-dir"], ["bad_option", "--data-dir"]),
    Case("an option before its command", ["--rank", "4", "train"], ["bad_option", "--rank"]),
    Case("no model", ["train", "--data", "{rows}"], ["bad_option", "--model", "name a model"]),
    Case("no data", ["train", "--model", "{model}"], ["bad_option", "--data", "name a file"]),
    Case("nothing", ["train"], ["bad_option", "--model"]),
    Case("empty model", train(model=""), ["bad_option", "model.source", "empty"]),
    Case("empty data", train(data=""), ["bad_option", "data.source", "empty"]),
    Case("epochs and steps", train("--epochs", "1", "--steps", "1"), ["bad_option", "--epochs and --steps", "one of them"]),
    Case("preset", train("--preset", "fast"), ["bad_option", "fast", "quick, balanced, thorough"]),
    Case("empty preset", train("--preset", ""), ["bad_option", "--preset", "quick"]),
    Case("bits 3", train("--bits", "3"), ["bad_option", "model.bits", "3", "keep, 4, 6, 8, 16 or 32"]),
    Case("bits 0", train("--bits", "0"), ["bad_option", "model.bits", "keep"]),
    Case("bits four", train("--bits", "four"), ["bad_option", "model.bits", "four"]),
    Case("empty bits", train("--bits", ""), ["bad_option", "model.bits"]),
    Case("generate bits 5", [*_GENERATE, "--bits", "5"], ["bad_option", "model.bits", "keep"]),
    Case("train-on", train("--train-on", "answers"), ["bad_option", "data.train_on", "completions, last or all"]),
    Case("layers 0", train("--layers", "0"), ["bad_option", "adapter.layers", "at least 1"]),
    Case("layers -5", train("--layers", "-5"), ["bad_option", "adapter.layers", "-5"]),
    Case("layers 999", train("--layers", "999"), ["bad_option", "--layers 999", "choose at most"]),
    Case("layers huge", train("--layers", "9" * 30), ["bad_option", "adapter.layers"]),
    Case("layers words", train("--layers", "most"), ["bad_option", "adapter.layers", "whole number or all"]),
    Case("layers 1.5", train("--layers", "1.5"), ["bad_option", "adapter.layers"]),
    Case("layers --5", train("--layers", "--5"), ["bad_option", "adapter.layers"]),
    Case("layers squared", train("--layers", "²"), ["bad_option", "adapter.layers"]),
    Case("layers empty", train("--layers", ""), ["bad_option", "adapter.layers"]),
    Case("layers ALL", train("--layers", "ALL"), ["bad_option", "adapter.layers", "all"]),
    Case("targets near", train("--targets", "q_porj"), ["bad_option", "--targets q_porj", "did you mean q_proj?", "down_proj"]),
    Case("targets near a group", train("--targets", "atention"), ["bad_option", "did you mean attention?"]),
    Case("targets far", train("--targets", "zzz"), ["bad_option", "--targets zzz", "attention, mlp, all"]),
    Case("one of two targets", train("--targets", "q_proj,zzz"), ["bad_option", "--targets zzz"]),
    Case("targets a part of a name", train("--targets", "proj"), ["bad_option", "--targets proj"]),
    Case("targets a pattern", train("--targets", ".*"), ["bad_option", "--targets .*"]),
    Case("targets the embedding", train("--targets", "embed_tokens"), ["bad_option", "embed_tokens"]),
    Case("targets a norm", train("--targets", "input_layernorm"), ["bad_option", "input_layernorm"]),
    Case("targets empty", train("--targets", ""), ["bad_option", "adapter.targets", "names no layer"]),
    Case("targets comma", train("--targets", "q_proj,"), ["bad_option", "adapter.targets"]),
    Case("generate without prompt", ["generate", "--model", "{model}"], ["bad_option", "--prompt"]),
    Case("generate without model", ["generate", "--prompt", "x"], ["bad_option", "--model"]),
    Case("generate --prompt alone", ["generate", "--model", "{model}", "--prompt"], ["bad_option", "--prompt"]),
    Case("compare nothing", ["compare"], ["bad_option", "RUN_DIR", "no run is named"]),
    Case("compare adapter without model", ["compare", "--adapter", "{run}/adapter"], ["bad_option", "--adapter", "add --model"]),
    Case("compare model and adapter without prompt", ["compare", "--model", "{model}", "--adapter", "{run}/adapter"], ["bad_option", "--prompt"]),
    Case("evaluate nothing", ["evaluate"], ["bad_option", "RUN_DIR"]),
    Case("evaluate a bare adapter without data", ["evaluate", "--model", "{model}", "--adapter", "{run}/adapter"], ["bad_option", "--data", "held-out"]),
    Case("evaluate --max-length 0", ["evaluate", "{run}", "--max-length", "0"], ["bad_option", "--max-length", "at least 8"]),
    Case("evaluate --max-length -3", ["evaluate", "{run}", "--max-length", "-3"], ["bad_option", "--max-length"]),
    Case("data check --max-length 0", ["data", "check", "{rows}", "--model", "{model}", "--max-length", "0"], ["bad_option", "max_length", "at least 8"]),
    Case("data check --max-length -3", ["data", "check", "{rows}", "--model", "{model}", "--max-length", "-3"], ["bad_option", "max_length"]),
    Case("data check nothing", ["data", "check"], ["bad_option", "understudy data check"]),
    Case("bench: no such kind", ["bench", "speed"], ["bad_option", "speed", "train, generate, load, export"]),
    Case("bench: against nobody", ["bench", "--against", "torch"], ["bad_option", "--against torch", "choose mlx-lm"]),
    Case("bench: no rounds", ["bench", "--pairs", "0"], ["bad_option", "--pairs 0", "at least 1"]),
    Case("bench: into a folder", ["bench", "--out", "{work}"], ["bad_option", "--out", "name a file"]),
    Case("bench: no such model", ["bench", "--model", "{work}/none"], ["no_such_model", "none"]),
    Case("resume nothing", ["resume"], ["bad_option", "RUN_DIR"]),
    Case("runs show nothing", ["runs", "show"], ["bad_option", "RUN_DIR"]),
]  # fmt: skip

_BASE = '[model]\nsource = "{model}"\n[data]\nsource = "{rows}"\n'


def _file(name: str, content: str | bytes, *words: str) -> Case:
    return Case(
        f"config: {name}",
        train("--config", "{work}/settings.toml"),
        ["bad_option", *words],
        text(content, "settings.toml"),
    )


_FILES = [
    _file("broken syntax", "[training\nsteps = 1", "settings.toml", "line 1"),
    _file("a value without quotes", "[data]\ntrain_on = all", "settings.toml", "line 2"),
    _file("the same key twice", "[training]\nsteps = 1\nsteps = 2", "settings.toml"),
    _file("no text", b"\xff\xfe\x00", "settings.toml", "cannot be read"),
    _file("a deep nest", "a = " + "[" * 5000 + "]" * 5000, "settings.toml", "cannot be read"),
    _file("JSON", '{"training": {"steps": 1}}', "settings.toml"),
    _file("unknown group", "[trainig]\nsteps = 1", "trainig", "did you mean training?"),
    _file("unknown key", "[training]\nlearning_rat = 1.0", "training.learning_rat", "did you mean learning_rate?"),
    _file("unknown far key", "[training]\nzzz = 1", "training.zzz", "known here", "batch_size"),
    _file("key outside its group", "rank = 4", "rank"),
    _file("a group as a number", "training = 3", "training", "group of settings"),
    _file("model as a number", "model = 3", "model", "group of settings"),
    _file("data as a list", "data = [1]", "data", "group of settings"),
    _file("group as a list of tables", "[[training]]\nsteps = 1", "training", "group of settings"),
    _file("text for a number", '[adapter]\nrank = "8"', "adapter.rank", "whole number"),
    _file("fraction for a whole number", "[adapter]\nrank = 8.5", "adapter.rank", "whole number"),
    _file("true for a number", "[training]\nsteps = true", "training.steps", "whole number"),
    _file("number for true", "[training]\ngrad_checkpoint = 1", "training.grad_checkpoint", "true or false"),
    _file("nan", "[training]\nlearning_rate = nan", "training.learning_rate", "more than 0"),
    _file("inf", "[adapter]\nalpha = inf", "adapter.alpha"),
    _file("a date", "[training]\nsteps = 2026-01-01", "training.steps"),
    _file("number for bits", "[model]\nbits = 4", "model.bits", "keep, 4, 6, 8, 16 or 32"),
    _file("text for targets", '[adapter]\ntargets = "all"', "adapter.targets", "list"),
    _file("numbers in targets", "[adapter]\ntargets = [1]", "adapter.targets"),
    _file("no targets", "[adapter]\ntargets = []", "adapter.targets", "names no layer"),
    _file("keep 0", "[training]\nkeep = 0", "training.keep", "at least 1"),
    _file("final_rate 2", "[training]\nfinal_rate = 2.0", "training.final_rate"),
    _file("tokens 0", "[samples]\ntokens = 0", "samples.tokens"),
    _file("prompts text", '[samples]\nprompts = "x"', "samples.prompts"),
    _file("config as a number", "config = 3", "config"),
    _file("a number beyond 64 bits", f"[training]\nsteps = {'9' * 30}", "training.steps"),
    Case("config: missing", train("--config", "{work}/no.toml"), ["bad_option", "no.toml", "No such file"]),
    Case("config: a folder", train("--config", "{work}"), ["bad_option", "--config", "directory"]),
    Case("config: empty name", train("--config", ""), ["bad_option", "--config"]),
    Case("config: a name too long", train("--config", "n" * 300), ["bad_option", "--config", "long"]),
    Case(
        "config: no model in it", ["train", "--config", "{work}/settings.toml"],
        ["bad_option", "--model"], text('[data]\nsource = "x"', "settings.toml"),
    ),
    Case(
        "config: source a number", ["train", "--config", "{work}/settings.toml"],
        ["bad_option", "model.source", "text"],
        text('[model]\nsource = 3\n[data]\nsource = "x"', "settings.toml"),
    ),
    Case(
        "config: a zero byte in a name", ["train", "--config", "{work}/settings.toml"],
        ["no_such_data", "no such file"],
        each(lines({"text": "x"}, name="a"), text('[model]\nsource = "demo"\n[data]\nsource = "a\\u0000b"', "settings.toml")),
    ),
]  # fmt: skip

CASES = [*_numbers(), *_no_numbers(), *_NAMES, *_FILES]
