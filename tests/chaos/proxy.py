"""
A TCP proxy between clients and brokers that knows where Kafka's messages begin: it cuts, loses answers and holds them.

    python -m tests.chaos.proxy '[[PORT, "HOST:PORT"], …]'

It runs in a process of its own, with one thread, and is told what to do by lines of JSON. Of the protocol it reads the
framing and the headers: length, api key, correlation id, and the client id of a connection's first request. Measured on
two shared cores, through one connection: 800 to 950 MB/s with messages of 10 kB and more, 410 MB/s with 1 kB.
Source: Kafka's documentation, "Kafka protocol guide".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from streams.local.kafka import LocalKafka
from streams.local.process import free_ports

ROOT: Final = Path(__file__).parents[2]
PRODUCE: Final = 0
ADD_PARTITIONS_TO_TXN: Final = 24
ADD_OFFSETS_TO_TXN: Final = 25
END_TXN: Final = 26
TXN_OFFSET_COMMIT: Final = 28

_BUFFER_BYTES: Final = 256 * 1024
_REQUEST: Final = struct.Struct(">ihhih")
"""Length, api key, api version, correlation id, length of the client id (-1: none)."""
_RESPONSE: Final = struct.Struct(">ii")
"""Length, correlation id."""
_RESET: Final = struct.pack("ii", 1, 0)
"""Linger for no time: what closes then is reset."""
_STOP_S_MAX: Final = 10.0


@dataclass
class Cut:
    """No byte passes between *client* (None: anybody) and *broker* (None: any)."""

    broker: int | None
    client: str | None
    silent: bool

    def hits(self, connection: Connection) -> bool:
        """Return whether *connection* is cut."""
        return self.broker in {None, connection.broker} and self.client in {None, connection.client}


@dataclass
class Fault:
    """The next *count* answers to *api_key* are lost, or come *hold_s* late."""

    api_key: int
    count: int
    hold_s: float | None
    broker: int | None
    client: str | None

    def hits(self, connection: Connection, api_key: int) -> bool:
        """Return whether an answer to *api_key* on *connection* is meant."""
        return (
            self.count > 0
            and self.api_key == api_key
            and self.broker in {None, connection.broker}
            and self.client in {None, connection.client}
        )


class LostError(Exception):
    """An answer that must not arrive."""


Inspect = Callable[[memoryview], Coroutine[Any, Any, None] | None]
"""Looks at a frame's header; the coroutine, if any, ends before the frame may go on."""


@dataclass(eq=False)
class Connection:
    """One client's connection to one broker, and its two directions."""

    relay: Relay
    broker: int
    near: socket.socket
    far: socket.socket
    client: str | None = None
    asked: dict[int, int] = field(default_factory=dict)
    """The api key of each request that isn't answered, by its correlation id."""
    known: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Relay until one side ends, or it is cut."""
        tasks = [
            asyncio.ensure_future(self._pump(self.near, self.far, _REQUEST.size, self._request)),
            asyncio.ensure_future(self._pump(self.far, self.near, _RESPONSE.size, self._response)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() for task in done):
                self.reset_on_close()
        except asyncio.CancelledError:
            self.reset_on_close()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.near.close()
            self.far.close()

    def reset_on_close(self) -> None:
        """Let both sides see a reset instead of an end in good order."""
        for side in (self.near, self.far):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _pump(self, source: socket.socket, sink: socket.socket, header: int, inspect: Inspect) -> None:
        """Pass on what *source* sends; *inspect* is shown each frame's header before any byte of the frame goes on."""
        loop = asyncio.get_running_loop()
        buffer = bytearray(_BUFFER_BYTES)
        view = memoryview(buffer)
        filled = rest = 0  # Bytes kept from the last read; bytes of the current frame to come.
        while count := await loop.sock_recv_into(source, view[filled:]):
            end = filled + count
            at = start = 0
            while True:
                step = min(rest, end - at)
                at, rest = at + step, rest - step
                if end - at < header:
                    break
                if wait := inspect(view[at:end]):
                    await self._pass(sink, view[start:at])
                    start = at
                    await wait
                rest = 4 + int.from_bytes(view[at : at + 4], "big")
            await self._pass(sink, view[start:at])
            filled = end - at
            buffer[:filled] = buffer[at:end]
        await self.open.wait()  # Nor does an end pass through a silent cut.

    async def _pass(self, sink: socket.socket, data: memoryview) -> None:
        if not self.open.is_set():
            await self.open.wait()
        if data:
            self.relay.counts["bytes"] += len(data)
            await asyncio.get_running_loop().sock_sendall(sink, data)

    def _request(self, frame: memoryview) -> Coroutine[Any, Any, None] | None:
        _, api_key, _, correlation, client_bytes = _REQUEST.unpack_from(frame)
        self.asked[correlation] = api_key
        if self.known:
            return None
        # The first request is small and comes as a whole: it asks for the api versions.
        self.known = True
        if client_bytes >= 0:
            self.client = bytes(frame[_REQUEST.size : _REQUEST.size + client_bytes]).decode()
        self.relay.judge(self)
        return None if self.open.is_set() else self.relay.refuse(self)

    def _response(self, frame: memoryview) -> Coroutine[Any, Any, None] | None:
        _, correlation = _RESPONSE.unpack_from(frame)
        api_key = self.asked.pop(correlation, -1)
        for fault in self.relay.faults:
            if fault.hits(self, api_key):
                fault.count -= 1
                return self._strike(fault)
        return None

    async def _strike(self, fault: Fault) -> None:
        if fault.hold_s is None:
            self.relay.counts[f"lost {fault.api_key}"] += 1
            raise LostError
        self.relay.counts[f"held {fault.api_key}"] += 1
        await asyncio.sleep(fault.hold_s)


