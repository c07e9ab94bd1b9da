"""A network on request, through the real engine: only outward, only as the policy says, counted, and gone at the end."""

from __future__ import annotations

import contextlib
import os
import socket
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sandboxes.runtimes import InvalidRequest, RuntimeLost, Size
from tests.integration.sandboxes import daemons, outside
from tests.integration.sandboxes.daemons import eventually, keep, make_request, run, watch

pytestmark = pytest.mark.enable_socket

# How a program speaks to its proxy by hand.
BY_HAND = """
import os, socket, struct, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ['http_proxy'])
def proxied():
    return socket.create_connection((proxy.hostname, proxy.port), timeout=10)
def read_all(s):
    parts = []
    try:
        while part := s.recv(65536): parts.append(part)
    except ConnectionResetError: pass
    return b''.join(parts)
def ask(text):
    with proxied() as s:
        s.sendall(text)
        return read_all(s)
def tunnel(host, port):
    s = proxied()
    s.sendall(f'CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\n'.encode())
    head = b''
    while not head.endswith(b'\\r\\n\\r\\n'): head += s.recv(1) or sys.exit('closed: ' + head.decode())
    return s if head.startswith(b'HTTP/1.1 200 ') else sys.exit(head.decode() + read_all(s).decode())
def status(host, port, timeout=10):
    s = proxied(); s.settimeout(timeout)
    s.sendall(f'CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\n'.encode())
    return s.recv(65536).split(b'\\r\\n')[0].decode()
"""


@contextlib.contextmanager
def serving(state: Path, policy: str, engine: str = "bubblewrap") -> Iterator[daemons.Daemon]:
    options = [*daemons.on(engine), "--ready", "1", "--running", "4", "--network", policy, "--node", daemons.node()]
    daemon = daemons.Daemon.start(state, *options)
    try:
        yield daemons.isolating(daemon, engine)
    finally:
        if daemon.child.poll() is None:
            daemon.stop()


@pytest.fixture(scope="module", params=daemons.ENGINES)
def outward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[daemons.Daemon]:
    """A daemon whose sandboxes reach public addresses only: nothing that a test could hit."""
    with serving(tmp_path_factory.mktemp("outward"), "outward", request.param) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def web():
    with outside.web() as server:
        yield server


@pytest.fixture(scope="module")
def echo():
    with outside.listening(outside.echo) as listener:
        yield listener


@pytest.fixture(scope="module", params=daemons.ENGINES)
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, web, echo
) -> Iterator[daemons.Daemon]:
    """A daemon whose sandboxes reach the two servers of the test and nothing else."""
    places = [f"{host}:{web.server_port}" for host in ("127.0.0.1", "localhost", OWN_NAME)]
    with serving(
        tmp_path_factory.mktemp("named"), ",".join([*places, f"127.0.0.1:{echo.port}"]), request.param
    ) as daemon:
        yield daemon


# gVisor's sandboxes are not kept.
keeping = pytest.mark.parametrize("named", ["bubblewrap"], indirect=True)
# A name that resolves to this machine and that no NO_PROXY names.
OWN_NAME = socket.gethostname()


def said(daemon, code: str, **changes) -> str:
    outcome = run(daemon.runtime, textwrap.dedent(code), network=True, **changes)
    assert outcome.exit_code == 0, outcome.stderr.decode()
    return outcome.stdout.decode()


def by_hand(daemon, code: str, **changes) -> str:
    return said(daemon, BY_HAND + textwrap.dedent(code), **changes)


# --- who honours a proxy gets out


def test_the_standard_library_reaches_a_named_place(named, web):
    code = f"""
    import urllib.request
    import os; os.environ['no_proxy'] = ''
    print(urllib.request.urlopen('http://127.0.0.1:{web.server_port}/prices?day=1').read().decode())
    print(urllib.request.urlopen('http://localhost:{web.server_port}/', data=b'x' * 100_000).read().decode())
    """

    assert said(named, code) == "hello /prices?day=1\ngot 100000\n"
    assert web.seen[-1][2]["Host"] == f"localhost:{web.server_port}"


