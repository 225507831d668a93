"""What an export leaves behind, however it ends: killed, on a full disk, with little memory.

And what it never gives away: who made it, and where.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trial
from bad_inputs.inline import InlineChild

from mlx_lora import cli, events, jobs, storage
from mlx_lora.cli import running
from mlx_lora.config import ModelConfig
from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.export.export import export
from mlx_lora.export.formats import FORMATS
from mlx_lora.export.gguf_file import LOSS
from mlx_lora.export.gguf_reader import read_gguf
from mlx_lora.models.tensors import read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KILLED = ("gguf", "hf", "mlx-fused", "file")
_OURS = {"README.md", "export.json"}


@pytest.fixture(scope="module")
def adapter(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the small real model."""
    folder = tmp_path_factory.mktemp("safe")
    run = train_inline(stories, trial.write_play(folder), folder)
    return run / "adapter"


def train_inline(model: Path, data: Path, folder: Path) -> Path:
    """A run of two steps; returns its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Child", InlineChild)
        names = ("--model", model, "--data", data, "--out", folder / "run", "--steps", 2)
        words = ("--data-dir", folder / "data-root", "train", *names, "--max-length", 64)
        assert cli.main([str(word) for word in words]) == 0
    return folder / "run"


def job(model: Path, adapter: Path, out: Path, form: str = "gguf", **named: Any) -> jobs.ExportJob:
    """An export in this process, not verified unless that is asked for."""
    quant = named.pop("quant", next(iter(FORMATS[form].quants), ""))
    return jobs.ExportJob(
        model=ModelConfig(source=str(model)), adapter=str(adapter), format=form, quant=quant,
        out=str(out), root=str(out.parent), **{"verify": False, **named},
    )  # fmt: skip


def do(wanted: jobs.ExportJob) -> list[events.Event]:
    return list(export(wanted, Control()))


def check_whole(out: Path) -> dict[str, Any]:
    """What is visible is complete: every file named, of its size, as its reader takes it."""
    single = out.suffix == ".gguf"
    path = out.with_name(f"{out.stem}.export.json") if single else out / "export.json"
    facts: dict[str, Any] = json.loads(path.read_bytes())
    found = [out] if single else [p for p in out.iterdir() if p.name not in _OURS]
    assert {p.name: p.stat().st_size for p in found} == facts["files"]
    for file in found:
        if file.suffix == ".gguf":
            read_whole_gguf(file)
        elif file.suffix == ".safetensors":
            assert read_header(file)
        elif file.suffix == ".json":
            json.loads(file.read_bytes())
    return facts


def read_whole_gguf(path: Path) -> None:
    """Every tensor of its table ends inside the file."""
    import gguf

    content = read_gguf(path)
    assert content.tensors
    for tensor in content.tensors.values():
        kind = gguf.GGMLQuantizationType(tensor.kind)
        assert kind in LOSS
        block, size = gguf.GGML_QUANT_SIZES[kind]
        count = 1
        for extent in tensor.shape:
            count *= extent
        assert tensor.offset + count // block * size <= path.stat().st_size


# killed ------------------------------------------------------------------------------------------


class Killing(msgspec.Struct, frozen=True):
    """One export that is killed: as what, by whom, when, and over what."""

    form: str
    victim: str
    aim: str
    delay: float
    over: bool

    def __str__(self) -> str:
        over = " over an earlier one" if self.over else ""
        return f"{self.form}{over}: {self.victim}, {self.delay * 1000:.0f} ms after {self.aim}"


def killing(number: int) -> Killing:
    """The same for the same number."""
    dice = random.Random(4000 + number)
    aim, most = dice.choice(
        [("start", 1.5), ("hello", 0.6), ("half", 0.002), ("half", 0.02), ("half", 0.4),
         ("writing", 0.02), ("whole", 0.003)]
    )  # fmt: skip
    victim = dice.choice(["worker", "worker", "both", "owner"])
    over = bool(number % 2)
    return Killing(_KILLED[number // 2 % 4], victim, aim, dice.uniform(0.0, most), over)


def has_come(aim: str, process: trial.Process, out: Path) -> bool:
    """Whether it is time to count down to the kill."""
    match aim:
        case "start":
            return True
        case "hello":
            return any(isinstance(e, events.Hello) for e in process.said)
        case "half":
            return any(not p.name.endswith("-scratch") for p in halves(out))
        case "writing":
            return any(isinstance(e, events.Phase) and e.name == "writing" for e in process.said)
        case _:  # everything is written, and is about to be put in place
            return any((p / "README.md").exists() for p in halves(out))


def halves(out: Path) -> list[Path]:
    """What of an export is half-written now."""
    found = list(out.parent.glob(f"{storage.TEMPORARY}*"))
    return found + [inner for p in found for inner in p.glob(f"{storage.TEMPORARY}*")]


def strike(what: Killing, stories: Path, adapter: Path, out: Path) -> None:
    """Run the real command line and kill it."""
    form = "gguf" if what.form == "file" else what.form
    over = ("--overwrite",) if what.over else ()
    process = trial.Process(
        ("export", "--model", str(stories), "--adapter", str(adapter), "--format", form,
         "--out", str(out), "--json", *over),
        out.parent.parent / "home",
    )  # fmt: skip
    for _ in trial.instants(60):
        if has_come(what.aim, process, out) or process.process.poll() is not None:
            break
    time.sleep(what.delay)
    hello = next((e for e in process.said if isinstance(e, events.Hello)), None)
    if what.victim != "owner" and hello is not None:
        trial.kill(hello.pid)
    if what.victim != "worker" or hello is None:
        trial.kill(process.process.pid)
    process.wait()
    if hello is not None:
        assert trial.is_gone(hello.pid)


def check_kill(number: int, stories: Path, adapter: Path, folder: Path) -> str:
    """One kill, what it left, and the next export to the same place; says how it went."""
    what, place = killing(number), folder / f"place-{number}"
    place.mkdir()
    out = place / ("part.gguf" if what.form == "file" else "part")
    form = "gguf" if what.form == "file" else what.form
    if what.over:
        do(job(stories, adapter, out, form, quant=FORMATS[form].quants[-1]))
        before = check_whole(out)
    strike(what, stories, adapter, out)
    half, missing = bool(halves(out)), what.over and not out.exists()
    if missing:  # between two renames: the next start puts it back
        storage.remove_leftovers(place, of_the_dead=True)
        assert check_whole(out) == before
    there = out.exists()
    if there:
        check_whole(out)
    assert there or not what.over
    assert {p.name for p in place.iterdir() if not p.name.startswith(storage.TEMPORARY)} <= {
        "part", "part.gguf", "part.README.md", "part.export.json",
    }  # fmt: skip
    do(job(stories, adapter, out, form, overwrite=there))
    check_whole(out)
    assert trial.leftovers(place) == []
    left = "half-written files" if half else "nothing half-written"
    state = "put back" if missing else "there" if there else "not there"
    return f"{what}: {left}, {state}"


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)])
def test_killed_at_a_random_instant(
    number: int, stories: Path, adapter: Path, tmp_path: Path
) -> None:
    check_kill(number + 100, stories, adapter, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(30))
def test_killed_at_thirty_random_instants(
    number: int, stories: Path, adapter: Path, tmp_path: Path
) -> None:
    sys.stderr.write(f"kill {number}: {check_kill(number, stories, adapter, tmp_path)}\n")


_WRITER = """
import sys
from pathlib import Path
from mlx_lora.storage import new_folder, remove_leftovers