class Relay:
    """All ports and connections, and what is wrong with them at the moment."""

    def __init__(self, ways: Sequence[tuple[int, str]]) -> None:
        self._ways = [(port, target.rpartition(":")[::2]) for port, target in ways]
        self._listening: dict[int, tuple[socket.socket, asyncio.Task[None]]] = {}
        self.connections: set[Connection] = set()
        self.cuts: list[Cut] = []
        self.faults: list[Fault] = []
        self.counts: Counter[str] = Counter()

    def listen(self) -> None:
        """Open the ports that aren't cut for everybody, and close those that are."""
        for broker, (port, _) in enumerate(self._ways):
            refused = any(not cut.silent and cut.client is None and cut.broker in {None, broker} for cut in self.cuts)
            if refused and broker in self._listening:
                listener, task = self._listening.pop(broker)
                task.cancel()
                listener.close()
            elif not refused and broker not in self._listening:
                listener = socket.create_server(("127.0.0.1", port), backlog=128)
                listener.setblocking(False)
                self._listening[broker] = listener, asyncio.ensure_future(self._accept(broker, listener))

    async def _accept(self, broker: int, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._ways[broker][1]
        while True:
            near, _ = await loop.sock_accept(listener)
            far = socket.socket()
            for side in (near, far):
                side.setblocking(False)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await loop.sock_connect(far, (host, int(port)))
            except OSError:  # The broker is down, and so it looks.
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                near.close()
                far.close()
                continue
            connection = Connection(self, broker, near, far)
            self.judge(connection)
            self.connections.add(connection)
            connection.task = asyncio.ensure_future(connection.run())
            connection.task.add_done_callback(partial(self._forget, connection))
            self.counts["connections"] += 1

    def _forget(self, connection: Connection, _: asyncio.Task[None]) -> None:
        self.connections.discard(connection)

    def judge(self, connection: Connection) -> None:
        """Let *connection* pass, or not."""
        if any(cut.hits(connection) for cut in self.cuts):
            connection.open.clear()
        else:
            connection.open.set()

    async def refuse(self, connection: Connection) -> None:
        """Return if *connection*, which is cut, is to see nothing of it; reset it otherwise."""
        if any(not cut.silent and cut.hits(connection) for cut in self.cuts):
            raise LostError

    def cut(self, **cut: Any) -> None:
        """Begin a cut."""
        self.cuts.append(Cut(**cut))
        self._cuts_changed()

    def heal(self, broker: int | None, client: str | None) -> None:
        """End the cuts of *broker* and *client*; all cuts if both are None."""
        self.cuts = [cut for cut in self.cuts if (broker, client) not in {(None, None), (cut.broker, cut.client)}]
        self._cuts_changed()

    def _cuts_changed(self) -> None:
        self.listen()
        for connection in self.connections:
            self.judge(connection)
            if connection.task and any(not cut.silent and cut.hits(connection) for cut in self.cuts):
                connection.task.cancel()

    def fault(self, **fault: Any) -> None:
        """Arm a fault."""
        self.faults = [old for old in self.faults if old.count > 0]
        self.faults.append(Fault(**fault))

    def forget(self) -> None:
        """Disarm all faults."""
        self.faults = []

    def tell(self) -> dict[str, int]:
        """Return what happened so far."""
        return dict(self.counts)


async def serve(ways: Sequence[tuple[int, str]]) -> None:
    """Relay, and do what standard input says, until it ends."""
    relay = Relay(ways)
    relay.listen()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("null", flush=True)  # noqa: T201 -- the answer to being started.
    while line := await reader.readline():
        command = json.loads(line)
        print(json.dumps(getattr(relay, command.pop("do"))(**command)), flush=True)  # noqa: T201 -- the answer.


class Proxy:
    """
    The handle of such a process, for any thread; a context that starts and stops it.

    Attributes:
        bootstrap_servers: Its ports, one a broker, as clients are told them.
    """

    def __init__(self, ports: Sequence[int], targets: Sequence[str], log: Path) -> None:
        self._ways = list(zip(ports, targets, strict=True))
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port in ports)
        self._log = log
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.chaos.proxy", json.dumps(self._ways)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def cut(self, broker: int | None = None, client: str | None = None, silent: bool = False) -> None:
        """
        Let no byte pass between *client* (its client.id; None: anybody) and *broker* (None: any).

        Connections are reset and refused; or, if *silent*, they are made and stay, but what is sent on them doesn't
        arrive before the cut is healed, as when packets are dropped and TCP tries again.
        """
        self._tell("cut", broker=broker, client=client, silent=silent)

    def heal(self, broker: int | None = None, client: str | None = None) -> None:
        """End the cuts that were made with these very arguments; without any, all."""
        self._tell("heal", broker=broker, client=client)

    def lose(self, api_key: int, count: int = 1, broker: int | None = None, client: str | None = None) -> None:
        """Lose the next *count* answers: the request took effect, and the client sees its connection reset."""
        self._tell("fault", api_key=api_key, count=count, hold_s=None, broker=broker, client=client)

    def hold(
        self, api_key: int, hold_s: float, count: int = 1, broker: int | None = None, client: str | None = None
    ) -> None:
        """Let the next *count* answers, and what follows on their connections, arrive *hold_s* seconds late."""
        self._tell("fault", api_key=api_key, count=count, hold_s=hold_s, broker=broker, client=client)

    def forget(self) -> None:
        """Disarm what `lose` and `hold` asked for and hasn't happened yet."""
        self._tell("forget")

    def counts(self) -> Counter[str]:
        """Return what happened so far: "lost 26", "held 26" (by api key), "connections", "bytes"."""
        return Counter(self._tell("tell"))

    def _tell(self, what: str, **arguments: Any) -> Any:
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(json.dumps({"do": what} | arguments) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the proxy ended: {self._log.read_text()}"
        return json.loads(line)


@contextlib.contextmanager
def proxied(directory: Path, brokers: int = 1, **options: Any) -> Iterator[tuple[LocalKafka, Proxy]]:
    """Run a Kafka with a proxy before it; *options* are LocalKafka's. What uses the proxy's address stays behind it."""
    kafka = LocalKafka(directory, brokers=brokers, outside_ports=free_ports(brokers), **options)
    directory.mkdir(parents=True, exist_ok=True)
    with Proxy(kafka.outside_ports, kafka.outside_targets, directory / "proxy.log") as proxy, kafka:
        yield kafka, proxy


if __name__ == "__main__":
    asyncio.run(serve([(port, target) for port, target in json.loads(sys.argv[1])]))
