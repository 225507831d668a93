"""Files of the hub: resumed, checked, stopped, and nothing left behind."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_server import Hub, Repository, environment, git_name, point_at, serve, sha256

from mlx_lora.control import Control
from mlx_lora.errors import UserError
from mlx_lora.models import download, stream
from mlx_lora.models.download import fetch_files
from mlx_lora.models.hub_layout import Place, Wanted, discard, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlx_lora.events import Phase

CONTENT = random.Random(7).randbytes(300_000)
SMALL = b'{"model_type": "llama"}'
NAMES = ("config.json", "model.safetensors")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second is waited out."""
    monkeypatch.setattr(stream, "DELAYS", (0.01,) * 6)
    for module in (stream, download):
        monkeypatch.setattr(module, "PATIENCE", 0.02)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hub]]:
    """Starts the server with one model, `anna/tiny`."""
    with ExitStack() as stack:

        def start(made: Repository | None = None) -> Hub:
            server = stack.enter_context(serve({"anna/tiny": made or repository()}, "models"))
            point_at(server, tmp_path / "cache", monkeypatch)
            return server

        yield start


def repository(content: bytes = CONTENT) -> Repository:
    return Repository({"config.json": SMALL, "model.safetensors": content})


def place_of(server: Hub) -> Place:
    return Place("anna/tiny", server.repositories["anna/tiny"].commit("main"), "model")


def wanted_of(server: Hub) -> list[Wanted]:
    files = server.repositories["anna/tiny"].files
    return [
        Wanted("config.json", len(SMALL), "", git_name(SMALL)),
        Wanted("model.safetensors", len(files[NAMES[1]]), sha256(files[NAMES[1]])),
    ]


def run(steps: Any) -> tuple[list[Phase], bool]:
    """Every phase, and whether it came to its end."""
    phases = []
    while True:
        try:
            phases.append(next(steps))
        except StopIteration as end:
            return phases, bool(end.value)


def fetch(server: Hub, root: Path, control: Control | None = None) -> list[Phase]:
    phases, whole = run(fetch_files(place_of(server), wanted_of(server), root, control))
    assert whole == (control is None or not control.stopping)
    return phases


def found(server: Hub) -> list[bytes]:
    return [(place_of(server).snapshot / name).read_bytes() for name in NAMES]


def right(server: Hub) -> list[bytes]:
    return [server.repositories["anna/tiny"].files[name] for name in NAMES]


