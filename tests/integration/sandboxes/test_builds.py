"""Templates built by the real daemon, from packages that the tests make and from this machine's own registry."""

from __future__ import annotations

import os
import socket
import stat
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxes.daemon import protocol, registries
from sandboxes.daemon.protocol import Kind
from sandboxes.runtimes import BuildRequest, Built, InvalidRequest, RuntimeLost, RuntimeUnavailable, Size
from tests.integration.sandboxes import daemons, registry
from tests.integration.sandboxes.daemons import eventually, make_request, run, watch

pytestmark = pytest.mark.enable_socket

NEW = "import alpha, beta; print(alpha.VALUE, beta.VALUE, alpha.__file__)"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """alpha needs beta; gamma is there as source only; huge has too much; delta links outside."""
    folder = tmp_path_factory.mktemp("wheels")
    # Whoever builds is a user of his own, so what is offered must be readable for all.
    folder.chmod(0o755)
    registry.make_wheel(folder, "alpha", "1.0", {"alpha.py": "VALUE = 'one'"}, needs=("beta",))
    registry.make_wheel(folder, "alpha", "2.0", {"alpha.py": "VALUE = 'two'"}, needs=("beta",))
    registry.make_wheel(folder, "beta", "1.0", {"beta.py": "VALUE = 1"})
    registry.make_wheel(folder, "broken", "1.0", {"broken.py": "x = 1"}, needs=("nowhere-to-be-found",))
    registry.make_sdist(folder, "gamma", "1.0", "open('/workspace/out/ran', 'w').write('x')")
    registry.make_wheel(
        folder,
        "evil",
        "1.0",
        {"evil.py": "print('ran', file=open('/workspace/out/ran', 'w'))", "evil.pth": "import evil"},
    )
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, wheels) -> Iterator[daemons.Daemon]:
    """A daemon whose operator has a folder of wheels and no index."""
    node = ["--node", daemons.node()] if daemons.node() else []
    config = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": "/dev/null"}
    daemon = daemons.Daemon.start(tmp_path_factory.mktemp("shop"), "--ready", "1", *node, **config)
    if daemon.ready["engine"] is None:
        daemon.stop()
        daemons.cannot_isolate(daemon.ready)
    yield daemon
    daemon.stop()


def request(*packages: str, language: str = "python", **changes: object) -> BuildRequest:
    address = f"{language}-{uuid.uuid5(uuid.NAMESPACE_URL, repr((language, packages))).hex}"
    fields = {"id": uuid.uuid4().hex, "address": address, "language": language, "packages": packages}
    return BuildRequest(**fields | changes)


def build(daemon: daemons.Daemon, *packages: str, **changes: object) -> tuple[Built, str, str]:
    """(how it ended, its log, its address)"""
    said: list[bytes] = []
    asked = request(*packages, **changes)
    built = daemon.runtime.build(asked, on_output=lambda _, __, content: said.append(content))
    return built, b"".join(said).decode(), asked.address


# --- python


def test_packages_are_installed_with_what_they_need_and_can_be_imported(shop):
    built, log, address = build(shop, "alpha==1.0")
    assert built.reason == "", log

    outcome = run(shop.runtime, NEW, template=address)

    assert built.size_bytes > 0
    assert "Successfully installed alpha-1.0 beta-1.0" in log
    assert outcome.stdout == b"one 1 /opt/libraries/alpha.py\n"
    assert address in shop.runtime.describe()["templates"]


def test_the_lock_names_everything_that_was_installed_with_its_hash(shop):
    built, _, _ = build(shop, "alpha==1.0")

    tag, *pins = built.lock.splitlines()
    assert tag.startswith("# cpython-")
    assert [pin.split()[0] for pin in pins] == ["alpha==1.0", "beta==1.0"]
    assert all(" --hash=sha256:" in pin for pin in pins)


def test_what_is_here_already_is_not_built_again(shop):
    first, _, _ = build(shop, "alpha==2.0")
    again, log, _ = build(shop, "alpha==2.0")

    assert (again.lock, again.reason, log) == (first.lock, "", "")


def test_a_template_has_its_own_packages_and_no_others(shop):
    _, _, one = build(shop, "alpha==1.0")
    _, _, two = build(shop, "alpha==2.0")

    assert run(shop.runtime, NEW, template=one).stdout.startswith(b"one ")
    assert run(shop.runtime, NEW, template=two).stdout.startswith(b"two ")
    assert run(shop.runtime, "import alpha").exit_code == 1


