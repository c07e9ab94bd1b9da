"""`python -m sandboxes.daemon.gateway FD`: the way out of sandboxes, a process of its own without any right.

    program --127.0.0.1 of its slot--> listener made by the slot's init --> gateway --checked address--> outside

It reads what hostile programs write, so it is neither root nor the daemon, and whatever happens to it, no run's
clock waits for it. Each slot comes as a listener and a lease; when the lease is over everything of it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor

# Needed while serving, when this process may no longer read where it lies.
import encodings.idna  # isort: skip # noqa: F401

from sandboxes.daemon import asked, egress
from sandboxes.daemon.asked import Ask, BadAsk

COUNTS = struct.Struct("!QQ")
MESSAGE_BYTES = 64 << 10
# What is held of one connection in one direction; the next bytes are read when these are gone.
CHUNK_BYTES = 64 << 10
CONNECTIONS = 64
LOOKUPS = 4
RESOLVERS = 32
ADDRESSES = 4
ASK_SECONDS = 30
RESOLVE_SECONDS = 15
CONNECT_SECONDS = 10
IDLE_SECONDS = 300
SWEEP_SECONDS = 5
LAST_WORDS_SECONDS = 0.05
# How long the kernel goes on sending what it took from a run that is over.
UNDELIVERED_MS = 3000
PR_SET_NO_NEW_PRIVS = 38
SOCKS_REPLIES = {403: 2, 502: 4, 504: 6}
SOCKS_UNKNOWN_COMMAND, SOCKS_UNKNOWN_KIND = 7, 8


class Refused(Exception):
    """Nothing is connected; the sentence goes to the program with an HTTP status."""

    def __init__(self, status: int, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


def main(descriptor: int, user: int) -> None:
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(socket.socket(fileno=descriptor)))
    # A thread may still wait for a name server; nobody waits for it.
    os._exit(0)


async def _serve(control: socket.socket) -> None:
    """Take slots until the daemon closes its end."""
    loop = asyncio.get_running_loop()
    resolvers = ThreadPoolExecutor(RESOLVERS, "resolver")
    control.setblocking(False)
    over: asyncio.Future[None] = loop.create_future()
    outlets: set[asyncio.Task[None]] = set()

    def take() -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
        except BlockingIOError:
            return
        if not message:
            loop.remove_reader(control)
            over.set_result(None)
            return
        listener, lease = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        policy = egress.parse(json.loads(message)["policy"]) or egress.only([])
        task = loop.create_task(Outlet(listener, lease, policy, resolvers).serve())
        outlets.add(task)
        task.add_done_callback(outlets.discard)

    loop.add_reader(control, take)
    await over


class Outlet:
    """The way out of one slot, until its lease is over."""

    def __init__(
        self,
        listener: socket.socket,
        lease: socket.socket,
        policy: egress.Policy,
        resolvers: Executor,
    ) -> None:
        self.sent = self.received = 0
        self.policy = policy
        self._resolvers = resolvers
        self._listener, self._lease = listener, lease
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._open: dict[asyncio.Task[None], Connection] = {}

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._lease.setblocking(False)
        own = [loop.create_task(self._accept()), loop.create_task(self._sweep())]
        with self._lease, self._listener:
            with contextlib.suppress(OSError):
                await loop.sock_recv(self._lease, 16)
            await self._hear_last_words()
            tasks = [*own, *self._open]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(OSError):
                self._lease.send(COUNTS.pack(self.sent, self.received))

    async def _hear_last_words(self) -> None:
        """The program is dead, but what it wrote last may still be on its way through here."""
        if self._open:
            saying = [asyncio.ensure_future(connection.said_all.wait()) for connection in self._open.values()]
            _, left = await asyncio.wait(saying, timeout=LAST_WORDS_SECONDS)
            for each in left:
                each.cancel()

    async def _accept(self) -> None:
        """Beyond its room a program's connections wait in the kernel, for as long as it likes."""
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                program, _ = await loop.sock_accept(self._listener)
            except OSError:
                self._room.release()
                await asyncio.sleep(0.1)
                continue
            connection = Connection(self, program)
            task = loop.create_task(connection.serve())
            self._open[task] = connection
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._room.release()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for task, connection in self._open.items():
                if time.monotonic() - connection.active_at > IDLE_SECONDS:
                    task.cancel()

    async def connect(self, ask: Ask) -> socket.socket:
        """Connected to an address that was judged; raises Refused."""
        refusal = egress.judge_place(self.policy, ask.host, ask.port)
        if refusal:
            raise Refused(403, refusal)
        found = await self._resolve(ask)
        addresses = [(place[4][0].partition("%")[0], _is_own(place)) for place in found]
        refusal = egress.judge_addresses(self.policy, ask.host, addresses)
        if refusal:
            raise Refused(403, refusal)
        return await _connect_to_first(ask, found[:ADDRESSES])

    async def _resolve(self, ask: Ask) -> list[tuple]:
        loop = asyncio.get_running_loop()
        await self._lookups.acquire()
        looking = loop.run_in_executor(self._resolvers, _look_up, ask.host, ask.port)
        # Given back when the thread is done with it, not when we stop waiting: a slow name server costs only its slot.
        looking.add_done_callback(lambda _: self._lookups.release())
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await asyncio.shield(looking)
        except TimeoutError:
            raise Refused(504, f"{ask.host} could not be resolved in time.") from None
        if not found:
            raise Refused(502, f"{ask.host} could not be resolved.")
        return found


