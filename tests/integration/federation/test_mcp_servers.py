"""Agents that are MCP servers: at an address of this machine, and by a command in a scripted sandbox."""

import asyncio
import json
import re
import threading
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.models import UsageRecord
from federation import agents, attempts, caller, coordination, dispatch, managed, servers, tool_calls, wages
from federation.models import Agent, Attempt, McpServer, Task
from sandboxes import claims, executions, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact
from tests import factories, mcp_servers
from tests.product import free_port
from tests.scripted import outcome

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime"), pytest.mark.enable_socket]
TOOLS = ["add", "die", "fail", "large", "sleep"]


@pytest.fixture(scope="module")
def port():
    found = free_port()
    with mcp_servers.listening(found):
        yield found


@pytest.fixture
def url(port, settings):
    settings.MCP_ALLOW = [f"127.0.0.1:{port}"]
    return f"http://127.0.0.1:{port}/mcp"


@pytest.fixture
def at_once(monkeypatch):
    """A conversation is had here and now, without renewals, which need a database of several connections."""

    def talk(conversation, *, then):
        found = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(conversation)))
        thread.start()
        thread.join()
        then(found[0])

    async def converse_only(attempt, conversation, clock):
        return await conversation

    monkeypatch.setattr(caller, "talk", talk)
    monkeypatch.setattr(tool_calls, "_while_wanted", converse_only)


@pytest.fixture
def federation():
    return factories.make_federation()


def add(federation, name="tools", **mcp):
    return coordination.add_agent(federation=federation, name=name, runtime="mcp", mcp=mcp, now=timezone.now())[0]


def read(agent):
    tool_calls.read(agent_id=agent.pk, clock=timezone.now, then=lambda: None)
    return Agent.objects.get(pk=agent.pk)


def call(federation, tool, arguments=None, **changes):
    payload = {"tool": tool, "arguments": arguments or {}}
    task = factories.make_task(federation, type="mcp.tool", payload=changes.pop("payload", payload), **changes)
    for attempt in dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1)):
        if not managed.call(attempt_id=attempt.pk, clock=timezone.now, then=lambda _: None):
            managed.start(attempt_id=attempt.pk, now=timezone.now())
    return Task.objects.get(pk=task.pk)


def test_its_tools_become_capabilities_and_it_is_available(federation, url, at_once):
    agent = add(federation, url=url)
    assert Agent.objects.get().availability == "unavailable"

    agent = read(agent)

    assert (agent.availability, agent.capabilities) == ("available", TOOLS)
    adds = next(tool for tool in agent.mcp.tools if tool["name"] == "add")
    assert adds["description"] == "Adds two numbers."
    assert adds["input_schema"]["required"] == ["a", "b"]


def test_capabilities_follow_the_tools_and_others_stay(federation, url, at_once):
    agent = read(add(federation, url=url))
    Agent.objects.filter(pk=agent.pk).update(capabilities=[*TOOLS, "fast"])

    fewer = [tool for tool in agent.mcp.tools if tool["name"] == "add"]
    servers.keep_tools(server=agent.mcp, tools=[*fewer, {"name": "n" * 61, "description": ""}], now=timezone.now())

    assert Agent.objects.get().capabilities == ["add", "fast"]


def test_a_call_gives_the_tools_answer(federation, url, at_once):
    read(add(federation, url=url))

    task = call(federation, "add", {"a": 20, "b": 22})

    assert (task.state, task.error) == ("succeeded", "")
    assert task.result == {"content": [{"type": "text", "text": "42"}], "structured": {"result": 42}}
    assert (task.required_capabilities, str(task)) == (["add"], "add()")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"tool": "fail", "arguments": {"why": "no prices today"}}, "The tool fail failed: .*no prices today"),
        ({"tool": "add", "arguments": {"a": "x"}}, "The tool add failed: .*valid integer"),
        ({"tool": "subtract"}, "no tool 'subtract'. Its tools: add, fail"),
        ({"tool": "sleep", "arguments": {"seconds": 5}}, "did not answer within 1 seconds"),
        ({"tool": "large", "arguments": {"size": 1_100_000}}, "larger than 1,048,576 bytes"),
        ({"tool": "add", "arguments": [1, 2]}, "arguments of a tool are an object"),
        ({"arguments": {}}, "The payload of a call is"),
        ({"tool": "add", "extra": 1}, "The payload of a call is"),
        ("add", "The payload of a call is"),
    ],
)
def test_what_goes_wrong_with_a_call_fails_the_task_for_good_with_words(federation, url, at_once, payload, words):
    # Only what is to be late may be: a busy machine needs longer for the others.
    read(add(federation, url=url, timeout_seconds=1 if "1 seconds" in words else 20))

    task = call(federation, "", payload=payload)

    assert task.state == "failed"
    assert re.search(words, task.error, re.DOTALL), task.error


