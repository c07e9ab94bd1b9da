import pytest
from django.utils import timezone

from federation import credentials, servers
from federation.models import Agent, McpServer

pytestmark = pytest.mark.django_db
TOOLS = [{"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}]


def add(api, federation, **body):
    return api.post(f"federations/{federation.pk}/agents", {"name": "tools", "runtime": "mcp", **body})


def test_an_mcp_agent_is_made_and_says_its_tools_when_they_are_known(api, federation):
    made = add(api, federation, mcp={"url": "https://tools.example/mcp"})
    assert (made.status_code, made.json()["status"], made.json()["mcp"]["tools"]) == (201, "unavailable", None)

    servers.keep_tools(server=McpServer.objects.get(), tools=TOOLS, now=timezone.now())

    found = api.get(f"agents/{made.json()['id']}").json()
    assert (found["status"], found["capabilities"], found["mcp"]["tools"]) == ("idle", ["add"], TOOLS)
    assert (found["mcp"]["url"], found["mcp"]["error"], made.json()["token"]) == ("https://tools.example/mcp", "", None)
    listed = api.get(f"federations/{federation.pk}/agents", runtime="mcp").json()["results"]
    assert [each["mcp"]["tools"] for each in listed] == [TOOLS]


def test_a_command_comes_with_its_files_which_are_not_shown_again(api, federation):
    mcp = {"command": ["python", "server.py"], "files": {"server.py": "x = 1"}, "timeout_seconds": 5}

    body = add(api, federation, mcp=mcp).json()["mcp"]

    assert (body["command"], body["url"], body["timeout_seconds"], "files" in body) == (mcp["command"], "", 5, False)
    assert McpServer.objects.get().files == mcp["files"]


@pytest.mark.parametrize(
    ("mcp", "field", "words"),
    [
        (None, "mcp", "Give either"),
        ({}, "mcp", "Give either"),
        ({"url": "http://tools.example"}, "mcp.url", "https"),
        ({"url": "https://192.168.1.1/mcp"}, "mcp.url", "private address"),
        ({"command": ["x"], "template": "none such"}, "mcp.template", "no such template"),
        ({"command": ["x"], "files": {"/etc/passwd": ""}}, "mcp.files", "."),
        ({"command": []}, "mcp.command", "at least 1"),
        ({"command": "python"}, "mcp.command", "list"),
        ({"url": "https://tools.example", "timeout_seconds": 301}, "mcp.timeout_seconds", "300"),
        ({"url": "https://tools.example", "token": "x"}, "mcp.token", "Unknown field"),
    ],
)
def test_a_server_that_cannot_be_one_is_refused_with_its_field(api, federation, mcp, field, words):
    answer = add(api, federation, **({} if mcp is None else {"mcp": mcp}))

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert words in " ".join(answer.json()["errors"][field])
    assert Agent.objects.count() == 0


def test_its_address_is_changed_and_its_tools_read_anew(api, federation):
    agent = add(api, federation, mcp={"url": "https://tools.example/mcp"}).json()
    servers.keep_tools(server=McpServer.objects.get(), tools=TOOLS, now=timezone.now())

    changed = api.patch(f"agents/{agent['id']}", {"mcp": {"url": "https://others.example/mcp"}})

    assert changed.json()["mcp"]["url"] == "https://others.example/mcp"
    assert api.get(f"agents/{agent['id']}").json()["status"] == "unavailable"
    assert api.post(f"agents/{agent['id']}/tools").status_code == 202


def test_only_a_server_can_be_asked_for_tools(api, charlie, federation):
    plain = api.post(f"federations/{federation.pk}/agents", {"name": "plain"}).json()
    tools = add(api, federation, mcp={"url": "https://tools.example/mcp"}).json()

    assert api.post(f"agents/{plain['id']}/tools").status_code == 400
    assert api.patch(f"agents/{plain['id']}", {"mcp": {"url": "https://tools.example"}}).status_code == 400
    assert charlie.post(f"agents/{tools['id']}/tools").status_code == 404


SECRET = "s3cret-of-the-customer"
FAR, NEAR = {"url": "https://tools.example/mcp"}, {"command": ["python", "server.py"]}


def stored():
    """Everything that the database keeps of the server, as text."""
    return str(McpServer.objects.values().get())


def opened():
    return credentials.opened(McpServer.objects.get())


@pytest.mark.parametrize(("where", "kind", "name"), [(FAR, "headers", "authorization"), (NEAR, "env", "API_KEY")])
def test_secrets_are_kept_sealed_replaced_removed_and_never_shown(api, federation, where, kind, name):
    made = add(api, federation, mcp={**where, kind: {name: SECRET, "X_other": "two"}})
    path = f"agents/{made.json()['id']}"
    others = "X_other" if kind == "env" else "x_other"
    assert (made.status_code, sorted(made.json()["mcp"][kind])) == (201, sorted([name, others]))
    assert (opened()[name], SECRET in stored(), SECRET in made.content.decode()) == (SECRET, False, False)

    api.patch(path, {"mcp": {"timeout_seconds": 9}})
    assert opened() == {name: SECRET, others: "two"}
    api.patch(path, {"mcp": {kind: {name: "another"}}})
    assert opened() == {name: "another", others: "two"}
    left = api.patch(path, {"mcp": {kind: {name: None, "never_there": None}}})
    assert (left.status_code, opened()) == (200, {others: "two"})
    assert api.get(path).json()["mcp"][kind] == [others]


def test_a_secret_goes_to_the_server_it_was_given_for_and_no_other(api, federation):
    path = f"agents/{add(api, federation, mcp={**FAR, 'headers': {'X-Key': SECRET}}).json()['id']}"

    api.patch(path, {"mcp": {"url": "https://tools.example/other"}})
    assert opened() == {"x-key": SECRET}
    for url in ("https://evil.example/mcp", "https://tools.example/mcp"):
        api.patch(path, {"mcp": {"url": url}})
        assert opened() == {}
    api.patch(path, {"mcp": {"url": "https://new.example/mcp", "headers": {"X-Key": "new"}}})
    assert opened() == {"x-key": "new"}
    api.patch(path, {"mcp": NEAR})
    assert opened() == {}


WRONG = [
    (FAR, {"headers": {"Host": SECRET}}, "mcp.headers"),
    (FAR, {"headers": {"a b": SECRET}}, "mcp.headers"),
    (FAR, {"headers": {"X-Key": SECRET + "\r\nX-Two: 1"}}, "mcp.headers"),
    (FAR, {"headers": {"X-Key": f" {SECRET}"}}, "mcp.headers"),
    (FAR, {"headers": {"X-Key": f"{SECRET}\u00e9"}}, "mcp.headers"),
    (FAR, {"headers": {"X-Key": SECRET, "x-key": SECRET}}, "mcp.headers"),
    (FAR, {"headers": {"X-Key": ""}}, "mcp.headers"),
    (FAR, {"headers": {f"X-{n}": SECRET for n in range(31)}}, "mcp.headers"),
    (FAR, {"headers": {"X-Key": SECRET * 300}}, "mcp.headers.X-Key"),
    (FAR, {"headers": {"X-Key": 7}}, "mcp.headers.X-Key"),
    (FAR, {"headers": SECRET}, "mcp.headers"),
    (FAR, {"env": {"KEY": SECRET}}, "mcp.env"),
    (NEAR, {"headers": {"X-Key": SECRET}}, "mcp.headers"),
    (NEAR, {"env": {"1KEY": SECRET}}, "mcp.env"),
    (NEAR, {"env": {"KEY": f"{SECRET}\u0000"}}, "mcp.env"),
]


@pytest.mark.parametrize(("where", "secrets", "field"), WRONG)
def test_a_secret_that_cannot_be_one_is_refused_without_being_repeated(api, federation, where, secrets, field):
    answer = add(api, federation, mcp={**where, **secrets})

    assert (answer.status_code, list(answer.json()["errors"])[0].startswith(field.rpartition(".X-")[0] or field)) == (
        400,
        True,
    )
    assert SECRET not in answer.content.decode()
    assert McpServer.objects.count() == 0