@pytest.mark.parametrize(
    "options", [[], ["-p"], ["--proxy", "socks5h://127.0.0.1:3128"]], ids=["http", "tunnel", "socks"]
)
def test_curl_reaches_a_named_place(named, web, options):
    if not Path("/usr/bin/curl").exists():
        pytest.skip("curl is not installed")
    command = ["curl", "-sS", "--noproxy", "", *options, f"http://localhost:{web.server_port}/x"]

    assert said(named, f"import subprocess; print(subprocess.check_output({command}).decode())") == "hello /x\n"


def test_node_reaches_a_named_place_with_fetch_and_with_http(named, web):
    if not daemons.node():
        pytest.skip("there is no Node here: put node on PATH or set NTD_TEST_NODE")
    address = f"http://{OWN_NAME}:{web.server_port}"
    code = f"""
const http = require('http');
(async () => {{
  console.log(await (await fetch('{address}/fetched')).text());
  console.log(await (await fetch('{address}/', {{method: 'POST', body: 'x'.repeat(1000)}})).text());
  await fetch('http://{OWN_NAME}:9999/').catch(problem => console.log(String(problem.cause)));
  http.get('{address}/got', answer => answer.on('data', part => console.log(String(part))));
}})();
"""

    outcome = run(named.runtime, code, language="node", network=True)

    fetched, posted, refused, got = outcome.stdout.decode().splitlines()
    assert (fetched, posted, got) == ("hello /fetched", "got 1000", "hello /got")
    assert "403" in refused


def test_the_machines_certificates_are_there(named):
    code = "import ssl, os; print(len(ssl.create_default_context().get_ca_certs()) > 10, os.path.isfile(os.environ['SSL_CERT_FILE']))"
    if not any(
        Path(name).exists() for name in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    ):
        pytest.skip("this machine has no certificates of its own")

    assert said(named, code) == "True True\n"


def test_what_stays_in_the_sandbox_needs_no_proxy(outward):
    code = """
    import http.server, threading, urllib.request
    server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.handle_request).start()
    print(urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}/').status)
    """

    assert said(outward, code) == "200\n"


def test_socks_by_address_and_by_name_and_what_it_refuses(named, echo):
    code = f"""
    def socks(request):
        s = proxied(); s.sendall(b'\\5\\2\\0\\2'); assert s.recv(2) == b'\\5\\0'
        s.sendall(request)
        return s, s.recv(10)[1]
    port = struct.pack('!H', {echo.port})
    s, code = socks(b'\\5\\1\\0\\1' + bytes([127, 0, 0, 1]) + port)
    s.sendall(b'ping'); print(code, s.recv(4).decode())
    name = b'127.0.0.1'
    print(socks(b'\\5\\1\\0\\3' + bytes([len(name)]) + name + port)[1])
    print(socks(b'\\5\\1\\0\\3\\1x' + port)[1], socks(b'\\5\\2\\0\\1' + bytes(4) + port)[1], socks(b'\\5\\1\\0\\7' + bytes(6))[1])
    with proxied() as s:
        s.sendall(b'\\5\\1\\2'); print(s.recv(2))
    """

    assert by_hand(named, code) == "0 ping\n0\n2 7 8\nb'\\x05\\xff'\n"


# --- what is counted


def test_the_bytes_really_relayed_are_counted(named, echo):
    code = f"""
    s = tunnel('127.0.0.1', {echo.port})
    for _ in range(16):
        s.sendall(b'x' * 65536)
        left = 65536
        while left: left -= len(s.recv(left))
    s.shutdown(socket.SHUT_WR); assert s.recv(1) == b''
    """
    outcome = run(named.runtime, BY_HAND + textwrap.dedent(code), network=True)

    assert outcome.exit_code == 0, outcome.stderr
    assert (outcome.network_sent_bytes, outcome.network_received_bytes) == (1 << 20, 1 << 20)


def test_who_says_nothing_to_the_outside_has_used_nothing(named):
    outcome = run(named.runtime, "print(1)", network=True)

    assert (outcome.network_sent_bytes, outcome.network_received_bytes) == (0, 0)


# --- policy


def test_without_the_policy_a_network_is_refused(daemon):
    with pytest.raises(InvalidRequest, match="no network"):
        run(daemon.runtime, "print(1)", network=True)

    assert daemon.runtime.describe()["network"] == "off"
    assert any("No network of any kind" in promise for promise in daemon.runtime.describe()["promises"])