out, number = Path(sys.argv[1]), int(sys.argv[2])
while True:
    number += 1
    with new_folder(out, overwrite=True) as folder:
        for name in "ab":
            (folder / name).write_bytes(number.to_bytes(4, "little") * 50_000)
    print(number, flush=True)
"""


@pytest.mark.parametrize("kills", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_the_old_one_or_the_new_one_is_always_there(kills: int, tmp_path: Path) -> None:
    """Overwriting in a loop, killed at random instants: whole, and never older than said."""
    out, dice, said, back = tmp_path / "out", random.Random(kills), 0, 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(out), str(said)], cwd=trial.ROOT,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
        back += not out.exists()
        storage.remove_leftovers(tmp_path, of_the_dead=True)
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
        contents = {(out / name).read_bytes() for name in "ab"}
        (content,) = contents
        assert len(content) == 200_000
        number = int.from_bytes(content[:4], "little")
        assert number > said
        said = number
    sys.stderr.write(f"{kills} kills, {said} times replaced, {back} times put back\n")


_DIE_AT = """
import os, sys
from pathlib import Path
from mlx_lora.storage import new_folder

out, nth, rename, calls = Path(sys.argv[1]), int(sys.argv[2]), Path.rename, []

def dying(self, target):
    calls.append(target)
    if len(calls) == nth:
        os._exit(9)
    return rename(self, target)

