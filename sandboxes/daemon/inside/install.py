"""Runs in a build's sandbox: installs packages into /workspace/out without running any code of theirs.

Only wheels for Python, no scripts for Node. All it prints is the log; the last line of stderr is why it failed.
"""

import hashlib
import json
import os
import re
import subprocess
import sys

OUT, WHEELS, LOCK = "/workspace/out", "/workspace/wheels", "/workspace/artifacts/lock"
TOOLS = "/opt/builder"
# Said of the operator's machine before anything happens, and no use to who reads the log.
UNTOLD = re.compile(r"Looking in |WARNING: Location |\[notice\]|npm (notice|error A complete log|ERR! A complete log)")
FAULT = re.compile(
    r"(?:ERROR:|npm (?:error|ERR!)(?: [a-z0-9]+)?) (?!code |errno |syscall |path |A complete log)([A-Z0-9'].*\S)"
)


class Failed(Exception):
    pass


def main() -> None:
    with open("/workspace/build.json") as file:
        order = json.load(file)
    for folder in (OUT, WHEELS, "/workspace/tmp", "/tmp/home"):
        os.makedirs(folder, exist_ok=True)
    try:
        lock = {"python": install_python, "node": install_node}[order["language"]](order) if order["packages"] else ""
    except Failed as failed:
        print(failed, file=sys.stderr)
        sys.exit(1)
    with open(LOCK, "w") as file:
        file.write(lock)


def install_python(order: dict) -> str:
    """Fetched, written down with their hashes, then installed from what was fetched."""
    tool = next(name for name in os.listdir(TOOLS) if name.startswith("pip"))
    env = {
        **quiet_environment(),
        "PYTHONPATH": TOOLS if tool == "pip" else f"{TOOLS}/{tool}",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_CERT": os.environ.get("SSL_CERT_FILE", ""),
        **order["settings"],
    }
    if not env["PIP_CERT"]:
        del env["PIP_CERT"]
    pip = [sys.executable, "-B", "-m", "pip"]
    plain = ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    wheels = ["--only-binary", ":all:", "--dest", WHEELS]
    run([*pip, "download", *plain, *wheels, *wanted(order)], env, order["words"])
    found = [f"{WHEELS}/{name}" for name in sorted(os.listdir(WHEELS))]
    target = ["--no-index", "--no-deps", "--target", OUT, "--no-warn-script-location", "--root-user-action=ignore"]
    run([*pip, "install", *plain, *target, *found], env, order["words"])
    return "\n".join([f"# {order['tag']}", *(pinned(wheel) for wheel in found), ""])


def wanted(order: dict) -> list[str]:
    """What was asked; with a lock exactly that, by hash when it was made for a machine like this one."""
    if not order["lock"]:
        return order["packages"]
    first, *pins = order["lock"].splitlines()
    with open("/workspace/pins.txt", "w") as file:
        if first == f"# {order['tag']}":
            file.write("\n".join(pins))
            return ["--require-hashes", "--no-deps", "-r", file.name]
        file.write("\n".join(pin.split()[0] for pin in pins))
        return ["-c", file.name, *order["packages"]]


def pinned(wheel: str) -> str:
    name, version = os.path.basename(wheel).split("-")[:2]
    with open(wheel, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}"


def install_node(order: dict) -> str:
    with open("/tmp/home/.npmrc", "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in order["settings"].items())
    asked = dict(package.rsplit("@", 1) for package in order["packages"])
    with open(f"{OUT}/package.json", "w") as file:
        json.dump({"name": "template", "version": "1.0.0", "private": True, "dependencies": asked}, file)
    if order["lock"]:
        with open(f"{OUT}/package-lock.json", "w") as file:
            file.write(order["lock"])
    env = {
        **quiet_environment(),
        "npm_config_git": "/bin/false",
        "npm_config_cache": "/workspace/tmp",
        "npm_config_fetch_retries": "1",
    }
    plain = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", "--no-progress"]
    verb = "ci" if order["lock"] else "install"
    npm = ["/opt/node/node", f"{TOOLS}/npm/bin/npm-cli.js", verb]
    run([*npm, *plain, "--omit-lockfile-registry-resolved"], env, order["words"])
    with open(f"{OUT}/package-lock.json") as file:
        lock = json.load(file)
    for package in lock["packages"].values():
        package.pop("resolved", None)
    return json.dumps(lock, indent=1)


def quiet_environment() -> dict[str, str]:
    """A registry may be on the operator's own machine, so nothing is excepted from the proxy."""
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    return {**kept, "HOME": "/tmp/home", "TMPDIR": "/workspace/tmp", "NO_COLOR": "1"}


def run(command: list[str], env: dict[str, str], words: list[str]) -> None:
    """Say what a tool says, but for what is the operator's own."""
    hidden = re.compile("|".join(re.escape(word) for word in words) or r"(?!)")
    faults = []
    tool = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=OUT
    )
    for raw in tool.stdout:
        line = hidden.sub("(registry)", raw.decode(errors="replace").rstrip())
        if not UNTOLD.match(line):
            print(line, flush=True)
        fault = FAULT.match(line)
        if fault:
            faults.append(fault[1])
    if tool.wait() != 0:
        # npm says what is wrong first and goes on; pip comes to it last.
        told = faults[:1] if "npm" in command[1] else faults[-1:]
        raise Failed(told[0] if told else f"The package tool ended with exit code {tool.returncode}.")


main()
