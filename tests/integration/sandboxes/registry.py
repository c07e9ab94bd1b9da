"""Packages that tests make, and places to have them from: a folder of wheels, and an npm registry on the loopback."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str], *, needs: tuple[str, ...] = ()) -> Path:
    """A wheel of pure Python."""
    info = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    contents = dict(files) | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*contents, f"{info}/RECORD"))
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return wheel


def make_sdist(folder: Path, name: str, version: str, setup: str) -> Path:
    """A source package, whose `setup.py` would run if anybody built it."""
    archive = folder / f"{name}-{version}.tar.gz"
    archive.write_bytes(
        _tar({f"{name}-{version}/setup.py": setup, f"{name}-{version}/PKG-INFO": f"Name: {name}\nVersion: {version}\n"})
    )
    return archive


def _tar(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


class _Npm(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.server.answers.get(self.path)  # type: ignore[attr-defined]
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(found or b"{}")))
        self.end_headers()
        self.wfile.write(found or b"{}")

    def log_message(self, *_: object) -> None:
        """Tests read `seen`."""


@contextlib.contextmanager
def npm(packages: Mapping[str, Mapping[str, str]]) -> Iterator[ThreadingHTTPServer]:
    """A registry of `name@version` -> its files; `seen` holds the paths it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Npm)
    server.seen, server.answers = [], {}  # type: ignore[attr-defined]
    for package, files in packages.items():
        _publish(server, package, files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _publish(server: ThreadingHTTPServer, package: str, files: Mapping[str, str]) -> None:
    name, _, version = package.rpartition("@")
    about = json.loads(files["package.json"]) | {"name": name, "version": version}
    content = _tar(
        {f"package/{path}": text for path, text in files.items()} | {"package/package.json": json.dumps(about)}
    )
    tarball = f"/{name}/-/{version}.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    dist = {"tarball": f"http://127.0.0.1:{server.server_port}{tarball}", "integrity": integrity}
    said = {"name": name, "dist-tags": {"latest": version}, "versions": {version: about | {"dist": dist}}}
    server.answers[tarball] = content  # type: ignore[attr-defined]
    server.answers[f"/{name.replace('/', '%2f')}"] = json.dumps(said).encode()  # type: ignore[attr-defined]
