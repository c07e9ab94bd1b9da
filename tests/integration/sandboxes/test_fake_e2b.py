"""The fake E2B cloud is as strict as the real one, in the real one's words; the SDK finds its way about in it."""

from __future__ import annotations

import http.client
import json
from typing import Any

import e2b
import pytest

from tests.integration.sandboxes.daemons import eventually

ENVD = {"E2b-Sandbox-Port": "49983"}


@pytest.fixture
def fake(cloud):
    return cloud.fake


@pytest.fixture
def client(fake):
    return e2b.E2B(api_key=fake.key, api_url=fake.url, sandbox_url=fake.url, retries=0, request_timeout=10)


def call(fake, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(fake.url.rpartition(":")[2]), timeout=10)
    sent = {"X-API-Key": fake.key, "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    content = body if isinstance(body, bytes) or body is None else json.dumps(body)
    connection.request(method, path, content, sent)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text[:1] in b"{[" and text else text


def create(fake, path: str = "/v2/sandboxes", **body: Any) -> tuple[int, Any]:
    return call(fake, "POST", path, {"templateID": "base"} | body)


def inside(fake, made: dict[str, Any], **changes: str) -> dict[str, str]:
    return {"E2b_Sandbox_Id": made["sandboxID"], "E2b_Sandbox_Port": "49983"} | {
        "X_Access_Token": made["envdAccessToken"],
        **changes,
    }


# --- the control plane


@pytest.mark.parametrize("key", ["", "e2b_wrong"])
def test_no_call_works_without_the_key(fake, key):
    status, problem = call(fake, "GET", "/v2/sandboxes", X_API_Key=key)

    assert (status, problem["code"]) == (401, 401)
    assert "Invalid API key" in problem["message"]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"templateID": "none"}, 404, "template 'none' not found"),
        ({"templateID": 3}, 400, "templateID"),
        ({"timeout": 0}, 400, "Timeout must be greater than 0"),
        ({"timeout": 3601}, 400, "Timeout cannot be greater than 1 hours"),
        ({"timeout": "60"}, 400, "timeout"),
        ({"metadata": {"a": 1}}, 400, "metadata"),
        ({"allow_internet_access": "no"}, 400, "allow_internet_access"),
        ({"allowInternetAccess": False}, 400, 'property "allowInternetAccess" is unsupported'),
        ({"secure": True}, 400, 'property "secure" is unsupported'),
    ],
)
def test_a_wrong_creation_is_refused(fake, changes, status, message):
    answered, problem = create(fake, **changes)

    assert (answered, problem["code"]) == (status, status)
    assert message in problem["message"]


def test_a_template_may_be_named_by_its_id(fake):
    assert create(fake, templateID=fake.templates["base"].id)[0] == 201


def test_a_body_that_is_no_object_or_no_json_is_refused(fake):
    assert call(fake, "POST", "/v2/sandboxes", b"{")[0] == 400
    assert call(fake, "POST", "/v2/sandboxes", [])[0] == 400
    assert call(fake, "POST", "/v2/sandboxes", {"templateID": "base"}, Content_Type="text/plain")[0] == 400


def test_the_first_version_secures_only_who_asks(fake):
    plain, secured = create(fake, "/sandboxes")[1], create(fake, "/sandboxes", secure=True)[1]

    assert "envdAccessToken" not in plain
    assert secured["envdAccessToken"]
    assert create(fake, "/sandboxes", network={"allowPublicTraffic": False})[0] == 400


def test_one_more_than_the_account_may_have_is_refused(fake):
    fake.most = 1

    assert create(fake)[0] == 201
    status, problem = create(fake)
    assert status == 429
    assert "you have reached the maximum number of concurrent E2B sandboxes (1)" in problem["message"]


def test_a_repeated_key_gives_the_first_answer(fake):
    first, again = (call(fake, "POST", "/v2/sandboxes", {"templateID": "base"}, Idempotency_Key="k-1")[1] for _ in "ab")

    assert first == again
    assert call(fake, "POST", "/v2/sandboxes", {"templateID": "base"}, Idempotency_Key="K_1")[0] == 400


def test_an_unknown_sandbox_is_404_for_every_call(fake):
    for method, path, body in (
        ("GET", "/sandboxes/inone", None),
        ("DELETE", "/sandboxes/inone", None),
        ("POST", "/sandboxes/inone/timeout", {"timeout": 1}),
        ("POST", "/sandboxes/inone/connect", {"timeout": 1}),
        ("POST", "/v2/sandboxes/inone/connect", {"timeout": 1}),
    ):
        status, problem = call(fake, method, path, body)
        assert status == 404
        assert "doesn't exist or you don't have access to it" in problem["message"]


def test_connecting_lengthens_a_life_and_never_shortens_it(fake):
    made = create(fake, timeout=100)[1]
    machine = fake.machines[made["sandboxID"]]
    before = machine.ends_at

    call(fake, "POST", f"/v2/sandboxes/{machine.id}/connect", {"timeout": 10})
    assert machine.ends_at == before
    call(fake, "POST", f"/sandboxes/{machine.id}/connect", {"timeout": 1000})
    assert machine.ends_at > before + 800


def test_lists_are_filtered_paged_and_newest_first(fake, client):
    for number in range(3):
        create(fake, metadata={"of": "a&b =c", "n": str(number)})
    create(fake, metadata={"of": "another"})
    pages = client.Sandbox.list(query=e2b.SandboxQuery(metadata={"of": "a&b =c"}), limit=2)

    first, second = pages.next_items(), pages.next_items()

    assert [each.metadata["n"] for each in [*first, *second]] == ["2", "1", "0"]
    assert not pages.has_next


