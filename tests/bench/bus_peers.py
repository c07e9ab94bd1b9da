"""The other process of the bus's benchmarks: takes what comes, acknowledges it and says when it had all of it.

python -m tests.bench.bus_peers consume <agent> <messages>      answers "<seconds since the epoch> <p50 ms> <p99 ms>"
python -m tests.bench.bus_peers flush <messages>                 brings the history into the database meanwhile
"""

from __future__ import annotations

import sys
import time


def consume(agent_id: str, wanted: int) -> None:
    from django.utils import timezone

    from federation import bus
    from federation.models import Agent

    agent = Agent.objects.select_related("federation").get(pk=agent_id)
    took: list[float] = []
    got = 0
    print("ready", flush=True)
    while got < wanted:
        items = bus.receive(agent=agent, most=1000, wait_seconds=10, clock=timezone.now)
        now = time.time()
        sent = items[-1].body[1].get("sent") if items else None
        if sent is not None:
            took.append(now - sent)
        got += bus.acknowledge(agent=agent, message_ids=[item.id for item in items], now=timezone.now())
    took = sorted(took) or [0.0]
    print(time.time(), took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, flush=True)


def flush(wanted: int) -> None:
    from django.utils import timezone

    from federation import history
    from federation.models import Message

    start = Message.objects.count()
    print("ready", flush=True)
    while Message.objects.count() - start < wanted:
        if not history.flush_all(now=timezone.now()):
            time.sleep(0.005)
    print(time.time(), 0, 0, flush=True)


def main(arguments: list[str]) -> None:
    import django

    django.setup()
    what, *given = arguments
    if what == "consume":
        consume(given[0], int(given[1]))
    else:
        flush(int(given[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
