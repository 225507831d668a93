"""Connections between the processes of one run, beside MLX's ring: who is there, who is lost.

MLX's ring carries tensors and knows no time limit: a call waits for its peers in C++, on a core of
its own, for as long as it takes. So the processes first meet here, agree on small values here, and
enter the ring only once all of them stand before it. Two connections a process, to its neighbours,
on the very addresses of MLX's hostfile; they wait without computing, notice an ended process at
once (the connection closes) and a frozen or unplugged one by its silence.

No mlx here. Messages are lines of JSON: [kind, rank it comes from, number, value].
"""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from mlx_lora.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# a sign of life every so many seconds; a neighbour silent for so long is lost
_BEAT, _SILENCE = 1.0, 60.0
_LONGEST_LINE = 1 << 26


class Place(msgspec.Struct, frozen=True):
    """Which process of how many this is.

    Attributes:
        addresses: (host, port) of every rank, as MLX's launcher gave them out.
    """

    rank: int
    addresses: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """How many processes."""
        return len(self.addresses)

    @property
    def left(self) -> int:
        """The rank that connects to this one."""
        return (self.rank - 1) % self.size

    @property
    def right(self) -> int:
        """The rank this one connects to."""
        return (self.rank + 1) % self.size


class PeerLostError(UserError):
    """A peer ended without a word, was cut off, or stands still."""


class PeerLeftError(Exception):
    """A peer ended in good order; `words` are its own, empty where it had nothing to say."""

    def __init__(self, rank: int, words: str) -> None:
        super().__init__(rank, words)
        self.rank, self.words = rank, words


def launched(environment: dict[str, str] | None = None) -> Place | None:
    """The place MLX's launcher gave this process; None where it is on its own.

    Raises:
        UserError: `bad_option` for another backend than the ring, or a hostfile that is none.
    """
    given = dict(os.environ) if environment is None else environment
    if "MLX_RANK" not in given:
        return None
    fix = "start with: mlx.launch --backend ring"
    if not given.get("MLX_HOSTFILE"):
        raise UserError("bad_option", "mlx.launch", "only the ring backend can train here", fix)
    try:
        with open(given["MLX_HOSTFILE"], encoding="utf-8") as file:  # noqa: PTH123
            text = file.read().strip()
        if not text:  # what the launcher writes for one process
            return None
        nodes = json.loads(text)
        addresses = tuple(_address(node[0]) for node in nodes)
        place = Place(int(given["MLX_RANK"]), addresses)
    except (OSError, ValueError, TypeError, LookupError) as error:
        why = f"the list of hosts cannot be read ({error})"
        raise UserError("bad_option", "MLX_HOSTFILE", why, fix) from error
    if not 0 <= place.rank < place.size:
        raise UserError("bad_option", "MLX_RANK", "there is no such place in the hostfile", fix)
    return place if place.size > 1 else None


def _address(text: Any) -> tuple[str, int]:
    host, _, port = str(text).rpartition(":")
    return host, int(port)


class _Link:
    """One connection: lines out under a lock, lines in one after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._rest = connection, b""
        self._sending = threading.Lock()
        self.heard = time.monotonic()

    def send(self, *message: Any) -> None:
        """Say something; whoever is gone does not hear it."""
        with self._sending, suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> list[Any] | None:
        """The next message; None where the other side closed, or is none of ours."""
        with suppress(OSError, ValueError):
            while b"\n" not in self._rest and len(self._rest) < _LONGEST_LINE:
                chunk = self._connection.recv(1 << 16)
                if not chunk:
                    return None
                self._rest, self.heard = self._rest + chunk, time.monotonic()
            line, _, self._rest = self._rest.partition(b"\n")
            message = json.loads(line)
            if isinstance(message, list) and len(message) == 4:  # noqa: PLR2004
                return message
        return None

    def close(self) -> None:
        """End it; what was sent still arrives."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)


