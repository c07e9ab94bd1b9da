"""An agent of the benchmark that kills agents: it holds a task given for the first time until it is killed.

python -m tests.bench.agent_peers <url> <agent> <token> <file>     says in the file what it does, a line an act:
                                                                    <began|done> <task> <epoch> <pid> <seconds since the epoch>
"""

from __future__ import annotations

import os
import sys
import time

from federation.client import Agent, Work

HELD_SECONDS = 120.0
DONE_SECONDS = 0.2


def main(url: str, agent_id: str, token: str, path: str) -> None:
    book = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    agent = Agent(url, agent_id=agent_id, token=token)

    def say(what: str, work: Work) -> None:
        os.write(book, f"{what} {work.id} {work.epoch} {os.getpid()} {time.time()}\n".encode())

    @agent.handles()
    def hold(work: Work) -> int:
        say("began", work)
        until = time.monotonic() + (HELD_SECONDS if work.epoch == 1 else DONE_SECONDS)
        while time.monotonic() < until:
            work.check()
            time.sleep(0.05)
        say("done", work)
        return work.epoch

    agent.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