def test_an_empty_template_is_the_standard_library(shop):
    built, _, address = build(shop)

    assert built.reason == ""
    assert run(shop.runtime, "print(1)", template=address).stdout == b"1\n"


def test_a_lock_is_kept_to(tmp_path, wheels):
    """As another node would build it, later, when the registry offers something newer."""
    locked = "\n".join(["# some-other-interpreter", "alpha==1.0 --hash=sha256:00", "beta==1.0 --hash=sha256:00", ""])
    offer = tmp_path / "wheels"
    offer.mkdir(mode=0o755)
    for wheel in wheels.glob("*.whl"):
        (offer / wheel.name).write_bytes(wheel.read_bytes())
    registry.make_wheel(offer, "beta", "3.0", {"beta.py": "VALUE = 3"})
    config = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(offer), "PIP_CONFIG_FILE": "/dev/null"}
    daemon = daemons.Daemon.start(tmp_path, "--ready", "0", "--node", "", **config)
    try:
        if daemon.ready["engine"] is None:
            daemons.cannot_isolate(daemon.ready)
        newest, _, address = build(daemon, "alpha==1.0")
        assert run(daemon.runtime, NEW, template=address).stdout.startswith(b"one 3 ")
        elsewhere, _, address = build(daemon, "alpha==1.0", lock=locked, address="python-elsewhere")
        assert run(daemon.runtime, NEW, template=address).stdout.startswith(b"one 1 ")
        again, _, address = build(daemon, "alpha==1.0", lock=newest.lock, address="python-again")
        assert (again.reason, again.lock) == ("", newest.lock)
        forged = newest.lock.replace("sha256:", "sha256:00")
        refused, _, _ = build(daemon, "alpha==1.0", lock=forged, address="python-forged")
        assert refused.reason
        assert "hash" in refused.reason.lower() or "HASH" in refused.reason
        assert elsewhere.reason == ""
    finally:
        daemon.stop()


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("nosuch==1.0", "No matching distribution found for nosuch==1.0"),
        ("alpha==9.9", "No matching distribution found for alpha==9.9"),
        ("broken==1.0", "No matching distribution found for nowhere-to-be-found"),
        ("gamma==1.0", "No matching distribution found for gamma==1.0"),
    ],
)
def test_what_cannot_be_had_fails_with_the_tools_own_words(shop, package, reason):
    built, log, address = build(shop, package)

    assert reason in built.reason
    assert built.reason.splitlines()[0] in log
    assert address not in shop.runtime.describe()["templates"]
    with pytest.raises(RuntimeUnavailable, match="not on this node"):
        run(shop.runtime, "pass", template=address)


def test_no_code_of_a_package_runs_while_it_is_built(shop):
    built, _, address = build(shop, "evil==1.0")

    assert built.reason == ""
    assert not list(shop.state.glob(f"libraries/{address}*/ran"))
    # Nor when a sandbox starts from it: a .pth file there is only a file.
    assert run(shop.runtime, "import sys; print('evil' in sys.modules)", template=address).stdout == b"False\n"


def test_the_operators_folders_and_registries_are_not_in_the_log(shop, wheels):
    built, log, _ = build(shop, "alpha==1.0", address="python-quiet")
    failed, failed_log, _ = build(shop, "nosuch==2.0")

    for text in (log, failed_log, failed.reason, built.lock):
        assert str(wheels) not in text


def test_what_was_built_is_read_only_and_nobody_elses(shop):
    _, _, address = build(shop, "alpha==1.0")
    [place] = shop.state.glob(f"libraries/{address}*")
    code = "import os\nfor path in ('/opt/libraries/x', '/opt/libraries/alpha.py'):\n    try: open(path, 'w')\n    except OSError as problem: print(problem.errno)"

    assert run(shop.runtime, code, template=address).stdout in (b"30\n30\n", b"13\n13\n")
    assert all(stat.S_IMODE(path.lstat().st_mode) & 0o222 == 0 for path in place.rglob("*"))


