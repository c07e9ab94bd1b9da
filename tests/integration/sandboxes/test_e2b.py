"""The adapter of the E2B cloud where it is more than a runtime: what it asks of E2B, and what E2B's failures mean."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from sandboxes.limits import Limits
from sandboxes.runtimes import InvalidRequest, Needs, RuntimeLost, RuntimeUnavailable
from sandboxes.runtimes.e2b import cloud as e2b_cloud
from sandboxes.runtimes.e2b import runtime as e2b_runtime
from tests import fake_e2b
from tests.integration.sandboxes import outside
from tests.integration.sandboxes.daemons import eventually, make_request, node, run, watch

CREATE = "/v2/sandboxes"


def is_empty(cloud) -> bool:
    return eventually(lambda: not cloud.fake.machines)


def creations(cloud) -> int:
    return sum(1 for asked in cloud.fake.asked if asked == ("POST", CREATE))


# --- what it asks of E2B


def test_the_sandbox_is_made_for_this_request_and_killed_after_it(cloud):
    request = make_request("print(1)", timeout_seconds=20)

    ran = watch(cloud.runtime, request)

    assert ran.started[0].sandbox.startswith("i")
    assert not ran.started[0].warm
    assert is_empty(cloud)
    made = cloud.fake.made[0]
    assert made["templateID"] == "code-interpreter-v1"
    assert made["metadata"] == {"ntd": "execution", "ntd-request": request.id}
    assert made["allow_internet_access"] is False
    assert made["network"] == {"allowPublicTraffic": False}
    assert 20 < made["timeout"] <= 200


def test_the_network_is_open_only_for_who_asked(cloud):
    run(cloud.with_plan(network="outward"), "pass", network=True)

    assert cloud.fake.made[0]["allow_internet_access"] is True


ASKING = """
import http.client, os, urllib.parse
proxy = urllib.parse.urlsplit(os.environ['http_proxy'])
asking = http.client.HTTPConnection(proxy.hostname, proxy.port)
asking.request('GET', 'http://127.0.0.1:{port}/x')
answer = asking.getresponse()
print(answer.status, answer.read().decode())
"""


def test_what_goes_over_the_network_goes_through_the_gateway_and_is_counted(cloud):
    with outside.web() as web:
        port = web.server_address[1]

        outcome = run(cloud.with_plan(network=f"127.0.0.1:{port}"), ASKING.format(port=port), network=True)

    assert outcome.stdout == b"200 hello /x\n"
    assert [(method, path) for method, path, _ in web.seen] == [("GET", "/x")]
    assert outcome.network_sent_bytes > 20
    assert outcome.network_received_bytes > len("hello /x")


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("outward", b"403 127.0.0.1 is a loopback address. Sandboxes reach public addresses only."),
        ("prices.example:443", b"is not among the places this sandbox may reach."),
    ],
)
def test_where_the_operator_did_not_allow_it_the_gateway_refuses_at_e2b_too(cloud, policy, sentence):
    with outside.web() as web:
        asking = ASKING.format(port=web.server_address[1])

        outcome = run(cloud.with_plan(network=policy), asking, network=True)

    assert sentence in outcome.stdout
    assert web.seen == []
    assert outcome.network_sent_bytes == 0


def test_there_is_no_way_out_but_the_gateway(cloud):
    with outside.web() as web:
        port = web.server_address[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"

        outcome = run(cloud.with_plan(network="outward"), code, network=True)

    assert b"ConnectionRefusedError" in outcome.stderr
    assert web.seen == []


@pytest.mark.skipif(not node(), reason="there is no node on this computer")
def test_node_programs_run_in_their_own_template(cloud):
    outcome = run(cloud.runtime, "console.log(6 * 7)", language="node")

    assert outcome.stdout == b"42\n"
    assert cloud.fake.made[0]["templateID"] == "base"


def test_the_lease_is_never_longer_than_the_account_allows(cloud):
    runtime = cloud.with_plan(longest_seconds=100)

    run(runtime, "pass", timeout_seconds=60)

    assert cloud.fake.made[0]["timeout"] == 100


def test_the_environment_of_the_process_does_not_interfere(cloud, monkeypatch):
    monkeypatch.setenv("E2B_API_KEY", "e2b_ffffffffffffffff")
    monkeypatch.setenv("E2B_DEBUG", "true")
    monkeypatch.setenv("E2B_DOMAIN", "elsewhere.invalid")

    assert run(cloud.with_plan(), "print(1)").stdout == b"1\n"


def test_the_program_has_no_rights_and_one_place_to_write(cloud):
    code = """
