"""Join a federation from this machine: claims its tasks and does them here."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from federation import outpost
from federation.client import Agent, Problem, Unreachable
from ntd_site import embedded, parts
from sandboxes.runtimes import RuntimeLost
from sandboxes.runtimes.local import LocalRuntime

START_SECONDS = 60.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Command(BaseCommand):
    help = (
        "Join a federation of the coordinator at COORDINATOR_URL as a remote agent. Its tasks run in this machine's "
        "sandboxes, or by --command. SIGTERM: it finishes what it has, and leaves."
    )
    # It needs no database: this machine knows the coordinator's address and nothing else of it.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default=settings.COORDINATOR_URL, help="of the coordinator (COORDINATOR_URL)")
        parser.add_argument("--federation", default="", help="join this one, with an API key in NTD_API_KEY")
        parser.add_argument("--name", default=os.uname().nodename, help="of the agent (this machine's)")
        parser.add_argument("--type", default="", help="of the agent, in words")
        parser.add_argument("--capability", action="append", default=[], help="what it can do; again for more")
        parser.add_argument("--agent", default="", help="be this agent, with its token in NTD_AGENT_TOKEN")
        parser.add_argument("--capacity", type=int, default=None, help="tasks at once")
        parser.add_argument("--transport", choices=("websocket", "rest"), default="websocket")
        parser.add_argument("--command", default="", help="does each task: payload in, result out, as JSON")
        parser.add_argument("--timeout", type=float, default=None, help="seconds the command may take")
        parser.add_argument("--grace", type=float, default=60.0, help="seconds a stop waits for what runs (60)")

    def handle(self, *args: Any, **options: Any) -> None:
        _check(options)
        logging.getLogger("federation.client").setLevel(logging.INFO)
        try:
            with _doing(options) as does:
                asyncio.run(self._live(options, does))
        except (Problem, Unreachable) as refused:
            raise CommandError(str(refused)) from refused

    async def _live(self, options: dict[str, Any], does: Callable[..., Any]) -> None:
        """Until it is stopped. One that registered by itself does so again when it was lost meanwhile."""
        while True:
            agent = await _agent(options)
            agent.handles()(does)
            self.stdout.write(f"agent {agent.id} at {options['url']} by {options['transport']}")
            self.stdout.flush()
            try:
                await agent.serve(signals=SIGNALS)
                return
            except Problem as ended:
                if not (ended.is_the_end and options["federation"]):
                    raise
                self.stderr.write(f"{ended} Joining again.")


def _check(options: dict[str, Any]) -> None:
    """Raises CommandError with what to set."""
    if settings.FEDERATION_ROLE == "coordinator":
        raise CommandError("FEDERATION_ROLE=coordinator does no tasks. Use worker or both on the machine of an agent.")
    options["url"] = options["url"] or ("" if settings.FEDERATION_ROLE == "worker" else settings.BASE_URL)
    if not options["url"].startswith(("http://", "https://")):
        raise CommandError("Set COORDINATOR_URL to the coordinator's address, for example https://ntd.example.")
    if bool(options["federation"]) == bool(options["agent"]):
        raise CommandError("Give --federation (and NTD_API_KEY) to join one, or --agent (and NTD_AGENT_TOKEN).")
    wanted = "NTD_API_KEY" if options["federation"] else "NTD_AGENT_TOKEN"
    if not os.environ.get(wanted):
        raise CommandError(f"{wanted} is not set. It is read from the environment, where other users cannot see it.")
    if options["capacity"] is not None and not 1 <= options["capacity"] <= 1000:
        raise CommandError("--capacity is from 1 to 1000.")


async def _agent(options: dict[str, Any]) -> Agent:
    own = {name: options[name] for name in ("transport", "capacity")} | {"grace_seconds": options["grace"]}
    if options["agent"]:
        return Agent(options["url"], agent_id=options["agent"], token=os.environ["NTD_AGENT_TOKEN"], **own)
    return await Agent.register(
        options["url"], key=os.environ["NTD_API_KEY"], federation=options["federation"], name=options["name"],
        capabilities=options["capability"], type=options["type"], **own,
    )  # fmt: skip


@contextmanager
def _doing(options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """The function that does each task."""
    if options["command"]:
        # What runs for an agent that was killed ends with it.
        prepare = embedded.child_setup(unprivileged=False, death_signal=signal.SIGKILL)
        yield outpost.by_command(shlex.split(options["command"]), timeout_seconds=options["timeout"], prepare=prepare)
        return
    runtime = LocalRuntime(settings.SANDBOX_SOCKET)
    with _daemon(runtime):
        yield outpost.in_sandbox(runtime)


def _say(text: str) -> None:
    """At once, also into a log: the first start takes a minute, which would look like a standstill."""
    print(text, flush=True)


@contextmanager
def _daemon(runtime: LocalRuntime) -> Iterator[None]:
    """The sandbox daemon that is here, or one of our own for as long as the agent lives."""
    if _answers(runtime):
        yield
        return
    where = embedded.place(parts.home())
    part = parts.sandbox_daemon(where, os.uname().nodename, parts.Options(), parts.provide(where, say=_say))
    setup = embedded.child_setup(unprivileged=False, death_signal=part.death_signal)
    process = subprocess.Popen(
        part.command, cwd=part.folder, env=parts.environment_of(part), stdout=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=setup,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(runtime):
            if process.poll() is not None or time.monotonic() > deadline:
                raise CommandError("Sandboxes do not start here: see `manage.py sandbox_check`, or give --command.")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(runtime: LocalRuntime) -> bool:
    try:
        return bool(runtime.describe()["engine"])
    except RuntimeLost:
        return False
