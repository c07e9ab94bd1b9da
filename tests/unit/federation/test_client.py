"""The client against a product of a few lines: what it asks, and that no break loses a task."""

import asyncio
import contextlib
import threading
import time

import pytest

from federation.client import Agent, Cancelled, Failed, Problem, Unreachable
from federation.client import agent as module

TERMS = {"heartbeat_seconds": 0.02, "lease_seconds": 0.09}


class Product:
    """A transport and what is behind it. `breaks` are the verbs whose next answer is lost on its way."""

    name = "pretended"

    def __init__(self, *payloads):
        self.queue = [(f"t{n}", payload) for n, payload in enumerate(payloads)]
        self.held, self.ended, self.said, self.breaks, self.refuses = {}, {}, [], [], {}
        self.cancelled, self.acked, self.left = [], [], False

    async def ask(self, verb, *, of, body=None, wait=0, **query):
        self.said.append((verb, of, body))
        await asyncio.sleep(0)
        if self.refuses.get(verb):
            raise self.refuses[verb].pop()
        answer = getattr(self, verb)(of, body)
        if verb in self.breaks:
            self.breaks.remove(verb)
            raise Unreachable("broken")
        if verb in ("claim", "inbox") and answer in (None, {"results": []}):
            await asyncio.sleep(0.01)
        return answer

    def hello(self, of, body):
        running = [self.claimed(*each) for each in self.held.items()]
        return {"agent": {"federation": "f", "max_concurrent_tasks": 2}, "running": running, **TERMS}

    def claimed(self, task, payload):
        return {"task": {"id": task, "type": "work", "payload": payload}, "epoch": 1}

    def claim(self, of, body):
        if not self.queue:
            return None
        task, payload = self.queue.pop(0)
        self.held[task] = payload
        return self.claimed(task, payload)

    def heartbeat(self, of, body):
        return {"cancel": [task for task in self.cancelled if task in {each["task"] for each in body["running"]}]}

    def complete(self, of, body):
        self.held.pop(of, None)
        self.ended[of] = body["result"]

    def fail(self, of, body):
        self.held.pop(of, None)
        self.ended[of] = (body["error"], body["retryable"])

    def inbox(self, of, body):
        return {"results": list(self.inbox_items())}

    def inbox_items(self):
        return [item for item in self.waiting if item["id"] not in self.acked]

    waiting = ()

    def ack(self, of, body):
        self.acked += body["ids"]

    def leave(self, of, body):
        self.left = True

    async def close(self):
        self.said.append(("close", "", None))


def serve(product, does, *, until=None, **options):
    """Run the agent until so many tasks ended (or `until` holds); then stop it."""
    agent = Agent("", agent_id="me", token="", transport=product, **options)
    agent.handles("work")(does)
    wanted = len(product.queue) + len(product.held)

    async def live():
        serving = asyncio.create_task(agent.serve())
        for _ in range(400):
            await asyncio.sleep(0.005)
            if serving.done() or (until() if until else len(product.ended) >= wanted):
                break
        agent.stop()
        await asyncio.wait_for(serving, 5)

    asyncio.run(live())
    return agent


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(module.random, "uniform", lambda low, high: 0.01)


async def twice(work):
    return 2 * work.payload


def in_a_thread(work):
    assert threading.current_thread() is not threading.main_thread()
    return 2 * work.payload


@pytest.mark.parametrize("does", [twice, in_a_thread])
def test_every_task_is_done_once(does):
    product = Product(1, 2, 3)

    serve(product, does)

    assert product.ended == {"t0": 2, "t1": 4, "t2": 6}
    assert [said[0] for said in product.said].count("complete") == 3


def fails(raised):
    def does(work):
        raise raised

    return does


@pytest.mark.parametrize(
    ("does", "error", "retryable"),
    [
        (fails(Failed("no prices")), "no prices", True),
        (fails(Failed("nonsense", retryable=False)), "nonsense", False),
        (fails(ValueError("odd")), "ValueError: odd", True),
        (lambda work: {1, 2}, "no JSON", False),
        (lambda work: float("nan"), "no JSON", False),
    ],
)
def test_what_goes_wrong_is_told(does, error, retryable):
    product = Product(1)

    serve(product, does)

    assert error in product.ended["t0"][0]
    assert product.ended["t0"][1] is retryable


def test_a_type_it_does_not_do_is_told():
    product = Product(1)
    agent = Agent("", agent_id="me", token="", transport=product)

    async def live():
        serving = asyncio.create_task(agent.serve())
        while not product.ended:
            await asyncio.sleep(0.005)
        agent.stop()
        await serving

    asyncio.run(live())

    assert "no tasks of the type work" in product.ended["t0"][0]