def test_a_server_that_is_away_is_tried_again_and_its_agent_is_unavailable_with_the_reason(
    federation, url, at_once, settings
):
    read(add(federation, url=url))
    nobody = free_port()
    settings.MCP_ALLOW = [f"127.0.0.1:{nobody}"]
    McpServer.objects.update(url=f"http://127.0.0.1:{nobody}/mcp")

    task = call(federation, "add", {"a": 1, "b": 2})

    assert (task.state, task.tries) == ("queued", 1)
    assert "cannot be reached" in task.error
    agent = Agent.objects.get()
    assert agent.availability == "unavailable"
    assert "cannot be reached" in agent.mcp.error


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://tools.example/mcp", "must begin with https"),
        ("https://127.0.0.1/mcp", "loopback address"),
        ("https://10.1.2.3/mcp", "a private address"),
        ("https://[::1]:8443/mcp", "loopback"),
        ("https://[::ffff:10.0.0.1]/mcp", "address"),
        ("https://169.254.169.254/latest", "link-local"),
        ("https://2130706433/mcp", "address"),
        ("https://tools.example:25/mcp", "Port 25"),
        ("https://me:secret@tools.example/mcp", "no user"),
        ("ftp://tools.example", "Give an address"),
        ("https://[tools", "no address"),
        ("https://tools.example/" + "x" * 500, "at most 500"),
    ],
)
def test_an_address_that_may_not_be_asked_is_refused(federation, url, words):
    with pytest.raises(servers.BadServer) as refused:
        add(federation, url=url)

    assert words in refused.value.errors["url"]
    assert Agent.objects.count() == 0


def test_a_name_that_turns_out_private_is_refused_when_it_is_asked(federation, at_once):
    agent = add(federation, url="https://localhost/mcp")

    agent = read(agent)

    assert (agent.availability, agent.mcp.tools) == ("unavailable", None)
    assert "a loopback address. Only public addresses are reached." in agent.mcp.error


def test_leave_that_was_taken_back_counts_at_the_next_call(federation, url, at_once, settings):
    read(add(federation, url=url))
    settings.MCP_ALLOW = []

    task = call(federation, "add", {"a": 1, "b": 2})

    assert (task.state, "may not be asked" in task.error) == ("failed", True)


@pytest.mark.parametrize(
    ("mcp", "field"),
    [
        ({}, ""),
        ({"url": "https://tools.example", "command": ["x"]}, ""),
        ({"command": [""]}, "command"),
        ({"command": ["x"], "files": {"../x": ""}}, "files"),
        ({"command": ["x"], "files": {"job.json": ""}}, "files"),
        ({"command": ["x"], "template": "none such"}, "template"),
        ({"command": ["x"], "template": "node"}, "template"),
        ({"command": ["x"], "network": True}, "network"),
    ],
)
def test_a_server_that_cannot_be_one_is_refused_with_its_field(federation, mcp, field):
    with pytest.raises(servers.BadServer) as refused:
        add(federation, **mcp)

    assert list(refused.value.errors) == [field]


def test_only_mcp_agents_have_a_server(federation):
    with pytest.raises(servers.BadServer):
        coordination.add_agent(
            federation=federation, name="x", runtime="managed", mcp={"command": ["x"]}, now=timezone.now()
        )


def test_the_database_wants_an_address_or_a_command(federation, url):
    add(federation, url=url)

    with pytest.raises(IntegrityError), transaction.atomic():
        McpServer.objects.update(url="")


