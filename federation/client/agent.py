"""An agent: it says hello, claims as much as it has room for, beats, and tells what came of each task.

run -> hello -> claim .. claim      stop(), SIGTERM or SIGINT: it claims no more, finishes what it has, and leaves
          ^        |  the connection breaks: what runs goes on, everything unanswered is asked again
          '--------'  its token ends (401, 410): run raises Problem
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import random
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from federation.client.rest import Rest
from federation.client.transport import Problem, Transport, Unreachable
from federation.client.websocket import WebSocket
from federation.client.work import Cancelled, Failed, Work

Does = Callable[[Work], Any]
Hears = Callable[[dict[str, Any]], Any]
ANY = "*"
# A stop waits for the claim under way, so that no task is given to an agent that has gone.
CLAIM_SECONDS = 10.0
LONGEST_PAUSE = 15.0
ERROR_CHARACTERS = 8_000
TRANSPORTS = {"websocket": WebSocket, "rest": Rest}
log = logging.getLogger(__name__)


class Agent:
    """`capacity` is how many tasks at once, else what the product says; `grace_seconds` how long a stop may take."""

    def __init__(
        self, url: str, *, agent_id: str, token: str, transport: str | Transport = "websocket",
        capacity: int | None = None, grace_seconds: float = 60.0, leaves: bool = False,
    ) -> None:  # fmt: skip
        self.id = agent_id
        self.transport: Any = TRANSPORTS[transport](url, token) if isinstance(transport, str) else transport
        self.capacity = capacity
        self.grace_seconds = grace_seconds
        self.leaves = leaves
        self.works: dict[str, Work] = {}
        self.terms: dict[str, Any] = {}
        self.federation = ""
        self._does: dict[str, Does] = {}
        self._hears: Hears | None = None
        self._must_greet = True
        self._greeting = asyncio.Lock()
        self._has_changed = asyncio.Event()
        self._stopping = asyncio.Event()

    @classmethod
    async def register(cls, url: str, *, key: str, federation: str, name: str, **options: Any) -> Agent:
        """Join a federation with an account's API key. Raises Problem, Unreachable."""
        own = {each: options.pop(each) for each in ("capabilities", "type", "region", "metadata") if each in options}
        if options.get("capacity"):
            own["max_concurrent_tasks"] = options["capacity"]
        desk = Rest(url, key)
        try:
            made = await desk.ask("register", of=federation, body={"name": name, "runtime": "remote", **own})
        finally:
            await desk.close()
        return cls(url, agent_id=made["id"], token=made["token"], **{"leaves": True} | options)

    def handles(self, type: str = ANY) -> Callable[[Does], Does]:
        """The function that does tasks of this type, or of any: plain (it gets a thread) or async."""

        def keep(does: Does) -> Does:
            self._does[type] = does
            return does

        return keep

    def hears(self, hears: Hears) -> Hears:
        """The function that is given each message; what it raises for is offered again."""
        self._hears = hears
        return hears

    async def send(self, to: str | None, payload: Any, **draft: Any) -> dict[str, Any]:
        """To one agent, or (None) to all others; with `message_id` at most once however often it is tried."""
        found: dict[str, Any] = await self._ask(
            "send", of=self.federation, body={"to": to, "payload": payload, **draft}
        )
        return found

    def stop(self) -> None:
        """Claim no more; `run` returns when everything is finished."""
        self._stopping.set()
        self._has_changed.set()

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises Problem when the agent's token ends."""
        asyncio.run(self.serve(signals=(signal.SIGTERM, signal.SIGINT)))

    async def serve(self, *, signals: tuple[signal.Signals, ...] = ()) -> None:
        for each in signals:
            asyncio.get_running_loop().add_signal_handler(each, self.stop)
        await self._greet()
        self._threads = ThreadPoolExecutor(self._room, thread_name_prefix="task")
        claiming = asyncio.create_task(self._claim())
        loops = [claiming, asyncio.create_task(self._beat())]
        loops += [asyncio.create_task(self._listen(self._hears))] if self._hears else []
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({stopping, *loops}, return_when=asyncio.FIRST_COMPLETED)
            for each in done - {stopping}:
                each.result()
            for signalled in signals:  # a second one ends the process at once
                asyncio.get_running_loop().remove_signal_handler(signalled)
            await self._drain(claiming)
        finally:
            for each in (stopping, *loops):
                each.cancel()
            for work in list(self.works.values()):
                work.cancel()
            self._threads.shutdown(wait=False)
            await self.transport.close()

    @property
    def _room(self) -> int:
        return self.capacity or int(self.terms["agent"]["max_concurrent_tasks"])

    # Asking

    async def _ask(self, verb: str, **asked: Any) -> Any:
        """Until there is an answer. Every verb may be asked twice; of a claim unheard, the next hello tells."""
        pause = 0.2
        while True:
            try:
                if self._must_greet and verb != "hello":
                    await self._greet()
                return await self.transport.ask(verb, **{"of": self.id} | asked)
            except Unreachable as failed:
                self._must_greet = True
                log.warning("%s", failed)
                wait = pause * random.uniform(0.5, 1.0)  # so that a fleet does not come back as one
                pause = min(pause * 2, LONGEST_PAUSE)
            except Problem as refused:
                if not refused.is_passing:
                    raise
                wait = refused.wait_seconds
            await asyncio.sleep(wait)

    async def _greet(self) -> None:
        """Say hello; take up what the product thinks is ours, drop what it gave to others."""
        async with self._greeting:
            if not self._must_greet:
                return
            before = list(self.works.values())
            self.terms = await self._ask("hello", body={"connection": self.transport.name})
            self.federation = self.terms["agent"]["federation"]
            self._must_greet = False
        mine = {each["task"]["id"]: each for each in self.terms["running"]}
        for work in before:
            if mine.get(work.id, {}).get("epoch") != work.epoch:
                work.cancel()
        for each in mine.values():
            if each["task"]["id"] not in self.works:
                self._begin(each)

    # Tasks

    async def _claim(self) -> None:
        while not self._stopping.is_set():
            self._has_changed.clear()
            if len(self.works) >= self._room:
                await self._has_changed.wait()
                continue
            claimed = await self._ask("claim", wait=CLAIM_SECONDS)
            if claimed is not None and claimed["task"]["id"] not in self.works:
                self._begin(claimed)

    def _begin(self, claimed: dict[str, Any]) -> None:
        work = self.works[claimed["task"]["id"]] = Work(claimed)
        work.doing = asyncio.create_task(self._do(work))
        work.doing.add_done_callback(lambda _: self._has_changed.set())

    async def _do(self, work: Work) -> None:
        try:
            verb, said = await self._outcome(work)
            if not work.is_cancelled:
                await self._tell(work, verb, said)
        finally:
            if self.works.get(work.id) is work:
                del self.works[work.id]

    async def _outcome(self, work: Work) -> tuple[str, dict[str, Any]]:
        does = self._does.get(work.type) or self._does.get(ANY)
        if does is None:
            return "fail", {"error": f"This agent does no tasks of the type {work.type}.", "retryable": True}
        try:
            result = await self._call(does, work)
        except Failed as failed:
            return "fail", {"error": str(failed)[-ERROR_CHARACTERS:] or "Failed.", "retryable": failed.retryable}
        except Cancelled:
            return "fail", {"error": "It was cancelled.", "retryable": True}
        except Exception as wrong:  # whatever the function raises is the task's failure
            log.exception("the task %s failed", work.id)
            return "fail", {"error": f"{type(wrong).__name__}: {wrong}"[:ERROR_CHARACTERS], "retryable": True}
        try:
            json.dumps(result, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as wrong:
            return "fail", {"error": f"Its result is no JSON: {wrong}"[:ERROR_CHARACTERS], "retryable": False}
        return "complete", {"result": result}

    async def _call(self, does: Does, work: Work) -> Any:
        if not inspect.iscoroutinefunction(does):
            return await asyncio.get_running_loop().run_in_executor(self._threads, does, work)
        running = asyncio.ensure_future(does(work))
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            loop.call_soon_threadsafe(running.cancel)

        work.on_cancel(cancel)
        try:
            return await running
        except asyncio.CancelledError:
            if not work.is_cancelled:
                raise
            raise Cancelled("It was cancelled.") from None

    async def _tell(self, work: Work, verb: str, said: dict[str, Any]) -> None:
        try:
            await self._ask(verb, of=work.id, body={"epoch": work.epoch, **said})
        except Problem as refused:
            log.warning("the task %s: %s", work.id, refused)
            if refused.status in (400, 413) and verb == "complete":  # what came out cannot be kept
                with suppress(Problem):
                    said = {"error": f"Its result was refused: {refused}"[:ERROR_CHARACTERS], "retryable": False}
                    await self._ask("fail", of=work.id, body={"epoch": work.epoch, **said})

    # Signs of life

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(min(self.terms["heartbeat_seconds"], self.terms["lease_seconds"] / 3))
            await self._beat_once()

    async def _beat_once(self) -> None:
        running = [work.as_running() for work in self.works.values()]
        status = "unavailable" if self._stopping.is_set() else "busy" if running else "idle"
        load = min(len(running) / self._room, 1.0)
        reply = await self._ask("heartbeat", body={"status": status, "load": load, "running": running})
        for task_id in reply["cancel"]:
            if task_id in self.works:
                self.works[task_id].cancel()

    async def _listen(self, hears: Hears) -> None:
        while not self._stopping.is_set():
            inbox = await self._ask("inbox", wait=CLAIM_SECONDS)
            heard = [item["id"] for item in inbox["results"] if await self._heard(hears, item)]
            if heard:
                await self._ask("ack", body={"ids": heard})

    async def _heard(self, hears: Hears, item: dict[str, Any]) -> bool:
        try:
            found = hears(item)
            if isinstance(found, Awaitable):
                await found
            return True
        except Exception:
            log.exception("the message %s will be offered again", item["id"])
            return False

    # Stopping

    async def _drain(self, claiming: asyncio.Task[None]) -> None:
        """Say that it takes no more, finish what it has, give back what does not end in time, and leave."""
        with suppress(Problem, TimeoutError):
            await asyncio.wait_for(self._beat_once(), 5)
        await asyncio.wait({claiming}, timeout=CLAIM_SECONDS + 5)
        under_way = [work.doing for work in self.works.values() if work.doing]
        if under_way:
            await asyncio.wait(under_way, timeout=self.grace_seconds)
        for work in list(self.works.values()):
            work.cancel()
            with suppress(Problem, TimeoutError):
                said = {"epoch": work.epoch, "error": "The agent stopped before it was done.", "retryable": True}
                await asyncio.wait_for(self._ask("fail", of=work.id, body=said), 5)
        if self.leaves:
            with suppress(Problem, TimeoutError):
                await asyncio.wait_for(self._ask("leave"), 5)