def blobs(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models--anna--tiny" / "blobs"


def partial(server: Hub, tmp_path: Path, content: bytes) -> Path:
    """What a process that died left of the large file."""
    path = blobs(tmp_path) / f"{sha256(right(server)[1])}.incomplete"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def leftovers(tmp_path: Path) -> list[Path]:
    kept = {*blobs(tmp_path).glob("*.incomplete"), *(tmp_path / "cache").rglob("tmp*")}
    return sorted({*kept, *(tmp_path / "home").rglob(".incomplete-*")})


def test_it_lies_where_other_tools_look(hub: Callable[..., Hub], tmp_path: Path) -> None:
    import huggingface_hub

    server = hub()
    phases = fetch(server, tmp_path / "home")
    assert found(server) == right(server)
    total = len(CONTENT) + len(SMALL)
    assert (phases[-1].done, phases[-1].total) == (total, total)
    dones = [phase.done for phase in phases if phase.name == "downloading"]
    assert dones == sorted(dones)
    place = place_of(server)
    asked = len(server.asked)
    for name in NAMES:
        path = huggingface_hub.try_to_load_from_cache("anna/tiny", name, revision=place.commit)
        assert path == str(place.snapshot / name)
        brought = huggingface_hub.hf_hub_download("anna/tiny", name, revision=place.commit)
        assert brought == path
        assert Path(path).is_symlink()
        assert not Path(path).readlink().is_absolute()
    assert len(server.asked) == asked
    cache = huggingface_hub.scan_cache_dir(tmp_path / "cache")
    assert not cache.warnings
    assert [repo.repo_id for repo in cache.repos] == ["anna/tiny"]
    assert cache.size_on_disk == total


def test_the_token_goes_to_the_hub_alone(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub()
    monkeypatch.setenv("HF_TOKEN", "hf_canary_0123")
    fetch(server, tmp_path / "home")
    tokens = {path.split("/")[1]: token for _, path, token in server.asked}
    assert tokens == {"anna": "Bearer hf_canary_0123", "lfs": ""}
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 3
    assert not [path for path in kept if b"canary" in path.read_bytes()]


def test_a_connection_that_breaks_off_is_taken_up_where_it_was(
    hub: Callable[..., Hub], tmp_path: Path
) -> None:
    made = repository()
    made.cut = [100_000, 50_000]
    made.refusals = [500, 429]
    server = hub(made)
    fetch(server, tmp_path / "home")
    assert found(server) == right(server)
    assert server.ranges == [0, 100_000, 150_000]
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize(("status", "words"), [(503, "busy"), (429, "wait"), (500, "500")])
def test_a_hub_that_always_refuses_is_given_up(
    hub: Callable[..., Hub], tmp_path: Path, status: int, words: str
) -> None:
    made = repository()
    made.refusals = [status] * 99
    with pytest.raises(UserError) as caught:
        fetch(hub(made), tmp_path / "home")
    assert caught.value.code == "network"
    assert words in caught.value.why
    assert 99 - len(made.refusals) == 7


def test_what_a_dead_process_left_is_kept(hub: Callable[..., Hub], tmp_path: Path) -> None:
    server = hub()
    partial(server, tmp_path, CONTENT[:200_000])
    fetch(server, tmp_path / "home")
    assert found(server) == right(server)
    assert server.ranges == [200_000]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"x" + CONTENT[1:1000], b""])
def test_a_partial_file_of_any_kind(hub: Callable[..., Hub], tmp_path: Path, left: bytes) -> None:
    """Whole, too long, damaged, empty."""
    server = hub()
    partial(server, tmp_path, left)
    fetch(server, tmp_path / "home")
    assert found(server) == right(server)
    assert leftovers(tmp_path) == []
    assert (server.sent == 0) == (left == CONTENT)


def test_a_server_without_ranges_and_one_that_names_no_sizes(
    hub: Callable[..., Hub], tmp_path: Path
) -> None:
    made = repository()
    made.no_range = True
    server = hub(made)
    partial(server, tmp_path, CONTENT[:200_000])
    place, [_, large] = place_of(server), wanted_of(server)
    run(fetch_files(place, [Wanted("config.json", 0), Wanted(large.name, 0)], tmp_path / "home"))
    assert found(server) == right(server)
    # the whole of a file whose size nobody says is here already
    made.no_range = False
    place.pointer(large).unlink()
    place.blob(large).rename(place.partial(large))
    sent = server.sent
    run(fetch_files(place, [Wanted(large.name, 0, large.sha256)], tmp_path / "home"))
    assert found(server) == right(server)
    assert server.sent == sent


def test_wrong_bytes_are_asked_for_again_and_then_refused(
    hub: Callable[..., Hub], tmp_path: Path
) -> None:
    made = repository()
    made.wrong = 1
    server = hub(made)
    fetch(server, tmp_path / "home")
    assert found(server) == right(server)
    shutil.rmtree(tmp_path / "cache")
    made.wrong = 2
    with pytest.raises(UserError) as caught:
        fetch(server, tmp_path / "home")
    assert (caught.value.code, "checksum" in caught.value.why) == ("network", True)
    assert leftovers(tmp_path) == []
    assert not place_of(server).pointer(wanted_of(server)[1]).exists()


def test_every_flip_and_truncation_is_caught(hub: Callable[..., Hub], tmp_path: Path) -> None:
    """Of the small and of the large file, after both were known to be right."""
    server = hub(repository(CONTENT[:20_000]))
    chance = random.Random(3)
    fetch(server, tmp_path / "home")
    for n in range(32):
        name = NAMES[n % 2]
        path = (place_of(server).snapshot / name).resolve()
        content = bytearray(path.read_bytes())
        at = chance.randrange(len(content))
        if n % 4 < 2:
            content[at] ^= 1 << chance.randrange(8)
        else:
            del content[at:]
        path.write_bytes(content)
        fetch(server, tmp_path / "home")
        assert found(server) == right(server), f"{n}: {name} at {at}"