Path.rename = dying
with new_folder(out, overwrite=True) as folder:
    (folder / "new").write_text("new")
"""


@pytest.mark.parametrize(("nth", "after"), [(1, "old"), (2, "old"), (3, "new")])
def test_killed_between_the_renames(nth: int, after: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    subprocess.run([sys.executable, "-c", _DIE_AT, str(out), str(nth)], cwd=trial.ROOT)
    storage.remove_leftovers(tmp_path, of_the_dead=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in out.iterdir()] == [after]


def test_what_a_dead_process_nobody_buried_left_is_removed(tmp_path: Path) -> None:
    """As in a container whose first process does not wait for others' children."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    assert trial.is_gone(child.pid)
    (tmp_path / f"{storage.TEMPORARY}{child.pid}-part").mkdir()
    storage.remove_leftovers(tmp_path, of_the_dead=True)
    assert list(tmp_path.iterdir()) == []
    child.wait()


def test_a_rename_that_fails_brings_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, calls = tmp_path / "out", Path.rename, itertools.count(1)
    out.mkdir()
    (out / "old").write_text("old")

    def failing(self: Path, target: Path) -> Path:
        if next(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UserError), storage.new_folder(out, overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert [p.name for p in out.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError), storage.new_folder(out):  # noqa: PT012  (it ends with the block)
        out.mkdir()
        (out / "theirs").write_text("x")
    assert [p.name for p in out.iterdir()] == ["theirs"]


# full disks and closed doors ----------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system of this test's own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def call(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True
        )
        if done.returncode:
            pytest.skip("only root may mount")
        mounted.append(place)
        return place

    if os.name != "posix" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root may mount")
    yield call
    for _ in mounted:
        subprocess.run(["umount", place], check=True)


def refused(wanted: jobs.ExportJob, code: str) -> UserError:
    """It ends with these words, and nothing is left of it."""
    out = Path(wanted.out)
    there = sorted(out.parent.glob("*"))
    with pytest.raises(UserError) as caught:
        do(wanted)
    assert caught.value.code == code, caught.value.line()
    assert sorted(out.parent.glob("*")) == there
    return caught.value


