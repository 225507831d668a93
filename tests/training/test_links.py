"""Messages between processes in every order in which two connections may bring them."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from mlx_lora.training.links import Links, PeerLeftError, PeerLostError, Place, _Link

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESSES = tuple(("127.0.0.1", 5000 + rank) for rank in range(3))


class Ends:
    """Links of one rank, and the other ends of its two connections in hand."""

    def __init__(self, rank: int, size: int) -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        self.sockets = [end for pair in pairs for end in pair]
        self.left, self.right = (_Link(theirs) for _, theirs in pairs)
        self.links = Links(Place(rank, ADDRESSES[:size]), *(_Link(ours) for ours, _ in pairs))
        self.pool = ThreadPoolExecutor(1)

    def exchange(self, value: Any) -> Any:
        """Begun in a thread; its result is what that gives."""
        return self.pool.submit(self.links.exchange, value)


def close(link: _Link) -> None:
    """Both ways, as the end of a process does."""
    link.close()
    link._connection.close()


@pytest.fixture
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(*request.param)
    yield made
    made.links.leave()
    for link in (made.left, made.right):
        link.close()
    made.pool.shutdown()
    for end in made.sockets:
        end.close()


two, three = (pytest.mark.parametrize("ends", [place], indirect=True) for place in ((1, 2), (2, 3)))


@two
def test_a_goodbye_that_overtakes_a_value(ends: Ends) -> None:
    """Two connections to one neighbour: what it says last may be read first."""
    found = ends.exchange("ours")
    ends.right.send("bye", 0, 1, "")
    time.sleep(0.2)
    assert not found.done()
    ends.left.send("value", 0, 1, "theirs")
    assert found.result(5) == ["theirs", "ours"]
    with pytest.raises(PeerLeftError) as gone:
        ends.links.exchange("more")
    assert gone.value.rank == 0


@two
def test_a_value_that_cannot_come_any_more(ends: Ends) -> None:
    """It was sent, so it says; but the way it would have come has ended."""
    found = ends.exchange("ours")
    ends.left.send("bye", 0, 1, "out of paper")
    time.sleep(0.2)
    assert not found.done()
    ends.left.close()
    with pytest.raises(PeerLeftError) as gone:
        found.result(5)
    assert (gone.value.rank, gone.value.words) == (0, "out of paper")


@three
def test_a_goodbye_that_went_the_shorter_way_round(ends: Ends) -> None:
    """Rank 0 is right of rank 2, but its values come through rank 1."""
    found = ends.exchange(2)
    ends.right.send("bye", 0, 1, "")
    close(ends.right)
    ends.left.send("value", 1, 1, 1)
    time.sleep(0.2)
    assert not found.done()
    ends.left.send("value", 0, 1, 0)
    assert found.result(5) == [0, 1, 2]


@three
def test_one_that_ends_without_a_word_is_lost(ends: Ends) -> None:
    found = ends.exchange(2)
    close(ends.right)
    with pytest.raises(PeerLostError, match="process 1 of 3"):
        found.result(5)


@pytest.mark.parametrize("ends", [(1, 3)], indirect=True)
def test_a_value_is_passed_on_before_it_counts(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has all values may leave, and what it has not passed on then is nobody's."""
    passing, go = threading.Event(), threading.Event()
    send = _Link.send

    def held(link: _Link, *message: Any) -> None:
        if message[:2] == ("value", 0) and link is ends.links._links["right"]:
            passing.set()
            assert go.wait(5)
        send(link, *message)

    monkeypatch.setattr(_Link, "send", held)
    found = ends.exchange(1)
    ends.left.send("value", 2, 1, 2)
    ends.left.send("value", 0, 1, 0)
    assert passing.wait(5)
    # longer than a waiting exchange sleeps before it looks again
    time.sleep(1.3)
    assert not found.done()
    go.set()
    assert found.result(5) == [0, 1, 2]
    heard = [ends.right.read() for _ in range(2)]
    while ["value", 0, 1, 0] not in heard:
        heard.append(ends.right.read())
        assert heard[-1] is not None