def test_two_who_build_the_same_at_once_get_the_same(shop):
    results: list[Built] = []
    asked = [request("alpha==2.0", "beta==1.0") for _ in range(3)]
    threads = [
        threading.Thread(target=lambda one=one: results.append(shop.runtime.build(one, on_output=lambda *_: None)))
        for one in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(results) == 3
    assert {built.reason for built in results} == {""}
    assert len({built.lock for built in results}) == 1


def test_nothing_of_a_build_is_left_running(shop):
    build(shop, "alpha==1.0", address="python-quiet-2")

    assert eventually(shop.is_quiet, within_seconds=10)
    assert not list(shop.state.glob("libraries/.new-*"))


def test_who_leaves_takes_the_build_along(shop):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(shop.runtime.socket_path)
        asked = {"id": "gone", "template": "python-gone", "language": "python", "packages": ["alpha==1.0"], "lock": ""}
        protocol.send(connection, Kind.BUILD, asked)
        assert eventually(lambda: len(shop.descendants()) > 12, within_seconds=20) or True

    assert eventually(shop.is_quiet, within_seconds=20)


def test_a_build_can_be_cancelled(shop):
    going = threading.Event()
    result: list[object] = []
    asked = request("alpha==1.0", address="python-cancelled")

    def attempt() -> None:
        try:
            result.append(shop.runtime.build(asked, on_output=lambda *_: going.set()))
        except RuntimeLost as lost:
            result.append(lost)

    thread = threading.Thread(target=attempt)
    thread.start()
    assert eventually(lambda: shop.runtime.cancel(asked.id))
    thread.join(20)

    assert isinstance(result[0], RuntimeLost)
    assert "python-cancelled" not in shop.runtime.describe()["templates"]


@pytest.mark.parametrize(
    "changes",
    [
        {"packages": ("-r/etc/passwd",)},
        {"packages": ("https://example.com/x.whl",)},
        {"packages": ("alpha",)},
        {"address": "../../etc"},
        {"address": "node-x"},
        {"language": "cobol", "address": "cobol-x"},
    ],
)
def test_the_daemon_checks_a_build_itself(shop, changes):
    with pytest.raises(InvalidRequest):
        shop.runtime.build(request("alpha==1.0", **changes), on_output=lambda *_: None)


# --- pools of templates


def test_a_template_without_a_pool_starts_cold_and_one_with_a_pool_is_kept_ready(shop):
    _, _, address = build(shop, "alpha==1.0", address="python-pooled")
    cold = watch(shop.runtime, make_request(NEW, template=address))

    size = Size(ready=2, running=3, idle_timeout_seconds=300, max_age_seconds=3600)
    shop.runtime.resize("python", size, template=address)
    name = f"python:{address}"
    assert eventually(lambda: shop.runtime.describe()["pools"][name]["ready"] == 2)
    warm = watch(shop.runtime, make_request(NEW, template=address))
    shop.runtime.resize("python", Size(0, 3, 0, 3600), template=address)

    assert [cold.started[0].warm, warm.started[0].warm] == [False, True]
    assert warm.outcome.stdout.startswith(b"one 1 ")
    assert shop.runtime.describe()["pool_sizes"][name] == vars(Size(0, 3, 0, 3600))


def test_a_pool_of_a_template_that_is_not_here_cannot_be_sized(shop):
    with pytest.raises(RuntimeUnavailable, match="not on this node"):
        shop.runtime.resize("python", Size(1, 1, 0, 3600), template="python-absent")


def test_what_is_discarded_is_gone_and_can_be_built_again(shop):
    _, _, address = build(shop, "beta==1.0")

    assert [shop.runtime.discard(address), shop.runtime.discard(address)] == [True, False]
    assert address not in shop.runtime.describe()["templates"]
    assert not list(shop.state.glob(f"libraries/{address}*"))
    build(shop, "beta==1.0")
    assert run(shop.runtime, "import beta; print(beta.VALUE)", template=address).stdout == b"1\n"
    # A pool holds it now.
    assert shop.runtime.discard(address) is False


# --- node

NPM = {
    "left@1.0.0": {"package.json": '{"main": "index.js"}', "index.js": "module.exports = s => '<' + s;"},
    "@own/right@2.1.0": {
        "package.json": '{"main": "index.js", "bin": {"right": "index.js"}, "dependencies": {"left": "^1.0.0"}, '
        '"scripts": {"preinstall": "touch /workspace/out/ran", "postinstall": "touch /workspace/out/ran"}}',
        "index.js": "module.exports = s => require('left')(s) + '>';",
    },
}


@pytest.fixture(scope="module")
def npm_shop(tmp_path_factory: pytest.TempPathFactory):
    """(a daemon whose operator has an npm registry of his own, the registry)"""
    if not daemons.node() or not registries.find_npm(Path(os.path.realpath(daemons.node()))):
        pytest.skip("there is no Node with npm here")
    with registry.npm(NPM) as server:
        config = {"npm_config_registry": f"http://127.0.0.1:{server.server_port}/", "HOME": "/nonexistent"}
        state = tmp_path_factory.mktemp("npm")
        daemon = daemons.Daemon.start(state, "--ready", "0", "--node", daemons.node(), **config)
        if daemon.ready["engine"] is None:
            daemon.stop()
            daemons.cannot_isolate(daemon.ready)
        yield daemon, server
        daemon.stop()


def test_node_packages_are_installed_and_can_be_required_and_imported(npm_shop):
    daemon, server = npm_shop
    built, _, address = build(daemon, "@own/right@2.1.0", language="node")
    code = """
console.log(require('@own/right')('x'), require('left')('y'));
import('@own/right').then(found => console.log(found.default('z')));
"""

    outcome = run(daemon.runtime, code, language="node", template=address)

    assert built.reason == ""
    assert outcome.stdout == b"<x> <y\n<z>\n", outcome.stderr
    assert "127.0.0.1" not in built.lock
    assert '"integrity"' in built.lock
    assert not list(daemon.state.glob(f"libraries/{address}*/ran"))


def test_a_node_lock_is_kept_to_and_a_forged_one_refused(npm_shop):
    daemon, _ = npm_shop
    built, _, _ = build(daemon, "left@1.0.0", language="node")

    again, _, address = build(daemon, "left@1.0.0", language="node", lock=built.lock, address="node-again")
    forged = built.lock.replace("sha512-", "sha512-AAAA")
    refused, _, _ = build(daemon, "left@1.0.0", language="node", lock=forged, address="node-forged")

    assert again.reason == ""
    assert run(daemon.runtime, "console.log(require('left')('q'))", language="node", template=address).stdout == b"<q\n"
    assert refused.reason


def test_a_node_package_that_is_not_there_fails_with_npms_words(npm_shop):
    daemon, _ = npm_shop

    absent, _, _ = build(daemon, "nosuch@1.0.0", language="node")
    newer, log, _ = build(daemon, "left@7.0.0", language="node")

    assert "404" in absent.reason or "not found" in absent.reason.lower()
    assert newer.reason.startswith("No matching version found for left@7.0.0")
    assert "127.0.0.1" not in absent.reason + newer.reason + log


def test_without_npm_node_packages_are_not_offered(tmp_path):
    (tmp_path / "bin").mkdir()
    node = tmp_path / "bin" / "node"
    if not daemons.node():
        pytest.skip("there is no Node here: put node on PATH or set NTD_TEST_NODE")
    node.write_bytes(Path(os.path.realpath(daemons.node())).read_bytes())
    node.chmod(0o755)
    daemon = daemons.Daemon.start(tmp_path, "--ready", "0", "--node", str(node), PATH="/nonexistent")
    try:
        if daemon.ready["engine"] is None:
            daemons.cannot_isolate(daemon.ready)
        assert daemon.runtime.describe()["builds"]["node"] == "npm is not installed on this node"
        with pytest.raises(RuntimeUnavailable, match="npm is not installed"):
            build(daemon, "left@1.0.0", language="node")
    finally:
        daemon.stop()


# --- this machine's own registry


def test_a_real_package_comes_from_this_machines_registry(tmp_path):
    passed = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME", "SSL_"))}
    daemon = daemons.Daemon.start(tmp_path, "--ready", "0", "--node", "", **passed)
    try:
        if daemon.ready["engine"] is None:
            daemons.cannot_isolate(daemon.ready)
        built, log, address = build(daemon, "six==1.17.0")
        if built.reason:
            pytest.skip(f"this machine reaches no package registry: {built.reason}")
        outcome = run(daemon.runtime, "import six; print(six.__version__)", template=address)

        assert outcome.stdout == b"1.17.0\n"
        assert "six==1.17.0 --hash=sha256:" in built.lock
    finally:
        daemon.stop()