def test_a_large_file_is_read_once(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub()
    fetch(server, tmp_path / "home")
    read: list[Path] = []
    hashed = download.hashed
    monkeypatch.setattr(
        download, "hashed", lambda path, wanted: (read.append(path), hashed(path, wanted))[1]
    )
    for _ in range(2):
        fetch(server, tmp_path / "home")
    assert {path.name for path in read} == {"config.json"}
    # one another tool brought is read the first time
    fetch(server, tmp_path / "other")
    fetch(server, tmp_path / "other")
    assert [path.name for path in read].count("model.safetensors") == 1


def test_stopped_and_taken_up_by_the_next_process(hub: Callable[..., Hub], tmp_path: Path) -> None:
    made = repository()
    made.halt = 100_000
    server, control = hub(made), Control()
    steps = fetch_files(place_of(server), wanted_of(server), tmp_path / "home", control)
    for phase in steps:
        if phase.done > 90_000:
            break
    start = time.monotonic()
    control.stop()
    rest, whole = run(steps)
    assert (len(rest), whole) == (0, False)
    assert time.monotonic() - start < 5
    assert [(one.repository, one.arrived) for one in unfinished()] == [("anna/tiny", 100_000)]
    made.halt = 0
    fetch(server, tmp_path / "home")
    assert (server.ranges, found(server)) == ([0, 100_000], right(server))
    assert unfinished() == []


def test_paused_and_resumed(hub: Callable[..., Hub], tmp_path: Path) -> None:
    made = repository()
    made.halt = 100_000
    server, control = hub(made), Control()
    steps = fetch_files(place_of(server), wanted_of(server), tmp_path / "home", control)
    names = []
    for phase in steps:
        names.append(phase.name)
        if phase.done > 90_000 and names[-1] == "downloading" and made.halt:
            control.pause()
            made.halt = 0
        if phase.name == "paused":
            assert phase.done >= 100_000
            control.resume()
    assert names.count("paused") == 1
    assert (server.ranges, found(server)) == ([0, 100_000], right(server))


def test_speed_and_time_left(hub: Callable[..., Hub], tmp_path: Path) -> None:
    made = repository()
    made.rate = 600_000
    phases = fetch(hub(made), tmp_path / "home")
    told = [phase for phase in phases if phase.rate and 50_000 < phase.done < 250_000]
    assert told
    for phase in told:
        assert phase.eta == pytest.approx((phase.total - phase.done) / phase.rate)


def test_what_others_left_and_what_others_are_writing(
    hub: Callable[..., Hub], tmp_path: Path
) -> None:
    from filelock import FileLock

    server = hub()
    kept, gone = "a" * 64, "b" * 64
    locks = tmp_path / "cache" / ".locks" / "models--anna--tiny"
    locks.mkdir(parents=True)
    blobs(tmp_path).mkdir(parents=True)
    for name in (f"{kept}.0123abcd", f"{gone}.0123abcd", gone, "c" * 40):
        (blobs(tmp_path) / f"{name}.incomplete").write_bytes(b"half")
    with FileLock(locks / f"{kept}.lock"):
        fetch(server, tmp_path / "home")
    assert [path.name for path in leftovers(tmp_path)] == [f"{kept}.0123abcd.incomplete"]
    assert discard("anna/tiny", "model") == 4
    assert leftovers(tmp_path) == []


def test_two_at_once_bring_it_once(hub: Callable[..., Hub], tmp_path: Path) -> None:
    made = repository()
    made.rate = 300_000
    server = hub(made)
    second = start(server, tmp_path)
    while not server.sent:
        time.sleep(0.01)
    fetch(server, tmp_path / "home")
    assert second.wait(60) == 0
    assert server.sent == len(CONTENT)
    assert found(server) == right(server)


def test_a_disk_without_links(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    server = hub()
    fetch(server, tmp_path / "home")
    assert found(server) == right(server)
    assert list(blobs(tmp_path).iterdir()) == []
    asked = len(server.asked)
    fetch(server, tmp_path / "home")
    assert len(server.asked) == asked


def test_a_full_disk_is_said_before_a_byte_is_asked_for(
    hub: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    with pytest.raises(UserError) as caught:
        fetch(server, tmp_path / "home")
    assert (caught.value.code, server.asked) == ("disk_full", [])
    # what is here already needs no room
    partial(server, tmp_path, CONTENT[:150_000])
    fetch(server, tmp_path / "home")
    assert found(server) == right(server)


@pytest.mark.parametrize(
    "one",
    [
        Wanted("../../x", 1, "", "a" * 40), Wanted("/etc/x", 1, "", "a" * 40),
        Wanted("x", 1, "", "../x"), Wanted("a\\..\\x", 1, "", "a" * 40), Wanted("", 1, "a" * 64),
    ],
)  # fmt: skip
def test_no_answer_leads_out_of_the_cache(
    hub: Callable[..., Hub], tmp_path: Path, one: Wanted
) -> None:
    server = hub()
    with pytest.raises(UserError, match="outside"):
        run(fetch_files(place_of(server), [one], tmp_path / "home"))
    with pytest.raises(UserError, match="outside"):
        run(fetch_files(Place("anna/tiny", "../..", "model"), [], tmp_path / "home"))


def test_a_proxy_is_asked_where_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve({"anna/tiny": repository()}, "models") as server:
        # a name nobody has: only the proxy can answer for it
        env = environment("http://hub.invalid", tmp_path, HTTP_PROXY=server.url, NO_PROXY="")
        command = [sys.executable, "-c", FETCH]
        subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=60)
        assert server.sent == len(CONTENT)
        assert found(server) == right(server)


FETCH = """
from pathlib import Path
from mlx_lora.models.fetch import fetch_model, look_up
root = Path("home")
for phase in fetch_model(look_up("anna/tiny", root), root):
    print(phase.done, flush=True)
"""


def start(server: Hub, tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH], cwd=tmp_path, env=environment(server.url, tmp_path),
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def kill_and_go_on(server: Hub, tmp_path: Path, seconds: float) -> tuple[int, int]:
    """Kill a download after a time and finish it with another: (bytes sent before, in all)."""
    server.sent = 0
    first = start(server, tmp_path)
    time.sleep(seconds)
    first.kill()
    first.wait()
    time.sleep(0.1)
    before = server.sent
    assert start(server, tmp_path).wait(120) == 0
    assert found(server) == right(server)
    assert leftovers(tmp_path) == []
    return before, server.sent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_thirty_instants_of_fifty_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every one finishes right, no byte is left lying, and what had arrived is not sent again."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    chance = random.Random(11)
    made = repository(chance.randbytes(50_000_000))
    made.rate = 40_000_000
    kept = []
    with serve({"anna/tiny": made}, "models") as server:
        begun = time.monotonic()
        with start(server, tmp_path) as whole:
            while not server.sent:
                time.sleep(0.01)
            until = time.monotonic() - begun
            assert whole.wait(120) == 0
        duration = time.monotonic() - begun
        for n in range(30):
            shutil.rmtree(tmp_path / "cache")
            shutil.rmtree(tmp_path / "home")
            before, sent = kill_and_go_on(
                server, tmp_path, chance.uniform(until if n % 3 else 0, duration)
            )
            again = sent - 50_000_000
            kept.append((before, 1 - again / before if before else 1.0))
    shares = sorted(share for _, share in kept)
    with capsys.disabled():
        begun = sum(before > 0 for before, _ in kept)
        sys.stdout.write(f"\n{begun} of 30 with bytes; kept at least {shares[0]:.4f}\n")
    assert sum(before > 0 for before, _ in kept) >= 10
    assert shares[0] >= 0.9