def _look_up(host: str, port: int) -> list[tuple]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError):
        return []


def _is_own(place: tuple) -> bool:
    """Whether an address is this machine's: a datagram socket turned to it, which sends nothing, then bears it too."""
    family, _, _, _, address = place
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(address)
        except OSError:
            return False
        return asking.getsockname()[0] == address[0]


async def _connect_to_first(ask: Ask, places: list[tuple]) -> socket.socket:
    problem: OSError = OSError()
    for family, kind, number, _, address in places:
        outside = socket.socket(family, kind, number)
        outside.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(outside, address)
            outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            outside.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return outside
        except OSError as failed:
            problem = failed
            outside.close()
        except BaseException:
            outside.close()
            raise
    if isinstance(problem, TimeoutError):
        raise Refused(504, f"{ask.host} did not answer in time on port {ask.port}.")
    said = os.strerror(problem.errno) if problem.errno else "no answer"
    raise Refused(502, f"{ask.host} could not be reached on port {ask.port}: {said}.")


class Connection:
    """One connection of a program: what it asks, then bytes both ways, no faster than the slower side takes them."""

    def __init__(self, outlet: Outlet, program: socket.socket) -> None:
        self.active_at = time.monotonic()
        self.said_all = asyncio.Event()
        self._outlet, self._program = outlet, program
        self._early = b""
        self._loop = asyncio.get_running_loop()
        program.setblocking(False)

    async def serve(self) -> None:
        with self._program, contextlib.suppress(OSError, EOFError):
            try:
                self._program.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(ASK_SECONDS):
                    self._early = await self._receive()
                await (self._serve_socks() if self._early[0] == asked.SOCKS5 else self._serve_http())
            finally:
                self.said_all.set()

    async def _serve_http(self) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                ask = asked.read_http(await self._read_head())
            with await self._outlet.connect(ask) as outside:
                if ask.is_tunnel:
                    await self._say(b"HTTP/1.1 200 Connected\r\n\r\n")
                    await self._relay(outside)
                else:
                    await self._forward(outside, ask)
        except BadAsk as bad:
            await self._say(_problem(bad.status, str(bad)))
        except Refused as refused:
            await self._say(_problem(refused.status, str(refused)))

    async def _serve_socks(self) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                ask = await self._read_socks()
            with await self._outlet.connect(ask) as outside:
                await self._say(_socks_reply(0))
                await self._relay(outside)
        except BadAsk as bad:
            await self._say(_socks_reply(bad.status))
        except Refused as refused:
            await self._say(_socks_reply(SOCKS_REPLIES[refused.status]))

    async def _read_socks(self) -> Ask:
        await self._read(1)
        methods = await self._read((await self._read(1))[0])
        if b"\0" not in methods:
            await self._say(b"\x05\xff")
            raise EOFError
        await self._say(b"\x05\0")
        version, command, _, kind = await self._read(4)
        if version != asked.SOCKS5 or command != 1:
            raise BadAsk("Only CONNECT is offered.", SOCKS_UNKNOWN_COMMAND)
        if kind not in (1, 3, 4):
            raise BadAsk("There is no such kind of address.", SOCKS_UNKNOWN_KIND)
        size = {1: 4, 4: 16}.get(kind) or (await self._read(1))[0]
        try:
            return asked.read_socks(kind, await self._read(size), await self._read(2))
        except BadAsk as bad:
            raise BadAsk(str(bad), SOCKS_REPLIES[502]) from bad

    async def _read(self, wanted: int) -> bytes:
        """Exactly so many bytes of what the program asks."""
        while len(self._early) < wanted:
            self._early += await self._receive()
        found = self._early[:wanted]
        self._early = self._early[wanted:]
        return found

    async def _read_head(self) -> bytes:
        while (end := self._early.find(b"\r\n\r\n")) < 0:
            if len(self._early) > asked.HEAD_BYTES:
                raise BadAsk("The head of the request is too large.", 431)
            self._early += await self._receive()
        return await self._read(end + 4)

    async def _receive(self) -> bytes:
        part = await self._loop.sock_recv(self._program, CHUNK_BYTES)
        if not part:
            raise EOFError
        self.active_at = time.monotonic()
        return part

    async def _say(self, answer: bytes) -> None:
        await self._loop.sock_sendall(self._program, answer)

    async def _forward(self, outside: socket.socket, ask: Ask) -> None:
        """One request a connection: what follows its body reaches nobody."""
        await self._send(outside, ask.head)
        await self._both(outside, self._body(outside, ask.body_bytes))

    async def _body(self, outside: socket.socket, left: int) -> None:
        while left:
            part = (self._early or await self._receive())[:left]
            self._early = b""
            await self._send(outside, part)
            left -= len(part)

    async def _relay(self, outside: socket.socket) -> None:
        await self._both(outside, self._up(outside))

    async def _both(self, outside: socket.socket, up: Coroutine[None, None, None]) -> None:
        """Until both ways have ended, or one has failed; a socket is closed only when nobody waits for it any more."""
        tasks = [self._loop.create_task(way) for way in (up, self._down(outside))]
        tasks[0].add_done_callback(lambda _: self.said_all.set())
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNDELIVERED_MS)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _up(self, outside: socket.socket) -> None:
        part, self._early = self._early, b""
        while part or (part := await self._loop.sock_recv(self._program, CHUNK_BYTES)):
            await self._send(outside, part)
            part = b""
        outside.shutdown(socket.SHUT_WR)

    async def _send(self, outside: socket.socket, part: bytes) -> None:
        await self._loop.sock_sendall(outside, part)
        self.active_at = time.monotonic()
        self._outlet.sent += len(part)

    async def _down(self, outside: socket.socket) -> None:
        while part := await self._loop.sock_recv(outside, CHUNK_BYTES):
            self._outlet.received += len(part)
            self.active_at = time.monotonic()
            await self._loop.sock_sendall(self._program, part)
        self._program.shutdown(socket.SHUT_WR)


def _problem(status: int, sentence: str) -> bytes:
    """Most clients show their user only the first line, so the sentence is there too."""
    text = sentence.encode("ascii", "replace")
    lines = [b"HTTP/1.1 %d %s" % (status, text), b"Content-Type: text/plain; charset=utf-8"]
    lines += [b"Content-Length: %d" % (len(text) + 1), b"Connection: close", b"", text + b"\n"]
    return b"\r\n".join(lines)


def _socks_reply(code: int) -> bytes:
    return bytes([asked.SOCKS5, code, 0, 1, 0, 0, 0, 0, 0, 0])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