def test_with_the_policy_who_does_not_ask_has_none(outward):
    code = "import socket, os\ntry: socket.socket()\nexcept OSError as problem: print(problem.errno, 'http_proxy' in os.environ)"

    assert run(outward.runtime, code).stdout == b"97 False\n"
    assert any("outward only" in promise for promise in outward.runtime.describe()["promises"])


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "a loopback address"),
        ("localhost", "a loopback address"),
        ("127.1", "a loopback address"),
        ("2130706433", "a loopback address"),
        ("0x7f.1", "a loopback address"),
        ("0", "an unspecified address"),
        ("[::1]", "a loopback address"),
        ("[::ffff:127.0.0.1]", "a loopback address"),
        ("[64:ff9b::7f00:1]", "a loopback address"),
        ("10.0.0.1", "a private address"),
        ("192.168.0.1", "a private address"),
        ("[fd12:3456::1]", "a private address"),
        ("169.254.169.254", "a link-local address"),
        ("[fd00:ec2::254]", "a private address"),
        ("100.100.100.200", "a carrier's own network"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "a reserved address"),
        (OWN_NAME, ". Sandboxes reach public addresses only."),
    ],
)
def test_the_host_and_private_networks_are_out_of_reach(outward, host, kind):
    line = by_hand(outward, f"print(status({host!r}, 80))").strip()

    assert line.startswith("HTTP/1.1 403 ")
    assert kind in line


def test_a_server_on_the_hosts_loopback_is_never_connected_to(outward, web):
    before = len(web.seen)
    code = f"""
    print(ask(b'GET http://127.0.0.1:{web.server_port}/ HTTP/1.1\\r\\n\\r\\n').split(b' ')[1].decode())
    print(ask(b'GET http://localhost:{web.server_port}/ HTTP/1.1\\r\\n\\r\\n').split(b' ')[1].decode())
    """

    assert by_hand(outward, code) == "403\n403\n"
    assert len(web.seen) == before


def test_the_addresses_of_the_hosts_interfaces_are_out_of_reach(outward):
    own = [
        each.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family in (socket.AF_INET, socket.AF_INET6)
    ]
    hosts = [f"[{address}]" if ":" in address else address for address in own]

    lines = by_hand(outward, f"for host in {hosts}: print(status(host, 22))").splitlines()

    assert len(lines) == len(own) > 0
    assert all("HTTP/1.1 403 " in line for line in lines), lines


def test_mail_is_not_sent_from_here(outward):
    assert "403 Port 25 is not open" in by_hand(outward, "print(status('mail.example', 25))")


def test_a_name_that_resolves_to_nothing_is_said_so(outward):
    line = by_hand(outward, "print(status('no-such-host.invalid', 80, timeout=60))", timeout_seconds=60)

    assert "50" in line.split()[1]
    assert "no-such-host.invalid could not be resolved" in line


def test_only_named_places_are_reached_whatever_they_resolve_to(named, web):
    other = 1 if web.server_port != 1 else 2
    lines = by_hand(named, f"print(status('127.0.0.1', {other})); print(status('127.0.0.2', {web.server_port}))")

    assert lines.count("403") == 2
    assert "is not among the places" in lines


# --- what else a program may try


def test_nothing_but_tcp_is_there(outward):
    code = """
    import socket
    for name, *arguments in (('udp', 2, 2), ('udp6', 10, 2), ('raw', 2, 3, 1), ('raw6', 10, 3, 58), ('packet', 17, 3), ('netlink', 16, 3),
                             ('vsock', 40, 1), ('sctp', 2, 1, 132), ('mptcp', 2, 1, 262)):
        try: socket.socket(*arguments)
        except OSError: print(name, 'refused')
        else: print(name, 'WORKED')
    """

    assert {line.split()[1] for line in said(outward, code).splitlines()} == {"refused"}


def test_there_is_no_other_interface_and_no_route(outward):
    code = """
    import socket
    print(open('/proc/net/dev').read().count(':'))
    for place in (('10.0.0.1', 80), ('1.1.1.1', 443), ('169.254.169.254', 80)):
        try: socket.create_connection(place, timeout=1)
        except OSError as problem: print(problem.errno)
    """

    # One interface, the loopback; ENETUNREACH everywhere.
    assert said(outward, code) == "1\n101\n101\n101\n"


