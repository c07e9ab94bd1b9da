"""Where packages come from on this machine: what its operator told pip and npm, else what these use by themselves."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sandboxes.daemon import egress
from sandboxes.daemon.bubblewrap import CERTIFICATES
from sandboxes.daemon.engines import NotOffered

TOOLS = "/opt/builder"
ASK_SECONDS = 60
PORTS = {"http": 80, "https": 443}
# Asked of pip itself: its configuration from every place it looks in, and its own index.
ASK_PIP = """
import json
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
found = Configuration(isolated=False)
found.load()
print(json.dumps({"said": dict(found.items()), "index": PyPI.simple_url, "files": PyPI.file_storage_domain}))
"""
# What says the most about an option comes last.
PIP_SECTIONS = ("global", "download", "install", ":env:")
PIP_LISTS = ("extra-index-url", "find-links", "trusted-host")
WHEEL_FOLDERS = ("/usr/share/python-wheels",)


@dataclass
class Registry:
    """What a build sandbox is given: settings of the tool, folders to read, places to reach, words to keep quiet."""

    settings: dict[str, str] = field(default_factory=dict)
    binds: list[tuple[Path, str]] = field(default_factory=list)
    places: set[str] = field(default_factory=set)
    certificates: Path | None = None

    @property
    def policy(self) -> egress.Policy:
        return egress.only(self.places)

    def words(self) -> list[str]:
        """What of the operator's network is no customer's to read, longest first."""
        values = [word for value in self.settings.values() for word in value.split() if "/" in word]
        hosts = [place.rpartition(":")[0] for place in self.places]
        return sorted({*values, *hosts}, key=len, reverse=True)

    def add(self, location: str) -> str:
        """A registry's address, or a folder or file of this machine; returns what it is called in the sandbox."""
        parts = urlsplit(location)
        if parts.scheme in PORTS and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            self.places.add(f"{host}:{parts.port or PORTS[parts.scheme]}")
            return location
        path = Path(unquote(parts.path) if parts.scheme == "file" else location)
        # The pages of an index name its files beside them.
        shown = path.parent if path.name == "simple" else path
        if not path.is_absolute() or not shown.exists():
            return ""
        inside = f"{TOOLS}/offer/{len(self.binds)}"
        self.binds.append((shown, inside))
        inside = f"{inside}/simple" if shown != path else inside
        return f"file://{inside}" if parts.scheme == "file" else inside

    def add_all(self, locations: str) -> str:
        return " ".join(filter(None, (self.add(location) for location in locations.split())))


def find_pip() -> Path | None:
    """The installed package, or the wheel that came with the interpreter."""
    found = importlib.util.find_spec("pip")
    if found and found.origin:
        return Path(found.origin).parent
    folders = [Path(folder) for folder in WHEEL_FOLDERS]
    bundled = importlib.util.find_spec("ensurepip")
    if bundled and bundled.origin:
        folders.insert(0, Path(bundled.origin).parent / "_bundled")
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def find_npm(node: Path | None) -> Path | None:
    """The folder of npm: beside the Node that runs programs, else the one on PATH."""
    on_path = shutil.which("npm")
    beside = node.resolve().parent.parent / "lib" / "node_modules" / "npm" if node else None
    for folder in (beside, Path(os.path.realpath(on_path)).parent.parent if on_path else None):
        # Some distributions take npm apart; only a whole one can be shown to a sandbox.
        if folder and (folder / "bin" / "npm-cli.js").is_file() and (folder / "node_modules").is_dir():
            return folder
    return None


def why_not(language: str, node: Path | None) -> str:
    """Why packages of a language cannot be installed here; empty when they can."""
    if language == "python":
        return "" if find_pip() else "pip is not installed on this node"
    if node is None:
        return "node is not installed on this node"
    return "" if find_npm(node) else "npm is not installed on this node"


def find(language: str, node: Path | None) -> Registry:
    return _pip() if language == "python" else _npm(node)


def _pip() -> Registry:
    source = find_pip()
    assert source
    answer = _ask([sys.executable, "-c", ASK_PIP], PYTHONPATH=str(source if source.suffix else source.parent))
    said = pip_options(answer["said"])
    registry = Registry(binds=[(source, f"{TOOLS}/{source.name}")])
    registry.certificates = Path(said["cert"]) if Path(said.get("cert", "")).is_file() else None
    settings = {
        "find-links": registry.add_all(said.get("find-links", "")),
        "trusted-host": said.get("trusted-host", ""),
    }
    if said.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        settings["no-index"] = "1"
    else:
        settings["index-url"] = registry.add(said.get("index-url", answer["index"]))
        settings["extra-index-url"] = registry.add_all(said.get("extra-index-url", ""))
        if urlsplit(settings["index-url"]).hostname == urlsplit(answer["index"]).hostname:
            registry.add(f"https://{answer['files']}/")
    registry.settings = {_pip_variable(name): value for name, value in settings.items() if value}
    return registry


def pip_options(said: dict[str, str]) -> dict[str, str]:
    """Each option once, as pip itself would take it."""
    options: dict[str, str] = {}
    for section in PIP_SECTIONS:
        for name, value in said.items():
            if name.rpartition(".")[0] == section:
                option = name.rpartition(".")[2]
                options[option] = " ".join(value.split()) if option in PIP_LISTS else value
    return options


def _pip_variable(option: str) -> str:
    return f"PIP_{option.replace('-', '_').upper()}"


def _npm(node: Path | None) -> Registry:
    folder = find_npm(node)
    assert node
    assert folder
    said = _ask([str(node), str(folder / "bin" / "npm-cli.js"), "config", "list", "--json"])
    registry = Registry(binds=[(folder, f"{TOOLS}/npm"), (node, "/opt/node/node")])
    for name, value in said.items():
        if name == "registry" or (name.startswith("@") and name.endswith(":registry")):
            registry.settings[name] = str(value)
            registry.add(str(value))
    certificates = said.get("cafile")
    registry.certificates = Path(certificates) if certificates and Path(certificates).is_file() else None
    registry.settings["cafile"] = CERTIFICATES
    return registry


def _ask(command: list[str], **env: str) -> dict:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_SECONDS, env=os.environ | env, cwd="/", check=True
        )
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as problem:
        raise NotOffered(f"its package tool did not say how it is configured: {problem}") from problem