import os
for path in ("/opt/ntd/guest.py", "/home/user/x", "/etc/x", "/x", "/opt/ntd/out/x"):
    try:
        open(path, "w")
        print("wrote", path)
    except OSError:
        pass
for path in ("/workspace/x", "/tmp/x", "/dev/shm/x"):
    open(path, "w").write("x")
print(open("/proc/self/status").read().split("CapEff:")[1].split()[0], len([p for p in os.listdir("/proc") if p.isdigit()]))
"""
    outcome = run(cloud.runtime, code)

    assert outcome.stdout == b"0000000000000000 2\n"


def test_a_program_that_eats_memory_or_disk_is_told_which_limit_it_was(cloud):
    memory = run(cloud.runtime, "x = [bytearray(1 << 20) for _ in range(300)]", limits={"memory_mb": 64})
    disk = run(cloud.runtime, "open('x', 'wb').write(bytes(20 << 20))", limits={"disk_mb": 8})

    assert (memory.breach, memory.exit_code == 0) == ("memory", False)
    assert (disk.breach, disk.exit_code) == ("disk", 1)


def test_a_program_that_forks_without_end_is_stopped_by_its_own_limit(cloud):
    code = "import subprocess, time\nwhile True: subprocess.Popen(['sleep', '5'])"

    outcome = run(cloud.runtime, code, limits={"processes": 8})

    assert outcome.breach == "processes"


CGROUP = {
    "cgroup.controllers": "cpuset cpu io memory pids",
    "cgroup.subtree_control": "",
    "ntd/cgroup.procs": "",
    "ntd/memory.max": "max",
    "ntd/memory.oom.group": "0",
    "ntd/memory.current": "4096",
    "ntd/memory.peak": "123456789",
    "ntd/memory.events": "oom 0\noom_kill 0",
    "ntd/pids.max": "max",
    "ntd/pids.events": "max 0",
    "ntd/cpu.max": "max 100000",
    "ntd/cpu.stat": "usage_usec 777000",
}


def test_where_the_machine_has_cgroups_they_bound_and_count(cloud):
    cloud.fake.templates["bare"] = fake_e2b.Template("bareid", 2, 512, cgroup=tuple(CGROUP.items()))
    runtime = cloud.with_plan(templates={"python": "bare"})
    seen: dict[str, str] = {}

    def look(*_: Any) -> None:
        [machine] = cloud.fake.machines.values()
        for name in ("memory.max", "pids.max", "cpu.max", "cgroup.procs"):
            seen[name] = (machine.root / "sys/fs/cgroup/ntd" / name).read_text()

    request = make_request("print(1)", limits=Limits(cpu=0.5, memory_mb=96, processes=20))
    outcome = runtime.run(request, on_started=look, on_output=lambda *_: None)

    assert seen["memory.max"] == str(96 << 20)
    assert seen["pids.max"].startswith("20")
    assert seen["cpu.max"].startswith("50000 100000")
    assert seen["cgroup.procs"] == "0"
    assert (outcome.exit_code, outcome.cpu_ms, outcome.peak_memory_bytes) == (0, 777.0, 123456789)


@pytest.mark.parametrize(
    ("counted", "breach"),
    [({"ntd/memory.events": "oom 1\noom_kill 1"}, "memory"), ({"ntd/pids.events": "max 3"}, "processes")],
)
def test_what_the_kernel_counted_names_the_limit(cloud, counted, breach):
    cloud.fake.templates["bare"] = fake_e2b.Template("bareid", 2, 512, cgroup=tuple((CGROUP | counted).items()))

    outcome = run(cloud.with_plan(templates={"python": "bare"}), "raise SystemExit(1)")

    assert outcome.breach == breach


# --- what it will not do


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"limits": Limits(cpu=4)}, "limits.cpu", "A sandbox at E2B has 2 CPUs."),
        ({"limits": Limits(memory_mb=2048)}, "limits.memory_mb", "A sandbox at E2B has 1024 MB."),
        ({"timeout_seconds": 3600}, "timeout_seconds", "A program at E2B may run for 3570 seconds at most."),
        ({"template": "python-0123"}, "template", "Built templates run on this installation's own nodes, not at E2B."),
        ({"language": "cobol"}, "language", "There is no E2B template for this language."),
        ({"network": True}, "network", "Sandboxes have no network here."),
    ],
)
def test_what_it_could_not_keep_it_says_and_refuses(cloud, changes, field, sentence):
    usual: dict[str, Any] = {"language": "python", "timeout_seconds": 60, "limits": Limits()}

    assert cloud.runtime.objections(Needs(**usual | changes)) == {field: sentence}
    with pytest.raises(InvalidRequest):
        cloud.runtime.run(make_request("pass", **changes), on_started=print, on_output=print)
    assert cloud.fake.made == []


def test_a_machine_smaller_than_the_settings_say_refuses_instead_of_pretending(cloud):
    runtime = cloud.with_plan(cpus=4096)

    with pytest.raises(InvalidRequest, match=r"The sandbox has \d+ CPUs, not 8\. Ask for less"):
        # As many as may be asked for; no computer of ours that runs tests is that large.
        run(runtime, "pass", limits={"cpu": 8})
    assert is_empty(cloud)


# --- what E2B's failures mean


def test_a_refused_key_says_so_without_telling_it(cloud, caplog):
    key = "e2b_" + "ab" * 20
    runtime = cloud.with_plan(api_key=key)

    with pytest.raises(RuntimeUnavailable, match="correct E2B_API_KEY") as refused:
        run(runtime, "pass")

    said = runtime.describe()
    assert said["engine"] is None
    assert "E2B_API_KEY" in said["reasons"][0]
    assert key not in f"{refused.value!r} {said} {caplog.text} {runtime.plan!r}"


def test_a_missing_template_names_the_settings(cloud):
    runtime = cloud.with_plan(templates={"python": "no-such", "node": "base"})

    with pytest.raises(RuntimeUnavailable, match="no E2B template no-such .* E2B_TEMPLATE_PYTHON"):
        run(runtime, "pass")
    assert "no-such" in runtime.describe()["reasons"][0]


def test_a_rate_limit_is_waited_for_as_told(cloud):
    cloud.fake.trouble(CREATE, status=429, message="Rate limit exceeded", headers={"Retry-After": "1"})
    began = time.monotonic()

    outcome = run(cloud.runtime, "print(1)")

    assert outcome.stdout == b"1\n"
    assert time.monotonic() - began >= 1
    assert creations(cloud) == 2


def test_an_account_that_is_full_for_too_long_loses_the_attempt(cloud, monkeypatch):
    monkeypatch.setattr(e2b_cloud, "PATIENCE_SECONDS", 0.5)
    cloud.fake.most = 0

    with pytest.raises(RuntimeLost, match="maximum number of concurrent E2B sandboxes"):
        run(cloud.runtime, "pass")


@pytest.mark.parametrize(
    ("trouble", "failure", "match"),
    [
        ({"status": 503, "message": "no capacity"}, RuntimeLost, "no capacity"),
        ({"status": 500, "message": "broken"}, RuntimeLost, "broken"),
        ({"status": 400, "message": "Timeout cannot be greater than 1 hours"}, InvalidRequest, "greater than 1 hours"),
        ({"status": 403, "message": "no access"}, RuntimeUnavailable, "There is no E2B template"),
        ({"drop": True}, RuntimeLost, "E2B, making a sandbox"),
    ],
)
def test_a_failed_creation_means_what_it_means(cloud, monkeypatch, trouble, failure, match):
    monkeypatch.setattr(e2b_cloud, "PATIENCE_SECONDS", 1)
    cloud.fake.trouble(CREATE, times=100, **trouble)

    with pytest.raises(failure, match=match):
        run(cloud.runtime, "pass")


@pytest.mark.parametrize(
    ("path", "trouble", "failure", "match"),
    [
        ("/files", {"status": 507, "message": "not enough disk space"}, InvalidRequest, "do not fit on the disk"),
        ("/files", {"status": 502, "message": "The sandbox was not found"}, RuntimeLost, "was not found"),
        ("/files", {"status": 401, "message": "unauthorized access"}, RuntimeUnavailable, "E2B_API_KEY"),
        ("/files", {"drop": True}, RuntimeLost, "putting the files in"),
        ("/process.Process/Start", {"status": 502, "message": "port is not open"}, RuntimeLost, "port is not open"),
        ("/process.Process/Start", {"status": 429, "message": "too many"}, RuntimeLost, "slow down"),
        ("/process.Process/Start", {"drop": True}, RuntimeLost, "starting the program"),
    ],
)
def test_a_failure_inside_ends_the_attempt_and_the_sandbox(cloud, path, trouble, failure, match):
    cloud.fake.trouble(path, **trouble)

    with pytest.raises(failure, match=match):
        run(cloud.runtime, "pass")
    assert is_empty(cloud)


def test_a_dropped_stream_is_a_lost_sandbox(cloud):
    cloud.fake.drop_streams_after = 2

    with pytest.raises(RuntimeLost, match="E2B, running the program"):
        run(cloud.runtime, "import time; print('x', flush=True); time.sleep(20)")
    assert is_empty(cloud)


def test_a_sandbox_whose_time_is_over_is_a_lost_one(cloud):
    request = make_request("import time; print('go', flush=True); time.sleep(20)")

    with pytest.raises(RuntimeLost, match="killed or reached its"):
        cloud.runtime.run(
            request, on_started=lambda _: None, on_output=lambda *_: cloud.fake.advance(cloud.fake.made[0]["timeout"])
        )


def test_a_template_without_python_is_named(cloud):
    cloud.fake.templates["bare"] = fake_e2b.Template("bareid", 2, 512, has_python=False)
    runtime = cloud.with_plan(templates={"python": "bare", "node": "bare"})

    with pytest.raises(RuntimeUnavailable, match="template bare has no python3"):
        run(runtime, "pass")


def test_artifacts_that_cannot_be_fetched_lose_the_attempt(cloud):
    request = make_request("open('artifacts/x', 'w').write('x')")

    def break_downloads(*_: Any) -> None:
        cloud.fake.trouble("/files", status=500)

    with pytest.raises(RuntimeLost, match="fetching the artifacts"):
        cloud.runtime.run(request, on_started=break_downloads, on_output=lambda *_: None)


# --- cancelling, and callers that fail


def cancelled_during(cloud, request, ready) -> Any:
    """The outcome of a run cancelled once `ready` holds."""
    ended: list[Any] = []
    went = threading.Event()
    arguments = {"on_started": lambda _: None, "on_output": lambda *_: went.set()}
    thread = threading.Thread(target=lambda: ended.append(cloud.runtime.run(request, **arguments)))
    thread.start()
    assert eventually(lambda: ready(went))
    assert cloud.runtime.cancel(request.id)
    thread.join(10)
    return ended[0]


@pytest.mark.parametrize("path", [CREATE, "/files", "/process.Process/Start"])
def test_one_that_is_still_being_made_is_cancelled_at_once_and_its_sandbox_killed(cloud, path):
    request = make_request("print('never')")

    with cloud.fake.hold(path):
        outcome = cancelled_during(cloud, request, lambda _: ("POST", path) in cloud.fake.asked)

    assert (outcome.cancelled, outcome.stdout, outcome.duration_ms) == (True, b"", 0.0)
    assert eventually(lambda: len(cloud.fake.made) == 1)
    assert is_empty(cloud)


def test_a_guest_that_does_not_hear_is_killed_with_its_sandbox(cloud):
    request = make_request("import time; print('go', flush=True); time.sleep(20)")

    with cloud.fake.hold("/process.Process/SendInput"):
        outcome = cancelled_during(cloud, request, lambda went: went.is_set())
        assert is_empty(cloud)

    assert (outcome.cancelled, outcome.stdout, outcome.signal) == (True, b"go\n", 9)
    assert outcome.duration_ms > 0


def test_of_a_guest_that_does_not_hear_is_known_what_it_last_said(cloud):
    """It prints once a second has gone, so that it has said what it used before."""
    code = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint('go', flush=True)\ntime.sleep(20)"

    with cloud.fake.hold("/process.Process/SendInput"):
        outcome = cancelled_during(cloud, make_request(code), lambda went: went.is_set())

    assert outcome.cpu_ms > 10
    assert outcome.peak_memory_bytes > 1 << 20


def test_what_was_used_until_it_was_cancelled_is_told(cloud):
    request = make_request("print('go', flush=True)\nwhile True: pass")

    outcome = cancelled_during(cloud, request, lambda went: went.is_set())

    assert outcome.cancelled
    assert outcome.cpu_ms > 0
    assert outcome.peak_memory_bytes > 1 << 20


def test_a_caller_that_fails_leaves_no_sandbox_behind(cloud):
    request = make_request("import time; print('go', flush=True); time.sleep(20)")

    def fail(*_: Any) -> None:
        raise OSError("the caller's disk is full")

    with pytest.raises(OSError, match="disk is full"):
        cloud.runtime.run(request, on_started=lambda _: None, on_output=fail)
    assert is_empty(cloud)


# --- what is left behind, and what is known of the account


def test_a_sandbox_whose_making_was_never_answered_can_be_found_and_killed(cloud):
    cloud.fake.trouble(CREATE, lose_answer=True)
    request = make_request("pass")

    with pytest.raises(RuntimeLost):
        cloud.runtime.run(request, on_started=print, on_output=print)

    [left] = cloud.runtime.held()
    assert left.request_id == request.id
    assert cloud.runtime.kill(left.sandbox)
    assert not cloud.runtime.kill(left.sandbox)
    assert cloud.runtime.held() == []


def test_a_repeated_creation_gives_the_same_sandbox(cloud):
    made = [
        cloud.runtime._cloud.create(language="python", request_id="Ab_1", lease_seconds=60, network=False).sandbox_id
        for _ in range(2)
    ]

    assert made[0] == made[1]
    assert len(cloud.fake.machines) == 1


def test_only_what_was_made_for_executions_is_listed_on_however_many_pages(cloud, monkeypatch):
    monkeypatch.setattr(e2b_cloud, "PAGE", 2)
    for number in range(5):
        cloud.fake.make(
            {"metadata": {"ntd": "execution", "ntd-request": f"r {number}&="}, "ends_at": cloud.fake.now() + 60}
        )
    cloud.fake.make({"metadata": {"somebody": "else"}, "ends_at": cloud.fake.now() + 60})

    assert sorted(held.request_id for held in cloud.runtime.held()) == [f"r {number}&=" for number in range(5)]


def test_the_key_is_asked_about_once_a_minute_and_nobody_waits_for_it_again(cloud, monkeypatch):
    runtime = cloud.with_plan()
    lists = lambda: sum(1 for asked in cloud.fake.asked if asked == ("GET", "/v2/sandboxes"))  # noqa: E731

    for _ in range(3):
        assert runtime.describe()["engine"] == "E2B virtual machines"
    assert lists() == 1
    monkeypatch.setattr(e2b_runtime, "FRESH_SECONDS", -1.0)
    cloud.fake.trouble("/v2/sandboxes", status=401, times=100)

    with cloud.fake.hold("/v2/sandboxes"):
        assert runtime.describe()["engine"] == "E2B virtual machines"
    assert eventually(lambda: lists() >= 2 and runtime.describe()["engine"] is None)


def test_a_cloud_that_cannot_be_reached_is_said_without_its_address(cloud):
    nowhere = "http://127.0.0.1:9"
    runtime = cloud.with_plan(api_url=nowhere, sandbox_url=nowhere)

    [reason] = runtime.describe()["reasons"]

    assert reason.startswith("E2B cannot be reached, asking whether the key works: ")
    assert nowhere not in reason


def test_a_cloud_that_cannot_be_reached_is_known_after_the_first_attempt(cloud, monkeypatch):
    monkeypatch.setattr(e2b_cloud, "PATIENCE_SECONDS", 1)
    runtime = cloud.with_plan()
    assert runtime.describe()["engine"]
    cloud.fake.trouble(CREATE, drop=True)

    with pytest.raises(RuntimeLost):
        run(runtime, "pass")

    assert runtime.describe()["engine"] is None
    monkeypatch.setattr(e2b_runtime, "AGAIN_SECONDS", -1.0)
    assert eventually(lambda: runtime.describe()["engine"] == "E2B virtual machines")
