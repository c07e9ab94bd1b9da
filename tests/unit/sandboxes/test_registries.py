"""Where packages come from: what the operator told the package tools, and what of it a build sandbox is given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sandboxes.daemon import registries
from sandboxes.daemon.engines import NotOffered
from sandboxes.daemon.registries import Registry, pip_options


def test_an_option_is_taken_from_where_pip_would_take_it():
    said = {
        "global.index-url": "https://global.example/simple",
        "install.index-url": "https://install.example/simple",
        ":env:.find-links": "/a\n/b",
        "global.find-links": "/c",
        "list.format": "columns",
    }

    assert pip_options(said) == {"index-url": "https://install.example/simple", "find-links": "/a /b"}


def test_addresses_become_places_and_folders_become_binds(tmp_path):
    (tmp_path / "index" / "simple").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    registry = Registry()

    inside = [
        registry.add(location)
        for location in (
            "https://one.example/simple",
            "http://user:secret@two.example:8080/simple",
            "https://[fd00::1]/simple",
            f"file://{tmp_path}/index/simple",
            str(tmp_path / "wheels"),
            str(tmp_path / "absent"),
            "relative/folder",
            "",
        )
    ]

    assert registry.policy.as_text() == "[fd00::1]:443,one.example:443,two.example:8080"
    assert [source for source, _ in registry.binds] == [tmp_path / "index", tmp_path / "wheels"]
    assert inside[3:] == ["file:///opt/builder/offer/0/simple", "/opt/builder/offer/1", "", "", ""]


def test_what_is_the_operators_own_is_to_be_kept_quiet():
    registry = Registry(
        settings={"PIP_INDEX_URL": "https://user:secret@one.example/simple", "PIP_NO_INDEX": "1"},
        places={"one.example:443"},
    )

    assert registry.words() == ["https://user:secret@one.example/simple", "one.example"]


def test_pip_is_found_and_asked_how_it_is_configured(monkeypatch, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nindex-url = http://index.example:81/simple\nfind-links = {tmp_path}\n")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))

    registry = registries.find("python", None)

    assert registry.settings["PIP_INDEX_URL"] == "http://index.example:81/simple"
    assert "index.example:81" in registry.places
    assert (tmp_path, registry.settings["PIP_FIND_LINKS"]) in registry.binds
    assert str(tmp_path) not in str(registry.settings)
    assert registry.binds[0][1].startswith("/opt/builder/pip")


def test_without_an_index_nothing_is_reached(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    assert registries.find("python", None).places == set()


def test_by_itself_pip_reaches_its_own_index_and_where_its_files_are(monkeypatch):
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    found = registries.find("python", None)

    assert len(found.places) == 2
    assert all(place.endswith(":443") for place in found.places)


def node_with_npm(folder: Path, config: dict) -> Path:
    """A Node whose npm says it is configured like this."""
    npm = folder / "lib" / "node_modules" / "npm"
    (npm / "bin").mkdir(parents=True)
    (npm / "node_modules").mkdir()
    (npm / "bin" / "npm-cli.js").write_text("")
    node = folder / "bin" / "node"
    node.parent.mkdir()
    node.write_text(f"#!/bin/sh\necho '{json.dumps(config)}'\n")
    node.chmod(0o755)
    return node


def test_npm_beside_the_node_is_asked_how_it_is_configured(tmp_path):
    config = {
        "registry": "https://npm.example/",
        "@own:registry": "http://10.0.0.7:4873/",
        "cafile": None,
        "fund": False,
    }

    registry = registries.find("node", node_with_npm(tmp_path, config))

    assert registry.places == {"npm.example:443", "10.0.0.7:4873"}
    assert registry.settings["@own:registry"] == "http://10.0.0.7:4873/"
    assert [target for _, target in registry.binds] == ["/opt/builder/npm", "/opt/node/node"]


def test_without_npm_or_node_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert registries.why_not("node", None) == "node is not installed on this node"
    assert registries.why_not("node", tmp_path / "node") == "npm is not installed on this node"
    assert registries.why_not("python", None) == ""


def test_a_tool_that_does_not_answer_is_not_offered(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pip", 1)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(NotOffered, match="did not say how it is configured"):
        registries.find("python", None)
