"""What is collected from a hostile tree, without any sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxes.daemon import artifacts


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "workspace" / "artifacts").mkdir(parents=True)
    return tmp_path


def collect(scratch: Path) -> artifacts.Collected:
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        return artifacts.collect(descriptor)
    finally:
        os.close(descriptor)


def test_a_pipe_is_left_out_without_waiting_for_it(scratch):
    os.mkfifo(scratch / "workspace" / "artifacts" / "pipe")

    assert collect(scratch).left_out == ["pipe"]


def test_a_link_to_a_folder_outside_is_not_walked(scratch, tmp_path_factory):
    secret = tmp_path_factory.mktemp("host")
    (secret / "key").write_text("hers")
    (scratch / "workspace" / "artifacts" / "in").symlink_to(secret)

    assert collect(scratch).files == []


@pytest.mark.parametrize("name", ["workspace", "workspace/artifacts"])
def test_a_link_in_place_of_the_folder_itself_is_not_followed(scratch, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("host")
    (elsewhere / "artifacts").mkdir()
    (elsewhere / "key").write_text("hers")
    (scratch / "workspace" / "artifacts").rmdir()
    if name == "workspace":
        (scratch / name).rmdir()
    (scratch / name).symlink_to(elsewhere)

    assert collect(scratch).files == []


def test_depth_and_number_are_bounded(scratch):
    folder = scratch / "workspace" / "artifacts"
    for number in range(70):
        (folder / f"{number:03}").write_text("x")
    deep = folder / "/".join("d" * 30)
    deep.mkdir(parents=True)
    (deep / "lost").write_text("x")

    found = collect(scratch)

    assert [path for path, _ in found.files] == [f"{number:03}" for number in range(64)]
    assert len(found.left_out) == 7


def test_together_they_are_bounded_and_later_small_ones_still_fit(scratch):
    folder = scratch / "workspace" / "artifacts"
    (folder / "a").write_bytes(b"x" * (20 << 20))
    (folder / "b").write_bytes(b"x" * (20 << 20))
    (folder / "c").write_bytes(b"x")

    found = collect(scratch)

    assert ([path for path, _ in found.files], found.left_out) == (["a", "c"], ["b"])