def test_another_sandboxs_proxy_and_server_are_not_to_be_found(named):
    waiting = threading.Event()
    ended = []
    server = make_request(
        "import socket, sys\ns = socket.create_server(('0.0.0.0', 7777)); print('up', flush=True); sys.stdin.read()\ns.accept()",
        network=True,
        timeout_seconds=60,
    )
    told = {"on_started": lambda _: None, "on_output": lambda *_: waiting.set()}
    thread = threading.Thread(target=lambda: ended.append(named.runtime.run(server, **told)))
    thread.start()
    assert waiting.wait(20)
    try:
        code = """
        import socket, os
        for port in (7777, 3129):
            try: socket.create_connection(('127.0.0.1', port), timeout=1)
            except OSError as problem: print(problem.errno)
        listening = [line.split()[1] for line in open('/proc/net/tcp').readlines()[1:]]
        print(listening)
        """

        # A kernel of the program's own does not list what its init has made outside.
        listed = [] if named.ready["engine"] == "gvisor" else [f"0100007F:{3128:04X}"]
        assert said(named, code) == f"111\n111\n{listed}\n"
    finally:
        named.runtime.cancel(server.id)
        thread.join(10)
    assert ended[0].cancelled


def test_the_proxys_port_cannot_be_taken(named):
    code = """
    import socket
    try: socket.create_server(('127.0.0.1', 3128))
    except OSError as problem: print(problem.errno)
    """

    assert said(named, code) == "98\n"


def test_what_follows_a_request_reaches_nobody(named, web):
    before = len(web.seen)
    place = f"127.0.0.1:{web.server_port}"
    code = f"""
    smuggled = b'GET /smuggled HTTP/1.1\\r\\nHost: other\\r\\n\\r\\n'
    one = b'GET http://{place}/one HTTP/1.1\\r\\n\\r\\n'
    print(ask(one + smuggled).count(b'HTTP/1.1 200'))
    two = b'POST http://{place}/two HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\nbody'
    print(ask(two + smuggled).count(b'HTTP/1.1 200'))
    both = b'POST http://{place}/ HTTP/1.1\\r\\nContent-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n'
    print(ask(both + smuggled).split(b' ')[1].decode())
    print(ask(b'GET http://{place}/ HTTP/1.1\\r\\nA: b\\nHost: c\\r\\n\\r\\n').split(b' ')[1].decode())
    print(ask(b'CONNECT {place} HTTP/1.1\\r\\nContent-Length: 5\\r\\n\\r\\n' + one.replace(b'http://{place}', b'').replace(b'1.1\\r\\n', b'1.1\\r\\nConnection: close\\r\\n')).count(b'hello /one'))
    """

    assert by_hand(named, code) == "1\n1\n411\n400\n1\n"
    assert [path for _, path, _ in web.seen[before:]] == ["/one", "/two", "/one"]


def test_endless_headers_are_cut_off(named):
    code = """
    s = proxied()
    sent = 0
    try:
        s.sendall(b'GET http://127.0.0.1/ HTTP/1.1\\r\\n')
        while sent < 10_000_000:
            s.sendall(b'A: ' + b'x' * 997 + b'\\r\\n'); sent += 1002
    except OSError: pass
    print(sent < 5_000_000)
    """

    assert by_hand(named, code) == "True\n"