class Links:
    """Small values to and from every other process, and who of them is still there."""

    def __init__(self, place: Place, left: _Link, right: _Link) -> None:
        self.place = place
        self._links = {"left": left, "right": right}
        self._changed = threading.Condition()
        self._values: dict[int, dict[int, Any]] = defaultdict(dict)
        self._number = 0
        # why a rank is gone: words of its own (it left), or ours (it is lost)
        self._left: dict[int, str] = {}
        self._lost: dict[int, str] = {}
        # the last exchange a rank took part in before it left
        self._last: dict[int, int] = {}
        # values come from the left; once that neighbour closed, no more of them
        self._open = True
        self._closing = False
        self._until: float | None = None
        # ends whatever waits in MLX's ring; set once there is one
        self.cut: Callable[[], None] = lambda: None
        for side in self._links:
            threading.Thread(target=self._listen, args=(side,), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def exchange(self, value: Any) -> list[Any]:
        """Hand `value` (anything JSON can say) to all; returns everyone's, by rank.

        Every process must make the same calls in the same order. Waits for the slowest.

        Raises:
            UserError: `peer_lost`.
            PeerLeftError: one that has not answered ended in good order.
        """
        rank, size = self.place.rank, self.place.size
        with self._changed:
            self._number += 1
            number = self._number
            self._values[number][rank] = value
        self._links["right"].send("value", rank, number, value)
        with self._changed:
            while len(self._values[number]) < size:
                self._refuse(number)
                self._changed.wait(_BEAT)
            found = self._values.pop(number)
        return [found[of] for of in range(size)]

    @contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
        """A call into the ring, which all have reached: cut after so many seconds.

        Raises:
            UserError: `peer_lost`, in place of what MLX says.
        """
        self._until = time.monotonic() + seconds
        try:
            yield
        except RuntimeError as error:
            # MLX sees a closed connection a moment before or after the links do
            with self._changed:
                self._changed.wait_for(lambda: self._lost or self._left, 2 * _BEAT)
            words = f"the connection to it broke ({' '.join(str(error).split())[:80]})"
            raise self.lost(self._lost or self._left or {self.place.right: words}) from error
        finally:
            self._until = None

    def lost(self, ranks: dict[int, str]) -> PeerLostError:
        """What a person is told of a peer that is gone."""
        rank, why = next(iter(ranks.items()))
        where = f"process {rank + 1} of {self.place.size}"
        fix = "go on with the machines that are left, by mlx.launch or alone: understudy resume"
        return PeerLostError("peer_lost", where, why or "it ended", fix)

    def leave(self, words: str = "") -> None:
        """Say goodbye, so that the others know this end for one in good order."""
        if self._closing:
            return
        self._closing = True
        for link in self._links.values():
            link.send("bye", self.place.rank, self._number, words)
            link.close()

    def _refuse(self, number: int) -> None:
        """Raise if not everyone can answer any more.

        A goodbye takes the shorter way round the ring, so it may overtake a value sent before it.
        """
        if self._lost:
            raise self.lost(self._lost)
        for rank, words in self._left.items():
            on_its_way = self._open and number <= self._last[rank]
            if rank not in self._values[number] and not on_its_way:
                raise PeerLeftError(rank, words)

    def _listen(self, side: str) -> None:
        """Take in what a neighbour says, and pass it on the way it goes."""
        link = self._links[side]
        onwards = self._links["right" if side == "left" else "left"]
        neighbour = self.place.left if side == "left" else self.place.right
        beyond = self.place.right if side == "left" else self.place.left
        while (message := link.read()) is not None:
            kind, of, number, value = message
            if kind == "beat" or of == self.place.rank:
                continue
            # passed on before it counts here: whoever has all values may leave
            if of != beyond and self._is_news(kind, of):
                onwards.send(kind, of, number, value)
            with self._changed:
                self._take_in(kind, of, number, value)
                self._changed.notify_all()
        with self._changed:
            self._open = self._open and side != "left"
            self._changed.notify_all()
        if neighbour not in self._left:
            self._lose(neighbour, "it is gone: its process ended or its machine was cut off")

    def _is_news(self, kind: str, of: int) -> bool:
        """Whether a message comes the first time; a value goes round once and is not asked for."""
        with self._changed:
            return kind == "value" or of not in (self._left if kind == "bye" else self._lost)

    def _take_in(self, kind: str, of: int, number: int, value: Any) -> None:
        """Note a message."""
        if kind == "value":
            self._values[number][of] = value
        elif kind == "bye":
            self._left.setdefault(of, value)
            self._last.setdefault(of, number)
        else:
            self._lost.setdefault(of, value)
            self.cut()

    def _lose(self, rank: int, why: str) -> None:
        with self._changed:
            if self._closing or self._lost:
                return
            self._lost[rank] = why
            self._changed.notify_all()
        for link in self._links.values():
            link.send("lost", rank, 0, why)
        self.cut()

    def _beat(self) -> None:
        """Give signs of life, and miss those of the neighbours."""
        while not (self._closing or self._lost):
            time.sleep(_BEAT)
            now = time.monotonic()
            for side, rank in (("left", self.place.left), ("right", self.place.right)):
                self._links[side].send("beat", self.place.rank, 0, None)
                if now - self._links[side].heard > _SILENCE and rank not in self._left:
                    self._lose(rank, f"nothing was heard of it for {_SILENCE:.0f} seconds")
            if self._until is not None and now > self._until:
                self._lose(self.place.right, "all are there, but MLX's ring stands still")


class Meeting:
    """Finding the neighbours: this process listens for the one, and knocks at the other.

    A process that comes early waits; nobody enters MLX's ring, which cannot be left again, before
    all are here.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._found: dict[str, _Link] = {}
        self._over = threading.Event()
        self._fault: UserError | None = None
        for work in (self._listen, self._knock):
            threading.Thread(target=work, daemon=True).start()

    def links(self) -> Links | None:
        """The connections, once there are both.

        Raises:
            UserError: `bad_option` where the port is taken.
        """
        if self._fault is not None:
            raise self._fault
        if len(self._found) < 2:  # noqa: PLR2004
            return None
        return Links(self._place, self._found["left"], self._found["right"])

    def give_up(self) -> None:
        """End the search."""
        self._over.set()

    def _listen(self) -> None:
        host, port = self._place.addresses[self._place.rank]
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
                listener.listen(4)
            except OSError as error:
                why = f"{error.strerror or error}".lower()
                fix = "give another one: mlx.launch --starting-port"
                self._fault = UserError("bad_option", f"port {port}", why, fix)
                return
            listener.settimeout(_BEAT)
            found = None
            while found is None and not self._over.is_set():
                with suppress(OSError):
                    found = self._greet(listener.accept()[0], self._place.left)
        # known only once the port is free again: MLX is about to take it
        if found is not None:
            self._found["left"] = found

    def _knock(self) -> None:
        address = self._place.addresses[self._place.right]
        while not self._over.is_set():
            with suppress(OSError):
                connection = socket.create_connection(address, timeout=5 * _BEAT)
                found = self._greet(connection, self._place.right)
                if found is not None:
                    self._found["right"] = found
                    return
            self._over.wait(_BEAT / 5)

    def _greet(self, connection: socket.socket, wanted: int) -> _Link | None:
        """A connection whose other end is the neighbour that belongs there."""
        connection.settimeout(5 * _BEAT)
        link = _Link(connection)
        link.send("understudy", self._place.rank, self._place.size, None)
        if link.read() == ["understudy", wanted, self._place.size, None]:
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return link
        connection.close()
        return None


def sockets() -> set[int]:
    """File numbers of all sockets of this process."""
    found = set()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.add(int(name))
    return found


def shut(numbers: set[int]) -> None:
    """End connections that belong to somebody else's code: what waits on them fails at once."""
    for number in numbers:
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            copy.shutdown(socket.SHUT_RDWR)
