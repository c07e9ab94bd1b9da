"""Pages of agents: each kind is made, its runtime shown, a handler written and gone back to."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from federation import agents, bus, coordination, credentials, readers, servers
from federation.models import Agent, Handler, McpServer, Sitting, Task
from tests import factories

pytestmark = pytest.mark.django_db
CODE = "def handle(payload):\n    return payload\n"
HANDLED = {"code": CODE, "types": "price risk", "template": "python", "timeout_seconds": "5", "memory_mb": "128"}
TOOLS = [{"name": "add", "description": "Adds <b>two</b> numbers.", "input_schema": {}}]


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def alice(account):
    client = Client()
    client.force_login(account.memberships.get().user)
    return client


@pytest.fixture
def federation(account):
    return factories.make_federation(account)


def address(account, name, pk):
    return reverse(f"federation:{name}", args=[account, pk])


def make(alice, account, federation, runtime, **form):
    wanted = {"name": "anna", "runtime": runtime, "max_concurrent_tasks": "2", "timeout_seconds": "5", **form}
    return alice.post(address(account, "agent-new", federation.pk), wanted)


def text(client, account, agent, name="agent"):
    answer = client.get(address(account, name, agent.pk))
    assert answer.status_code == 200
    return answer.content.decode()


@pytest.mark.parametrize("runtime", ["managed", "remote", "mcp"])
def test_each_kind_has_its_form(alice, account, federation, runtime):
    page = alice.get(address(account, "agent-new", federation.pk), {"runtime": runtime}).content.decode()

    assert f'value="{runtime}"' in page
    assert ("id_url" in page, "id_code" in page) == (runtime == "mcp", runtime != "remote")


def test_a_managed_agent_is_made_with_and_without_a_handler(alice, account, federation):
    make(alice, account, federation, "managed", name="plain", code="")
    made = make(alice, account, federation, "managed", name="own", **HANDLED)

    own, plain = Agent.objects.order_by("-name")[1], Agent.objects.order_by("-name")[0]
    assert made["Location"] == address(account, "agent", own.pk)
    assert (own.handler.types, own.handler.limits, plain.handler) == (["price", "risk"], {"memory_mb": 128}, None)
    assert "price" in text(alice, account, own)
    assert "Write one" in text(alice, account, plain)


def test_a_syntax_error_is_shown_with_its_line_and_nothing_is_made(alice, account, federation):
    answer = make(alice, account, federation, "managed", **{**HANDLED, "code": "x = 1\ndef handle(payload)\n"})

    assert (answer.status_code, Agent.objects.count()) == (422, 0)
    assert "line 2." in answer.content.decode()


def test_an_mcp_server_is_made_by_its_address_or_its_command(alice, account, federation):
    make(alice, account, federation, "mcp", name="far", url="https://tools.example/mcp", command="", code="")
    make(alice, account, federation, "mcp", name="near", url="", command="python 'my server.py'", code="x = 1\r\n")

    far, near = (McpServer.objects.get(agent__name=name) for name in ("far", "near"))
    assert (far.url, far.command) == ("https://tools.example/mcp", [])
    assert (near.command, near.files) == (["python", "my server.py"], {"server.py": "x = 1\n"})


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"url": "http://10.0.0.1/mcp"}, "must begin with https"),
        ({"url": "", "command": ""}, "Give either"),
        ({"command": "python 'x"}, "This is no command"),
    ],
)
def test_a_server_that_cannot_be_one_is_refused_at_its_field(alice, account, federation, form, words):
    answer = make(alice, account, federation, "mcp", **form)

    assert (answer.status_code, Agent.objects.count()) == (422, 0)
    assert words in answer.content.decode()


def test_the_page_of_a_server_shows_its_tools_or_why_they_are_not_known(alice, account, federation):
    make(alice, account, federation, "mcp", url="https://tools.example/mcp")
    server = McpServer.objects.select_related("agent__federation").get()
    assert "It is being asked" in text(alice, account, server.agent)

    servers.keep_error(server=server, error="It <i>sleeps</i>.", now=timezone.now())
    assert "It &lt;i&gt;sleeps&lt;/i&gt;." in text(alice, account, server.agent)

    servers.keep_tools(server=server, tools=TOOLS, now=timezone.now())
    page = text(alice, account, server.agent)
    assert "Adds &lt;b&gt;two&lt;/b&gt; numbers." in page
    asked = alice.post(address(account, "agent-tools", server.agent_id), follow=True)
    assert "is being asked" in asked.content.decode()


def test_a_remote_agent_says_how_it_is_connected_and_gets_a_new_token(alice, account, federation):
    agent, token = factories.make_agent_with_token(federation)
    assert "not said hello" in text(alice, account, agent)
    Agent.objects.update(connection="websocket")
    assert "/ws/agents/" in text(alice, account, agent)

    page = alice.post(address(account, "agent-token", agent.pk)).content.decode()

    assert "nta_" in page
    assert f"python3 manage.py agent --agent {agent.pk}" in page
    assert agents.by_token(token) is None


def test_a_managed_agent_has_no_token_to_renew_and_no_tools_to_read(alice, account, federation):
    agent = factories.make_agent(federation, runtime="managed")

    assert "Only remote agents" in alice.post(address(account, "agent-token", agent.pk), follow=True).content.decode()
    assert "no MCP server" in alice.post(address(account, "agent-tools", agent.pk), follow=True).content.decode()


def test_a_handler_is_edited_and_an_older_version_gone_back_to(alice, account, federation):
    agent = factories.make_agent(federation, runtime="managed")
    editor = address(account, "agent-handler", agent.pk)
    assert "def handle(payload):" in alice.get(editor).content.decode()

    for code in (CODE, CODE + "# two\n"):
        assert alice.post(editor, {**HANDLED, "code": code}).status_code == 302
    first = alice.get(editor, {"version": "1"}).content.decode()

    assert "# two" not in first
    assert "in force" in first
    assert Agent.objects.get().handler.version == 2
    assert "# two" in alice.get(editor, {"version": "7"}).content.decode()
    refused = alice.post(editor, {**HANDLED, "code": "def handle(:\n"})
    assert (refused.status_code, Handler.objects.count()) == (422, 2)
    assert "line 1." in refused.content.decode()


def test_who_only_sees_edits_nothing(account, federation):
    agent = coordination.add_agent(
        federation=federation, name="own", handler={"code": CODE}, by="Alice", now=timezone.now()
    )[0]
    vera = Client()
    vera.force_login(factories.make_viewer(account))

    page = text(vera, account, agent)
    assert "Edit" not in page.split("Handler")[1][:200]
    for name in ("agent-handler", "agent-tools", "agent-token"):
        assert vera.post(address(account, name, agent.pk)).status_code == 403


def test_a_task_begins_with_a_sample_of_its_type(alice, account, federation):
    factories.make_agent(federation, runtime="managed")
    new = address(account, "task-new", federation.pk)

    page = alice.get(new, {"type": "train"}).content.decode()
    made = alice.post(new, {"type": "train", "payload": '{"model": "logistic"}', "priority": 5, "max_attempts": 3})
    wrong = alice.post(new, {"type": "train", "payload": '{"model": "forest"}', "priority": 5, "max_attempts": 3})

    assert "&quot;model&quot;: &quot;ridge&quot;" in page
    assert (made.status_code, wrong.status_code) == (302, 422)
    assert "one of ridge, logistic" in wrong.content.decode()


def test_a_trained_model_leads_to_a_prediction_with_it(alice, account, federation):
    factories.make_agent(federation, runtime="managed")
    new = address(account, "task-new", federation.pk)
    assert "id of a train task that succeeded" in alice.get(new, {"type": "infer"}).content.decode()
    task = factories.make_task(federation, type="train", payload={})
    Task.objects.filter(pk=task.pk).update(state="succeeded", result={}, finished_at=timezone.now())

    page = alice.get(address(account, "task", task.pk)).content.decode()
    begun = alice.get(new, {"type": "infer"}).content.decode()
    wrong = alice.post(new, {"type": "infer", "payload": f'{{"model": "{task.pk}"}}', "priority": 5, "max_attempts": 3})
    unreadable = alice.post(new, {"type": "infer", "payload": "{}", "priority": 5, "max_attempts": 3})

    assert f"?type=infer&amp;model={task.pk}" in page
    assert str(task.pk) in begun
    assert (wrong.status_code, unreadable.status_code) == (422, 422)
    assert "Train it again" in wrong.content.decode()
    assert "The model is the id" in unreadable.content.decode()


@pytest.mark.usefixtures("runtime")
def test_the_page_says_who_reads_the_inbox_and_what_became_of_it(alice, account, federation):
    make(alice, account, federation, "managed", name="deaf", **HANDLED)
    make(
        alice,
        account,
        federation,
        "managed",
        name="reads",
        **{**HANDLED, "code": "def on_message(message):\n    pass\n"},
    )
    deaf, reads = Agent.objects.get(name="deaf"), Agent.objects.get(name="reads")
    for other, agent in ((deaf, reads), (reads, deaf)):
        bus.send(federation=federation, draft=bus.Draft(other.pk, agent.pk), now=timezone.now())
    Sitting.objects.create(
        agent=reads, handler=reads.handler, taken=3, done=2, failed=1, error="<no>",
        execution=factories.make_execution(account),
        started_at=timezone.now(), ended_at=timezone.now(),
    )  # fmt: skip
    readers.explain(agent=reads, why="Insufficient credits.")

    page = text(alice, account, reads)
    assert "<code>on_message</code> of its handler" in page
    assert "3 messages</a>: 2 done, 1 failed" in page
    assert "&lt;no&gt;" in page
    assert "Its messages wait: Insufficient credits." in page
    silent = text(alice, account, deaf)
    assert "1 message<" in silent
    assert "has no <code>on_message(message)</code>" in silent


def test_a_server_is_changed_on_its_page_and_its_secrets_are_not_shown(alice, account, federation):
    form = {"command": "", "code": "", "template": "python", "timeout_seconds": "5", "secrets": ""}
    make(
        alice,
        account,
        federation,
        "mcp",
        url="https://tools.example/mcp",
        **(form | {"secrets": "X-Key: abc-secret\n\nx-two: 2"}),
    )
    agent = Agent.objects.get()
    editor = address(account, "agent-server", agent.pk)
    page = alice.get(editor).content.decode()
    assert ("https://tools.example/mcp" in page, 'value="x-key"' in page, "abc-secret" in page) == (True, True, False)
    assert "Secret headers: <code>x-key</code>" in text(alice, account, agent)

    wrong = alice.post(editor, {**form, "url": "http://10.0.0.1/mcp", "secrets": "X-Key: def-secret"})
    assert (wrong.status_code, "must begin with https" in wrong.content.decode()) == (422, True)
    assert "def-secret" not in wrong.content.decode()
    for bad, words in (
        ({"secrets": "no sign"}, "Line 1"),
        ({"secrets": "Host: x"}, "cannot be a header"),
        ({"url": ""}, "Give either"),
    ):
        assert words in alice.post(editor, {**form, "url": "https://tools.example/mcp", **bad}).content.decode()
    changed = alice.post(
        editor, {**form, "url": "https://tools.example/new", "secrets": "X-Key: def:secret", "forgotten": ["x-two"]}
    )

    server = McpServer.objects.get()
    assert (changed.status_code, server.url, credentials.opened(server)) == (
        302,
        "https://tools.example/new",
        {"x-key": "def:secret"},
    )


def test_a_command_is_changed_on_its_page_and_keeps_its_other_files(alice, account, federation):
    agent = factories.make_mcp_agent(
        federation, command=["python", "server.py"], files={"server.py": "x = 1", "b.py": "y = 2"}
    )
    form = {
        "url": "",
        "command": "python 'my server.py'",
        "code": "x = 3\r\n",
        "template": "python",
        "timeout_seconds": "7",
    }

    alice.post(address(account, "agent-server", agent.pk), {**form, "secrets": "API_KEY=a=b"})

    server = McpServer.objects.get()
    assert (server.command, server.timeout_seconds) == (["python", "my server.py"], 7)
    assert (server.files, credentials.opened(server)) == ({"server.py": "x = 3\n", "b.py": "y = 2"}, {"API_KEY": "a=b"})
    assert "Secret variables: <code>API_KEY</code>" in text(alice, account, agent)


def test_only_a_server_has_the_settings_of_one(alice, account, federation):
    agent = factories.make_agent(federation, runtime="managed")

    answer = alice.get(address(account, "agent-server", agent.pk), follow=True)
    assert "is no MCP server" in answer.content.decode()