def test_a_disk_too_small_is_seen_before(
    stories: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=400_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for form in ("gguf", "hf", "mlx-fused", "ollama"):
        error = refused(job(stories, adapter, tmp_path / "new" / "a", form), "disk_full")
        # what packing is weighed by lies beside the export until it is done
        needed = 2 if form == "mlx-fused" else 1
        assert f"it needs {needed} MB, and 0 MB are free" in error.why
        assert not (tmp_path / "new").exists()


def test_a_small_disk_is_full_before_anything_is_written(
    stories: Path, adapter: Path, mount: Callable[[str], Path]
) -> None:
    place = mount("size=400k")
    error = refused(job(stories, adapter, place / "a"), "disk_full")
    assert "it needs" in error.why


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_that_fills_up_in_the_middle(
    form: str, stories: Path, adapter: Path, mount: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Wherever the last byte falls: weights, tokenizer, card, logits of the check."""
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda p: real(p)._replace(free=1 << 40))
    place = mount("size=4k")
    whole = place.parent / "whole"
    do(job(stories, adapter, whole, form))
    pages = sum(-(-p.stat().st_size // 4096) for p in whole.iterdir())
    for part in (0.3, 0.95):
        size = 4 * max(1, int(part * pages))
        subprocess.run(["mount", "-o", f"remount,size={size}k", place], check=True)
        refused(job(stories, adapter, place / "a", form), "disk_full")
    refused(job(stories, adapter, place / "a", form, verify=True), "disk_full")


@pytest.mark.parametrize("size", [1000, 1600, 2200])
def test_a_disk_that_fills_up_while_it_is_checked(
    size: int, stories: Path, adapter: Path, mount: Callable[[str], Path]
) -> None:
    """Room for the export, and not for the logits it is judged by, here or in llama.cpp."""
    place = mount(f"size={size}k")
    refused(job(stories, adapter, place / "a", verify=True), "disk_full")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space"), OSError("4096 requested and 512 written")], ids=str
)
def test_a_write_that_fails(
    error: OSError, stories: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's words for a full disk, and NumPy's."""
    import gguf

    calls, real = itertools.count(), gguf.GGUFWriter.write_tensor_data

    def failing(self: Any, tensor: Any) -> None:
        if next(calls) == 20:
            raise error
        real(self, tensor)

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", failing)
    refused(job(stories, adapter, tmp_path / "a"), "disk_full")
    assert next(calls) == 21


@pytest.mark.parametrize("form", ["gguf", "mlx"])
def test_a_folder_nobody_may_write_to(
    form: str, stories: Path, adapter: Path, mount: Callable[[str], Path]
) -> None:
    place = mount("size=8m,ro")
    error = refused(job(stories, adapter, place / "a", form), "no_permission")
    assert "may not be written" in error.why
    refused(job(stories, adapter, place / "new" / "a", form), "no_permission")


def test_a_run_that_cannot_be_written_to(
    stories: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere; then the system is made to refuse."""
    real = Path.mkdir

    def closed(self: Path, *arguments: Any, **named: Any) -> None:
        if tmp_path in self.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        real(self, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", closed)
    refused(job(stories, adapter, tmp_path / "a", "hf"), "no_permission")


# memory ------------------------------------------------------------------------------------------

_MEASURE = """
import json, sys
from pathlib import Path
from mlx_lora import blas
blas.prepare()
import mlx.core as mx
import msgspec
from mlx_lora import jobs
from mlx_lora.control import Control
from mlx_lora.export.export import export
from mlx_lora.export import ggml, verify
from mlx_lora.models.definitions import model_classes

def high():
    # not ru_maxrss: it begins with what the process that started this one held
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024

model_classes("llama"), ggml.library()
before = high()
for event in export(msgspec.json.decode(sys.argv[1], type=jobs.ExportJob), Control()):
    pass
print(json.dumps([before, high()]))
"""
_WIDE = {
    "hidden_size": 1024, "intermediate_size": 5632, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 16384, "num_hidden_layers": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def large(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random model of 58 M parameters in float16 (115 MB), and an adapter for it."""
    import mlx.core as mx
    import models_made

    model = tmp_path_factory.mktemp("large") / "model"
    model.mkdir()
    config = models_made._config("llama", tied=True) | _WIDE
    (model / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(stories / name, model / name)
    shapes = models_made._shapes(config)
    weights = {n: (mx.random.normal(s) * 0.02).astype(mx.float16) for n, s in shapes.items()}
    assert 55e6 < sum(w.size for w in weights.values()) < 65e6
    mx.save_safetensors(str(model / "model.safetensors"), weights, {"format": "pt"})
    adapter = model.parent / "adapter"
    adapter.mkdir()
    keys = ("self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj")
    pairs = {}
    for number, key in itertools.product(range(2), keys):
        out, inner = shapes[f"model.layers.{number}.{key}.weight"]
        pairs[f"model.layers.{number}.{key}.lora_a"] = mx.random.normal((inner, 8)) * 0.02
        pairs[f"model.layers.{number}.{key}.lora_b"] = mx.random.normal((8, out)) * 0.02
    mx.save_safetensors(str(adapter / "adapters.safetensors"), pairs)
    parameters = {"rank": 8, "scale": 2.0, "dropout": 0.0, "keys": list(keys)}
    shape = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (adapter / "adapter_config.json").write_text(json.dumps(shape))
    mx.clear_cache()
    return model, adapter


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux counts it there")
@pytest.mark.parametrize(
    ("form", "quant"),
    [pytest.param(*pair, marks=pytest.mark.slow) for pair in (
        ("gguf", "f16"), ("gguf", "q8_0"), ("gguf", "q4_k_m"), ("gguf", "f32"), ("hf", "16"),
        ("mlx-fused", "8"),
    )],
)  # fmt: skip
def test_a_large_model_needs_little_memory(
    form: str, quant: str, large: tuple[Path, Path], tmp_path: Path
) -> None:
    """One tensor at a time: three of the largest in float32, and no more."""
    wanted = job(*large, tmp_path / "out", form, quant=quant)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, msgspec.json.encode(wanted).decode()],
        cwd=trial.ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, peak = json.loads(done.stdout)
    largest = _WIDE["vocab_size"] * _WIDE["hidden_size"] * 4
    sys.stderr.write(
        f"{form} {quant}: {before / 1e6:.0f} MB before, {peak / 1e6:.0f} MB at most; "
        f"the largest tensor is {largest / 1e6:.0f} MB in float32\n"
    )
    # measured: 2.7 of the largest; the whole model in float32 would be beyond this
    assert peak < before + 3 * largest + 80e6
    check_whole(tmp_path / "out")


# who made it and where ----------------------------------------------------------------------------

_CANARY = b"canary-4711"
_FOREIGN = {
    "_name_or_path": "/Users/canary-4711/models/x", "name_or_path": "/Users/canary-4711/y",
    "special_tokens_map_file": "/Users/canary-4711/z.json", "cache_dir": "/Users/canary-4711",
    "tokenizer_file": "/Users/canary-4711/tokenizer.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def private(
    stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path, Path]]:
    """(home, base, run): everything in the home of somebody who is not to be known."""
    home = tmp_path_factory.mktemp("users") / "home-of-canary-4711"
    model = home / "models" / "base"
    model.mkdir(parents=True)
    for path in stories.iterdir():
        shutil.copyfile(path, model / path.name)
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((model / name).read_bytes())
        content |= _FOREIGN | {"note": {"at": [str(home / "x")], **_FOREIGN}}
        (model / name).write_text(json.dumps(content))
    (model / "generation_config.json").write_text(json.dumps(_FOREIGN))
    data = home / "diary.txt"
    data.write_text("".join(trial.SCENE.format(f"diary of canary-4711 {n}") for n in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("USER", "canary-4711")
        yield home, model, train_inline(model, data, home)


def with_canary(folder: Path) -> list[str]:
    """Files below a folder that give the name away, in what they hold or are called."""
    return [
        str(path)
        for path in folder.rglob("*")
        if _CANARY in path.name.encode() or (path.is_file() and _CANARY in path.read_bytes())
    ]


@pytest.mark.parametrize(
    ("form", "more"),
    [
        *(
            pytest.param(form, (), marks=() if form in {"gguf", "peft"} else pytest.mark.slow)
            for form in FORMATS
        ),
        *(
            pytest.param(form, (word,), marks=pytest.mark.slow)
            for form, word in (("ollama", "--legacy-adapter"), ("mlx-fused", "8"))
        ),
    ],
)
def test_nobody_learns_who_made_it(
    form: str, more: tuple[str, ...], private: tuple[Path, Path, Path],
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home, _, run = private
    monkeypatch.setattr(running, "Child", InlineChild)
    log = run / "events.jsonl"
    start, out = log.stat().st_size, home / "out" / f"{form}{len(more)}{''.join(more)}"
    options = ("--quant", *more) if more == ("8",) else more
    capfd.readouterr()
    words = ("export", str(run), "--format", form, "--out", str(out), "--json", *options)
    assert cli.main(["--data-dir", str(home / "data-root"), *words]) == 0
    printed = capfd.readouterr()
    assert with_canary(out) == []
    assert _CANARY.decode() not in printed.out + printed.err
    assert f"~/out/{out.name}" in printed.out
    assert b'"export"' in log.read_bytes()[start:]
    assert _CANARY not in log.read_bytes()[start:]


@pytest.mark.parametrize("form", FORMATS)
def test_a_foreign_adapter_gives_nobody_away(
    form: str, private: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """mlx-lm writes the paths it was called with into adapter_config.json."""
    import mlx.core as mx

    home, model, run = private
    folder = tmp_path / "foreign"
    shutil.copytree(run / "adapter", folder)
    path = folder / "adapters.safetensors"
    tensors: Any = mx.load(str(path))
    mx.eval(tensors)
    path.unlink()
    mx.save_safetensors(str(path), tensors, {"made_by": str(home)})
    config = json.loads((folder / "adapter_config.json").read_bytes())
    config |= {name: str(home / name) for name in ("model", "data", "adapter_path", "config")}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    do(job(model, folder, tmp_path / "out", form))
    check_whole(tmp_path / "out")
    assert with_canary(tmp_path / "out") == []


def test_a_refusal_gives_nobody_away(
    private: tuple[Path, Path, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, model, run = private
    monkeypatch.setattr(running, "Child", InlineChild)
    capfd.readouterr()
    for out in (model, run, home / "diary.txt", home / "diary.txt" / "x", home / "none.gguf"):
        words = ["export", str(run), "--format", "hf", "--no-verify", "--out", str(out), "--json"]
        assert cli.main(words) == 2
        printed = capfd.readouterr()
        assert "error[" in printed.err
        assert _CANARY.decode() not in printed.out + printed.err