def test_time_passes_and_ends_a_sandbox(fake):
    made = create(fake, timeout=100)[1]

    fake.advance(99)
    assert call(fake, "GET", f"/sandboxes/{made['sandboxID']}")[0] == 200
    fake.advance(2)
    assert call(fake, "GET", f"/sandboxes/{made['sandboxID']}")[0] == 404


# --- inside


def test_a_sandbox_that_is_gone_is_told_in_the_proxys_words(fake):
    made = create(fake)[1]
    headers = inside(fake, made)
    assert call(fake, "GET", "/health", **headers)[0] == 204
    fake.end(made["sandboxID"])

    status, problem = call(fake, "GET", "/health", **headers)

    assert (status, problem["message"]) == (502, "The sandbox was not found")


def test_another_port_is_not_open(fake):
    status, problem = call(fake, "GET", "/health", **inside(fake, create(fake)[1], E2b_Sandbox_Port="8000"))

    assert (status, problem["message"]) == (502, "The sandbox is running but port is not open")


def test_without_its_token_only_the_health_is_told(fake):
    headers = inside(fake, create(fake)[1], X_Access_Token="wrong")

    assert call(fake, "GET", "/health", **headers)[0] == 204
    assert call(fake, "GET", "/files?path=/etc/passwd", **headers)[0] == 401
    assert call(fake, "POST", "/process.Process/List", {}, Connect_Protocol_Version="1", **headers)[0] == 401


def test_calls_that_are_not_connect_with_json_are_refused(fake):
    headers = inside(fake, create(fake)[1])
    method = "/process.Process/List"

    assert call(fake, "POST", method, {}, **headers)[0] == 400
    assert call(fake, "POST", method, {}, Connect_Protocol_Version="1", Content_Type="text/plain", **headers)[0] == 415
    assert call(fake, "POST", method, {}, Connect_Protocol_Version="1", **headers) == (200, {"processes": []})


def test_files_have_users_and_places(fake, client):
    sandbox = client.Sandbox.create("base")

    sandbox.files.write("notes/day.txt", "mine")
    sandbox.files.write_files([{"path": "/opt/a", "data": b"\x00\xff"}, {"path": "/opt/b", "data": "b"}], user="root")

    assert sandbox.files.read("/home/user/notes/day.txt") == "mine"
    assert sandbox.files.read("/opt/a", format="bytes", user="root") == bytearray(b"\x00\xff")
    with pytest.raises(e2b.FileNotFoundException):
        sandbox.files.read("/nowhere")
    with pytest.raises(e2b.AuthenticationException):
        sandbox.files.write("x", "x", user="stranger")


def test_commands_run_and_are_found_fed_and_ended(fake, client):
    sandbox = client.Sandbox.create("base", envs={"DESK": "fx"})

    said = sandbox.commands.run("echo $DESK; pwd; id -u; echo no >&2; exit 0")
    reading = sandbox.commands.run("cat", background=True, stdin=True)
    [listed] = sandbox.commands.list()
    reading.send_stdin("prices\n")
    reading.close_stdin()
    sleeping = sandbox.commands.run("sleep 30", background=True)
    assert sandbox.commands.kill(sleeping.pid)

    assert (said.stdout, said.stderr) == ("fx\n/home/user\n0\n", "no\n")
    assert listed.pid == reading.pid
    assert listed.args == ["-l", "-c", "cat"]
    assert reading.wait().stdout == "prices\n"
    with pytest.raises(e2b.CommandExitException) as ended:
        sleeping.wait()
    assert ended.value.exit_code == -1
    assert not sandbox.commands.kill(sleeping.pid)


def test_a_wrong_command_is_refused(fake, client):
    sandbox = client.Sandbox.create("base")

    with pytest.raises(e2b.CommandExitException) as ended:
        sandbox.commands.run("exit 3")
    with pytest.raises(e2b.InvalidArgumentException, match="does not exist"):
        sandbox.commands.run("true", cwd="/nowhere")
    with pytest.raises(e2b.AuthenticationException, match="invalid username"):
        sandbox.commands.run("true", user="stranger")
    assert ended.value.exit_code == 3


def test_a_command_past_its_time_is_killed(fake, client):
    sandbox = client.Sandbox.create("base")

    with pytest.raises(e2b.TimeoutException):
        sandbox.commands.run("sleep 30", timeout=0.3)
    assert eventually(lambda: sandbox.commands.list() == [])


def test_a_killed_sandbox_takes_its_streams_with_it(fake, client):
    sandbox = client.Sandbox.create("base")
    sleeping = sandbox.commands.run("sleep 30", background=True)

    assert sandbox.kill()

    with pytest.raises(e2b.SandboxNotRunningException):
        sleeping.wait()
    assert not sandbox.kill()
    assert not sandbox.is_running()


def test_another_client_connects_to_a_running_command(fake, client):
    sandbox = client.Sandbox.create("base", timeout=60)
    reading = sandbox.commands.run("read line; echo got $line", background=True, stdin=True)

    other = client.Sandbox.connect(sandbox.sandbox_id)
    other.commands.send_stdin(reading.pid, "it\n")

    assert reading.wait().stdout == "got it\n"
    assert other.get_info().state == e2b.SandboxState.RUNNING
    other.set_timeout(10)
    assert client.Template.exists("base")
    assert not client.Template.exists("none")
