"""The daemon checks requests itself: it does not trust that its client has."""

from __future__ import annotations

import pytest

from sandboxes.daemon.orders import BadOrder, read_address, read_build, read_order, read_size

GOOD = {
    "id": "1",
    "language": "python",
    "template": "",
    "args": [],
    "env": {},
    "files": [],
    "timeout_seconds": 60,
    "limits": {},
    "network": False,
}


def order(*contents: bytes, **changes: object):
    return read_order({**GOOD, **changes}, [b"pass", b"", *contents])


def test_a_good_request_becomes_an_order():
    read = order(b"1,2", files=["a/b.csv"], args=["x"], env={"A_1": "b"}, limits={"cpu": 2})

    assert (read.code, dict(read.files), read.args, dict(read.env)) == (
        b"pass",
        {"a/b.csv": b"1,2"},
        ("x",),
        {"A_1": "b"},
    )
    assert read.limits.cpu == 2


def test_a_program_that_names_numerics_anywhere_is_numeric():
    assert read_order(GOOD, [b"import pandas as pd", b""]).is_numeric
    assert order(b"from numpy import array", files=["strategy.py"]).is_numeric
    assert not order(b"1,2", files=["prices.csv"]).is_numeric


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "..", "a/..", "../a", "a//b", "a/", ".", "./a", "a\0", "x" * 256, "\ud800"]
)
def test_a_path_that_leaves_the_workspace_is_refused(path):
    with pytest.raises(BadOrder, match="files: "):
        order(b"", files=[path])


@pytest.mark.parametrize("path", ["a", "a/b/c", "...", "ü", "a b", "\udcff", "-rf", "x" * 255])
def test_any_other_name_is_allowed(path):
    assert list(order(b"", files=[path]).files) == [path]


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("language", "ruby"),
        ("language", None),
        ("template", "../etc"),
        ("template", "a/b"),
        ("template", ".."),
        ("timeout_seconds", 0),
        ("timeout_seconds", -1),
        ("timeout_seconds", 3601),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", True),
        ("timeout_seconds", "60"),
        ("args", "abc"),
        ("args", [1]),
        ("args", ["\0"]),
        ("args", ["\ud800"]),
        ("env", {"1A": "x"}),
        ("env", {"A=B": "x"}),
        ("env", {"": "x"}),
        ("env", {"A": 1}),
        ("env", {"A": "\0"}),
        ("env", {"A": "\ud800"}),
        ("env", {"A\n": "x"}),
        ("env", []),
        ("limits", {"memory_mb": 1}),
        ("limits", None),
        ("network", 1),
        ("network", None),
        ("id", 7),
        ("files", ["a", "a"]),
    ],
)
def test_a_wrong_field_is_refused_by_name(field, wrong):
    contents = [b""] * (len(wrong) if field == "files" else 0)

    with pytest.raises(BadOrder, match=f"^{field}: "):
        order(*contents, **{field: wrong})


def test_contents_and_paths_must_match():
    with pytest.raises(BadOrder, match="files: "):
        order(files=["a"])


def test_a_network_may_be_asked_for():
    assert order(network=True).network
    assert not order().network


SIZE = {
    "language": "python",
    "template": "",
    "ready": 2,
    "running": 10,
    "idle_timeout_seconds": 300,
    "max_age_seconds": 3600,
}


def test_a_good_size_is_read():
    language, template, size = read_size({**SIZE, "template": "python-abc"})

    assert (language, template, size.ready, size.running, size.idle_timeout_seconds) == (
        "python",
        "python-abc",
        2,
        10,
        300,
    )


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("language", "ruby"),
        ("template", "../x"),
        ("ready", -1),
        ("ready", True),
        ("ready", 2.0),
        ("ready", None),
        ("running", 0),
        ("running", 10_001),
        ("running", "3"),
        ("idle_timeout_seconds", -1),
        ("max_age_seconds", 0),
        ("max_age_seconds", 86_401),
    ],
)
def test_a_wrong_size_is_refused_by_name(field, wrong):
    with pytest.raises(BadOrder, match=field):
        read_size({**SIZE, field: wrong})


BUILD = {"id": "b", "language": "python", "template": "python-abc", "packages": ["six==1.17.0", "a[b]==1"], "lock": ""}


def test_a_good_build_is_read():
    built = read_build(BUILD)

    assert (built.address, built.language, built.packages) == ("python-abc", "python", ("six==1.17.0", "a[b]==1"))
    node = {"language": "node", "template": "node-abc", "packages": ["@s/x@1.2.3"]}
    assert read_build(BUILD | node).packages == ("@s/x@1.2.3",)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("language", "ruby"),
        ("template", ""),
        ("template", "node-abc"),
        ("template", "python-../x"),
        ("packages", "six==1.0"),
        ("packages", [7]),
        ("packages", ["-r/etc/passwd"]),
        ("packages", ["--index-url=x==1"]),
        ("packages", ["https://example.com/six.whl"]),
        ("packages", ["six==1.0\n--pre"]),
        ("packages", ["six"]),
        ("packages", ["../six==1"]),
        ("lock", None),
        ("id", 7),
    ],
)
def test_a_wrong_build_is_refused_by_name(field, wrong):
    with pytest.raises(BadOrder, match=f"^{field}: "):
        read_build(BUILD | {field: wrong})


def test_an_address_alone_is_checked_too():
    assert read_address({"template": "node-abc"}) == "node-abc"
    with pytest.raises(BadOrder, match="template: "):
        read_address({"template": "x-abc"})
