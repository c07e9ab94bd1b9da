"""The shelf takes over only plain files, folders and links that stay inside, and only for reading."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sandboxes.daemon import shelf
from sandboxes.daemon.shelf import NotTaken, Shelf

ADDRESS = "python-abc"


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What a build left."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "six.py").write_text("x = 1")
    return place


@pytest.fixture
def kept(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "libraries")


def put(kept: Shelf, left: Path, lock: str = "six==1.17.0", address: str = ADDRESS) -> int:
    folder = os.open(left, os.O_RDONLY)
    try:
        return kept.put(address, folder=folder, lock=lock)
    finally:
        os.close(folder)


def test_what_is_put_there_can_be_read_and_not_written(kept, left):
    (left / "bin").mkdir()
    (left / "bin" / "tool").write_text("#!")
    (left / "bin" / "tool").chmod(0o4755)
    (left / "six.py").chmod(0o600)

    size = put(kept, left)

    place = kept.place(ADDRESS)
    modes = {str(path.relative_to(place)): stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*")}
    assert modes == {"six.py": 0o444, "bin": 0o555, "bin/tool": 0o555, "template.lock": 0o444}
    assert stat.S_IMODE(place.stat().st_mode) == 0o555
    assert size == 7
    assert (kept.lock(ADDRESS), kept.addresses(), kept.has(ADDRESS)) == ("six==1.17.0", [ADDRESS], True)
    assert kept.size(ADDRESS) == 7 + len("six==1.17.0")


def test_times_are_kept_so_that_compiled_modules_are_believed(kept, left):
    os.utime(left / "six.py", ns=(10**18, 10**18))

    put(kept, left)

    assert (kept.place(ADDRESS) / "six.py").stat().st_mtime_ns == 10**18


def test_links_that_stay_inside_are_kept(kept, left):
    (left / "a" / "b").mkdir(parents=True)
    (left / "a" / "b" / "up").symlink_to("../../six.py")
    (left / "here").symlink_to("six.py")

    put(kept, left)

    assert (kept.place(ADDRESS) / "a" / "b" / "up").read_text() == "x = 1"
    assert os.readlink(kept.place(ADDRESS) / "here") == "six.py"


@pytest.mark.parametrize("where", ["/etc/passwd", "../x", "a/../../x", "../../etc"])
def test_links_that_lead_outside_are_refused_and_nothing_is_left(kept, left, where):
    (left / "link").symlink_to(where)

    with pytest.raises(NotTaken, match="link is a link that leads outside"):
        put(kept, left)

    assert kept.addresses() == []
    assert list(kept.root.iterdir()) == []


def test_what_is_no_file_is_refused(kept, left):
    os.mkfifo(left / "pipe")

    with pytest.raises(NotTaken, match="pipe is neither a file nor a folder"):
        put(kept, left)


def test_too_much_is_refused(kept, left, monkeypatch):
    monkeypatch.setattr(shelf, "MOST_BYTES", 4)
    with pytest.raises(NotTaken, match="larger"):
        put(kept, left)

    monkeypatch.setattr(shelf, "MOST_BYTES", 1 << 30)
    monkeypatch.setattr(shelf, "MOST_ENTRIES", 0)
    with pytest.raises(NotTaken, match="more than 0 files"):
        put(kept, left)

    monkeypatch.setattr(shelf, "MOST_ENTRIES", 1000)
    (left / "/".join("d" * 70)).mkdir(parents=True)
    with pytest.raises(NotTaken, match="too deep"):
        put(kept, left)


def test_it_is_for_this_interpreter_only(kept, left, monkeypatch):
    put(kept, left)
    put(kept, left, address="node-abc")
    monkeypatch.setattr("sys.implementation.cache_tag", "cpython-399")

    assert kept.addresses() == ["node-abc"]


def test_what_is_discarded_is_gone(kept, left):
    (left / "deep" / "er").mkdir(parents=True)
    put(kept, left)

    assert [kept.discard(ADDRESS), kept.discard(ADDRESS)] == [True, False]
    assert list(kept.root.iterdir()) == []


def test_what_a_killed_daemon_left_half_done_is_swept(kept, left):
    put(kept, left)
    (kept.root / ".new-x" / "y").mkdir(parents=True)

    kept.sweep()

    assert [each.name for each in kept.root.iterdir()] == [kept.place(ADDRESS).name]