def test_a_call_is_charged_once_as_a_call(federation, url, at_once):
    read(add(federation, url=url))
    call(federation, "add", {"a": 1, "b": 2})

    wages.charge_all(now=timezone.now())
    wages.charge_all(now=timezone.now())

    record = UsageRecord.objects.get(source="federation")
    assert (record.meter, record.quantity) == ("mcp_call", Decimal(1))
    assert Attempt.objects.get().cost_ucr == record.cost_ucr > 0


def test_a_tool_nobody_has_goes_to_any_server_which_says_so(federation, url, at_once):
    read(add(federation, url=url))
    factories.make_agent(federation, "plain", runtime="managed")

    assert call(federation, "subtract").assigned_to.name == "tools"


def test_addresses_are_read_again_after_a_while_by_one_sweep(federation, url, at_once):
    agent = read(add(federation, url=url))
    now = timezone.now()

    assert servers.stale(now=now + servers.FRESH / 2) == []
    assert [server.agent_id for server in servers.stale(now=now + servers.FRESH * 2)] == [agent.pk]
    assert servers.stale(now=now + servers.FRESH * 2) == []
    McpServer.objects.update(error="away")
    assert len(servers.stale(now=now + servers.FRESH * 2 + servers.RETRY * 2)) == 1


def test_we_beat_for_servers_as_for_managed_agents(federation, url):
    agent = add(federation, url=url)
    Agent.objects.update(last_heartbeat_at=timezone.now() - timedelta(seconds=30))

    agents.beat_managed(now=timezone.now())

    assert Agent.objects.get(pk=agent.pk).last_heartbeat_at > timezone.now() - timedelta(seconds=5)


# Commands


SAID = [{"name": "add", "description": "", "input_schema": {}}]


def run_all():
    while execution := claims.claim(now=timezone.now() + timedelta(seconds=60)):
        executor.run(execution=execution, clock=timezone.now)
    for pk in Execution.objects.values_list("pk", flat=True):
        managed.take_reading(execution_id=pk, now=timezone.now())
        managed.advance(execution_id=pk, now=timezone.now())


def says(runtime, **found):
    def script(request):
        return outcome(artifacts=(Artifact("result.json", json.dumps({"tools": SAID, **found}).encode()),))

    runtime.script = script


def test_a_command_is_asked_in_a_sandbox_and_its_tools_kept(federation, runtime):
    says(runtime)
    agent = add(federation, command=["python", "server.py"], files={"server.py": "x = 1"}, timeout_seconds=5)

    read(agent)
    execution = Execution.objects.get()
    run_all()

    assert json.loads(execution.file_contents()["job.json"])["command"] == ["python", "server.py"]
    assert (execution.file_contents()["server.py"], execution.network, execution.timeout_seconds) == (
        b"x = 1",
        False,
        20.0,
    )
    agent.refresh_from_db()
    assert (agent.availability, agent.capabilities, agent.mcp.reading) == ("available", ["add"], None)


def test_the_sweep_finds_a_reading_whose_end_nobody_heard(federation, runtime):
    says(runtime)
    read(add(federation, command=["x"]))
    while execution := claims.claim(now=timezone.now() + timedelta(seconds=60)):
        executor.run(execution=execution, clock=timezone.now)

    assert managed.watch(now=timezone.now()).to_advance == [Execution.objects.get().pk]


def test_a_call_of_a_command_is_one_execution(federation, runtime):
    says(runtime)
    read(add(federation, command=["x"]))
    run_all()
    says(runtime, result={"content": [], "structured": 42})

    call(federation, "add", {"a": 1})
    run_all()

    task = Task.objects.get()
    assert (task.state, task.result) == ("succeeded", {"content": [], "structured": 42})
    execution = Execution.objects.order_by("created_at").last()
    assert json.loads(execution.file_contents()["job.json"])["tool"] == "add"
    assert Attempt.objects.get().execution == execution


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({"exit_code": 1, "stderr": b"ModuleNotFoundError: mcp"}, "sandbox ended: ModuleNotFoundError: mcp"),
        ({"exit_code": None, "signal": 9, "breach": "memory"}, "limit of memory"),
        ({"artifacts": (Artifact("result.json", b"{"),)}, "left nothing"),
        ({"artifacts": (Artifact("result.json", b'{"tools": [1]}'),)}, "left nothing"),
        ({"artifacts": (Artifact("result.json", b'{"tools": null, "error": "broke off"}'),)}, "broke off"),
    ],
)
def test_a_command_that_cannot_be_asked_leaves_its_agent_unavailable_with_the_reason(federation, runtime, ends, words):
    runtime.script = lambda request: outcome(**ends)
    agent = add(federation, command=["x"])

    read(agent)
    run_all()

    agent.refresh_from_db()
    assert (agent.availability, agent.capabilities) == ("unavailable", [])
    assert words in agent.mcp.error