@pytest.mark.parametrize(
    "rubbish",
    [b"\0" * 100 + b"\r\n\r\n", b"\xff" * 64 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x05", b"\x04\1\0\x50"],
)
def test_rubbish_harms_nobody(named, web, rubbish):
    code = f"""
    with proxied() as s:
        s.sendall({rubbish!r}); s.shutdown(socket.SHUT_WR); read_all(s)
    print(ask(b'GET http://127.0.0.1:{web.server_port}/after HTTP/1.1\\r\\n\\r\\n').endswith(b'hello /after'))
    """

    assert by_hand(named, code) == "True\n"


def test_thousands_of_connections_wait_for_their_turn_and_others_are_served(named, web, echo):
    gateway = gateways(named)[0] if gateways(named) else None
    flood = make_request(
        BY_HAND
        + textwrap.dedent(f"""
        import time
        done, tell = os.pipe()
        for child in range(3):
            if os.fork() == 0:
                held = []
                for n in range(1000):
                    s = socket.socket(); s.setblocking(False); held.append(s)
                    try: s.connect((proxy.hostname, proxy.port))
                    except OSError: pass
                for s in held[:30]:
                    try: s.sendall(b'CONNECT 127.0.0.1:{echo.port} HTTP/1.1\\r\\n\\r\\n')
                    except OSError: pass
                os.write(tell, b'x'); time.sleep(60)
        for child in range(3): os.read(done, 1)
        print('flooded', flush=True); time.sleep(60)
        """),
        network=True,
        timeout_seconds=60,
    )
    flooded, ended = threading.Event(), []
    told = {"on_started": lambda _: None, "on_output": lambda *_: flooded.set()}
    thread = threading.Thread(target=lambda: ended.append(named.runtime.run(flood, **told)))
    thread.start()
    assert flooded.wait(30)

    neighbour = by_hand(
        named, f"print(ask(b'GET http://127.0.0.1:{web.server_port}/n HTTP/1.1\\r\\n\\r\\n').endswith(b'hello /n'))"
    )
    gateway = gateways(named)[0]
    open_files = gateway.num_fds()
    began = time.monotonic()
    named.runtime.cancel(flood.id)
    thread.join(10)

    assert neighbour == "True\n"
    assert open_files < 64 * 2 + 60
    assert ended[0].cancelled
    assert time.monotonic() - began < 1
    assert eventually(lambda: gateway.num_fds() < 30)


def test_a_slow_reader_outside_slows_only_its_own_program(tmp_path):
    stuck = threading.Event()

    def never_reads(connection: socket.socket) -> None:
        stuck.wait(30)

    with outside.listening(never_reads) as listener, serving(tmp_path, f"127.0.0.1:{listener.port}") as daemon:
        code = f"s = tunnel('127.0.0.1', {listener.port}); print('go', flush=True)\nwhile True: s.sendall(b'x' * 65536)"
        began = time.monotonic()

        outcome = run(daemon.runtime, BY_HAND + code, network=True, timeout_seconds=2)

        assert outcome.breach == "timeout"
        assert time.monotonic() - began < 4
        # What was taken is what the kernel's buffers and one piece of the gateway hold, not what was poured in.
        assert outcome.network_sent_bytes < 32 << 20
        assert gateways(daemon)[0].memory_info().rss < 120 << 20
        # The lease ended every connection, and the kernel does not try for ever to deliver what it took.
        assert eventually(lambda: not _connections_to(listener.port), within_seconds=20)
        stuck.set()


def test_a_pouring_server_is_held_back_by_a_program_that_does_not_read(tmp_path):
    with outside.listening(outside.pour) as listener, serving(tmp_path, f"127.0.0.1:{listener.port}") as daemon:
        code = f"import time; s = tunnel('127.0.0.1', {listener.port}); time.sleep(1.5); print(len(s.recv(10)))"

        outcome = run(daemon.runtime, BY_HAND + code, network=True)

        assert outcome.stdout == b"10\n"
        assert outcome.network_received_bytes < 32 << 20
        assert gateways(daemon)[0].memory_info().rss < 120 << 20
        assert listener.ended.acquire(timeout=5)


def test_a_child_that_stays_behind_loses_its_connection_with_the_main_process(tmp_path):
    with outside.listening(outside.swallow) as listener, serving(tmp_path, f"127.0.0.1:{listener.port}") as daemon:
        code = f"""
s = tunnel('127.0.0.1', {listener.port})
if os.fork() == 0:
    os.setsid()
    while True: s.sendall(b'still here'); __import__('time').sleep(0.05)
s.sendall(b'from the parent'); print('leaving')
"""
        outcome = run(daemon.runtime, BY_HAND + code, network=True)

        assert (outcome.exit_code, outcome.stdout) == (0, b"leaving\n")
        assert listener.ended.acquire(timeout=5)
        assert outcome.network_sent_bytes >= len(b"from the parent")


def test_a_gateway_that_dies_loses_its_runs_and_the_next_run_has_a_new_one(tmp_path, web):
    with serving(tmp_path, f"127.0.0.1:{web.server_port}") as daemon:
        code = f"print(ask(b'GET http://127.0.0.1:{web.server_port}/a HTTP/1.1\\r\\n\\r\\n').endswith(b'hello /a'), flush=True)"
        going, lost = threading.Event(), []
        request = make_request(BY_HAND + code + "\n__import__('time').sleep(2)", network=True)

        def attempt() -> None:
            told = {"on_started": lambda _: None, "on_output": lambda *_: going.set()}
            with pytest.raises(RuntimeLost) as problem:
                daemon.runtime.run(request, **told)
            lost.append(str(problem.value))

        thread = threading.Thread(target=attempt)
        thread.start()
        assert going.wait(20)
        gateways(daemon)[0].kill()
        thread.join(20)

        assert "gateway" in lost[0]
        assert by_hand(daemon, code) == "True\n"


def test_the_gateway_has_no_rights_and_ends_with_the_daemon(tmp_path):
    with serving(tmp_path, "outward") as daemon:
        said(daemon, "pass")
        gateway = gateways(daemon)[0]
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{gateway.pid}/status").read_text().splitlines())

        assert int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1"
        if os.geteuid() == 0:
            assert gateway.uids().real > 1_900_000_000
        daemon.stop(kill=True)
        assert eventually(lambda: not gateway.is_running())


# --- pools


def test_after_the_first_one_sandboxes_with_a_network_are_kept_ready_as_well(tmp_path):
    with serving(tmp_path, "outward") as daemon:
        size = Size(ready=1, running=3, idle_timeout_seconds=3600, max_age_seconds=3600)
        daemon.runtime.resize("python", size)
        first = watch(daemon.runtime, make_request(network=True)).started[0]

        assert not first.warm
        assert eventually(lambda: daemon.runtime.describe()["pools"]["python+network"]["ready"] == 1)
        assert watch(daemon.runtime, make_request(network=True)).started[0].warm
        assert eventually(daemon.is_quiet)


# --- kept sandboxes


@keeping
def test_a_kept_sandbox_goes_out_in_each_run_and_each_run_counts_its_own(named, web):
    sandbox = keep(named.runtime, network=True)
    code = f"""
    import os, urllib.request
    os.environ['no_proxy'] = ''
    print(urllib.request.urlopen('http://127.0.0.1:{web.server_port}/again').read().decode())
    """

    outcomes = [run(named.runtime, textwrap.dedent(text), sandbox=sandbox) for text in (code, "pass", code)]
    named.runtime.close(sandbox)

    assert [outcome.stdout for outcome in outcomes] == [b"hello /again\n", b"", b"hello /again\n"]
    first, idle, second = [outcome.network_received_bytes for outcome in outcomes]
    assert (first, idle) == (second, 0)
    assert first > 0


@keeping
def test_a_network_is_what_the_sandbox_was_opened_with(named, web):
    sandbox = keep(named.runtime)

    outcome = run(named.runtime, "import os; print(os.environ.get('http_proxy'))", sandbox=sandbox, network=True)
    named.runtime.close(sandbox)

    assert outcome.stdout == b"None\n"


@keeping
def test_a_gateway_that_dies_loses_the_run_and_not_the_sandbox(named):
    sandbox = keep(named.runtime, network=True)
    run(named.runtime, "open('a', 'w').write('kept')", sandbox=sandbox)
    for gateway in gateways(named):
        gateway.kill()

    outcomes = []
    for _ in range(2):
        with contextlib.suppress(RuntimeLost):
            outcomes.append(run(named.runtime, "print(open('a').read())", sandbox=sandbox).stdout)
    named.runtime.close(sandbox)

    assert outcomes[-1] == b"kept\n"


def gateways(daemon: daemons.Daemon) -> list[psutil.Process]:
    return [each for each in daemon.descendants() if daemons.is_gateway(each)]


def _connections_to(port: int) -> list[str]:
    """As the kernel lists them on this side, also those that no process holds any more."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[2].endswith(f":{port:04X}") and line.split()[3] != "06"]
