"""gVisor's program `runsc`: where it is found, and what it is told to make of a slot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from sandboxes.daemon import bubblewrap

# Where it lies in the jail, and the folders there that are not the program's to see.
PLACE = "/opt/gvisor/runsc"
FOLDERS = ("/opt/gvisor", "/scratch")
OPTIONS = (
    "--root=/scratch/state",
    "--panic-log=/scratch/panic",
    "--rootless",
    "--ignore-cgroups",
    "--platform=systrap",
    "--overlay2=none",
)
NAMESPACES = ("pid", "mount", "ipc", "uts")
# What the guest's init may do inside; the program may do none of it.
CAPABILITIES = ("CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_SYS_RESOURCE")
VERSION_SECONDS = 5


def find(given: str = "") -> Path | None:
    """Given, else where RUNSC_PATH or PATH says."""
    found = given or os.environ.get("RUNSC_PATH") or shutil.which("runsc")
    return Path(os.path.realpath(found)) if found else None


def version(runsc: Path) -> str:
    """As it says itself: `runsc version release-20240729.0`."""
    try:
        done = subprocess.run(
            [runsc, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    first = done.stdout.partition("\n")[0]
    return first.removeprefix("runsc version ").strip()


def command(*, network: bool) -> list[str]:
    """With a network the guest uses the slot's own, in which there is nothing but the way out."""
    return [PLACE, *OPTIONS, "--network=host" if network else "--network=none"]


def spec(place: bubblewrap.Place, *, network: bool) -> dict:
    """The guest sees what the jail shows, without what is only there to start it."""
    rights = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    own = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": place.interpreter.library_path}
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [place.interpreter.executable, "-I", "-S", "-B", f"{bubblewrap.HOME}/guest_init.py"],
            "env": [f"{name}={value}" for name, value in own.items() if value],
            "cwd": "/",
            "capabilities": rights,
        },
        "root": {"path": "/", "readonly": True},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
            *(_hidden(folder) for folder in ("/sys", *FOLDERS)),
            *(_shared(folder) for folder in ("/workspace", "/tmp", "/dev/shm")),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in (*NAMESPACES, *(() if network else ("network",)))]},
    }


def _hidden(folder: str) -> dict:
    return {"destination": folder, "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=4k", "mode=000"]}


def _shared(folder: str) -> dict:
    return {"destination": folder, "type": "bind", "source": folder, "options": ["rw", "nosuid", "nodev"]}