def test_a_change_after_which_the_tools_are_the_same_makes_it_available_again(federation, url, at_once):
    agent = read(add(federation, url=url))

    coordination.change_agent(agent=agent, mcp={"timeout_seconds": 7}, now=timezone.now())
    assert Agent.objects.get().availability == "unavailable"

    assert read(agent).availability == "available"


def test_another_command_is_asked_anew(federation, runtime):
    says(runtime)
    agent = add(federation, command=["x"])
    read(agent)
    run_all()

    coordination.change_agent(agent=agent, mcp={"command": ["y"]}, now=timezone.now())

    agent.refresh_from_db()
    assert (agent.availability, agent.mcp.command) == ("unavailable", ["y"])


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_call_is_given_up_and_a_slow_one_keeps_its_lease(url):
    """The real thread of conversations, with its renewals."""
    federation = factories.make_federation(lease_seconds=2)
    agent = add(federation, url=url)
    ended = threading.Event()
    tool_calls.read(agent_id=agent.pk, clock=timezone.now, then=ended.set)
    assert ended.wait(10)
    ended.clear()
    task = factories.make_task(federation, type="mcp.tool", payload={"tool": "sleep", "arguments": {"seconds": 20}})
    (attempt,) = dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
    managed.call(attempt_id=attempt.pk, clock=timezone.now, then=lambda _: ended.set())
    first = Attempt.objects.get().lease_expires_at

    while Attempt.objects.get().lease_expires_at == first:
        assert not ended.wait(0.05)
    attempts.cancel(task_id=task.pk, now=timezone.now())

    assert ended.wait(5)
    assert Task.objects.get().state == "cancelled"


def test_secret_headers_go_with_every_request_and_secrets_are_masked_in_what_it_says(federation, url, at_once):
    agent = read(add(federation, url=url, headers={"Authorization": "Bearer abc-secret-1"}))
    mcp_servers.asked_with.clear()

    task = call(federation, "fail", {"why": "abc-secret-1 is no good"})

    assert {each.get("authorization") for each in mcp_servers.asked_with} == {"Bearer abc-secret-1"}
    assert "abc-secret-1" not in task.error
    assert "[secret] is no good" in task.error
    servers.keep_error(server=agent.mcp, error="401: Bearer abc-secret-1", now=timezone.now())
    assert McpServer.objects.get().error == "401: [secret]"


def test_secret_variables_reach_the_program_and_no_row(federation, runtime):
    agent = add(federation, command=["python", "server.py"], env={"API_KEY": "abc-secret-1"})
    tool_calls.read(agent_id=agent.pk, clock=timezone.now, then=lambda: None)
    execution = Execution.objects.get()
    executions.rerun(execution=execution, by=None, now=timezone.now())
    while claimed := claims.claim(now=timezone.now() + timedelta(seconds=60)):
        executor.run(execution=claimed, clock=timezone.now)

    assert [request.env for request in runtime.requests] == [{"API_KEY": "abc-secret-1"}] * 2
    assert "abc-secret-1" not in str(list(Execution.objects.values()))


def test_secrets_of_another_key_are_asked_for_again(federation, url, at_once, runtime, settings):
    far = add(federation, url=url, headers={"X-Key": "abc-secret-1"})
    near = add(federation, "near", command=["python", "server.py"], env={"KEY": "abc-secret-1"})
    tool_calls.read(agent_id=near.pk, clock=timezone.now, then=lambda: None)
    settings.SECRET_KEY, former = "another", settings.SECRET_KEY
    for agent in (far, near):
        assert "another SECRET_KEY" in read(agent).mcp.error
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)
    assert (Execution.objects.get().state, runtime.requests) == ("failed", [])

    settings.SECRET_KEY_FALLBACKS = [former]
    assert read(far).mcp.error == ""
