"""The shelf of packages: one folder for each lock, whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxes.daemon import libraries


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    place = tmp_path / "some.lock"
    place.write_text("six==1.17.0\n")
    return place


def test_what_is_installed_is_not_installed_again(lock, tmp_path):
    shelf = tmp_path / "libraries" / libraries.address(lock)
    shelf.mkdir(parents=True)

    assert libraries.ensure_libraries(tmp_path, lock) == shelf


def test_another_lock_or_language_has_another_address(lock, tmp_path):
    other = tmp_path / "other.lock"
    other.write_text("six==1.16.0\n")

    assert len({libraries.address(lock), libraries.address(other), libraries.address(lock, language="node")}) == 3


def test_a_lock_without_hashes_is_refused_and_leaves_nothing(lock, tmp_path):
    with pytest.raises(libraries.CannotInstall, match="hash"):
        libraries.ensure_libraries(tmp_path, lock)

    assert [each.name for each in (tmp_path / "libraries").iterdir()] == [".lock"]


def test_what_a_killed_installation_left_is_swept_away(lock, tmp_path):
    (tmp_path / "libraries" / ".new-old").mkdir(parents=True)

    with pytest.raises(libraries.CannotInstall):
        libraries.ensure_libraries(tmp_path, lock)

    assert not (tmp_path / "libraries" / ".new-old").exists()
