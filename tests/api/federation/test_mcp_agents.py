import pytest
from django.utils import timezone

from federation import servers
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