@pytest.mark.parametrize("verb", ["hello", "claim", "complete", "heartbeat"])
def test_a_lost_answer_loses_no_task(verb):
    product = Product(1, 2)
    product.breaks = [verb, verb]

    async def slowly(work):
        await asyncio.sleep(0.05)
        return 2 * work.payload

    serve(product, slowly)

    assert product.ended == {"t0": 2, "t1": 4}


def test_what_the_product_thinks_is_ours_is_taken_up():
    product = Product()
    product.held = {"t9": 4}

    serve(product, twice)

    assert product.ended == {"t9": 8}


def test_a_busy_moment_is_waited_for():
    product = Product(1)
    product.refuses["complete"] = [
        Problem(429, {"code": "rate_limited", "retry_after": 0.01}),
        Problem(503, {"retry_after": 0.01}),
    ]

    serve(product, twice)

    assert product.ended == {"t0": 2}


@pytest.mark.parametrize("status", [401, 410])
def test_a_token_that_ends_ends_the_agent(status):
    product = Product()
    product.refuses["heartbeat"] = [Problem(status, {"detail": "Register again."})]

    with pytest.raises(Problem, match="Register again"):
        serve(product, twice, until=lambda: False)

    assert product.said[-1][0] == "close"


def test_a_result_that_is_refused_is_a_failure():
    product = Product(1)
    product.refuses["complete"] = [Problem(413, {"detail": "too large"})]

    serve(product, twice)

    assert product.ended["t0"] == ("Its result was refused: too large", False)


def test_a_late_result_is_not_said_again():
    product = Product(1)
    product.refuses["complete"] = [Problem(409, {"code": "stale_epoch"})]

    serve(product, twice, until=lambda: "complete" in [said[0] for said in product.said])

    assert product.ended == {}


def test_progress_goes_out_with_the_next_heartbeat():
    product = Product(1)

    async def halfway(work):
        work.progress = 0.5
        await asyncio.sleep(0.08)

    serve(product, halfway)

    beats = [body for verb, _, body in product.said if verb == "heartbeat"]
    assert {"task": "t0", "epoch": 1, "progress": 0.5} in [each for beat in beats for each in beat["running"]]
    assert {"busy", "unavailable"} <= {beat["status"] for beat in beats}


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_a_cancelled_task_is_stopped_and_says_nothing(kind):
    product = Product(1, 2)
    stopped = []

    async def endless(work):
        product.cancelled.append(work.id)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            stopped.append(work.id)
            raise

    def thread(work):
        product.cancelled.append(work.id)
        while True:
            time.sleep(0.005)
            try:
                work.check()
            except Cancelled:
                stopped.append(work.id)
                raise

    serve(product, endless if kind == "async" else thread, until=lambda: len(stopped) == 2)

    assert (sorted(stopped), product.ended) == (["t0", "t1"], {})


def test_it_takes_no_more_than_it_has_room_for():
    product, most, now = Product(*range(6)), 0, 0

    async def counted(work):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1

    serve(product, counted)

    assert (len(product.ended), most) == (6, 2)


def test_a_stop_finishes_what_it_has_and_leaves():
    product = Product(1, 2, 3)

    async def slowly(work):
        await asyncio.sleep(0.1)
        return "done"

    serve(product, slowly, until=lambda: len(product.held) == 2, leaves=True)

    assert (product.ended, product.left, len(product.queue)) == ({"t0": "done", "t1": "done"}, True, 1)


def test_a_stop_gives_back_what_does_not_end_in_time():
    product = Product(1)

    async def endless(work):
        await asyncio.sleep(9)

    serve(product, endless, until=lambda: bool(product.held), grace_seconds=0.02)

    assert product.ended == {"t0": ("The agent stopped before it was done.", True)}


def test_messages_are_heard_and_acknowledged_and_what_raises_comes_again():
    product, heard = Product(), []
    product.waiting = [{"id": "m1", "payload": 1}, {"id": "m2", "payload": 2}]
    agent = Agent("", agent_id="me", token="", transport=product)

    @agent.hears
    def hears(item):
        heard.append(item["id"])
        if heard.count("m2") == 1 and item["id"] == "m2":
            raise RuntimeError("not now")

    async def live():
        serving = asyncio.create_task(agent.serve())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while len(product.acked) < 2:
                    await asyncio.sleep(0.005)
        await agent.send("other", {"n": 1}, message_id="one")
        agent.stop()
        await serving

    product.send = lambda of, body: {"id": "m3"}
    asyncio.run(live())

    assert (product.acked, heard) == (["m1", "m2"], ["m1", "m2", "m2"])
    assert ("send", "f", {"to": "other", "payload": {"n": 1}, "message_id": "one"}) in product.said
