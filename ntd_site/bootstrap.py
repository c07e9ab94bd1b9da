"""Makes `.venv` from the hashed lock and runs the command again inside it.

Standard library only, in syntax that old Pythons can parse, so that a fresh machine with an older
Python gets a sentence instead of a traceback. Nothing is installed twice: the lock's hash is kept
in `.venv`, and a second start does no network access at all.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11)
DEV_COMMANDS = ("test", "bench")


def enter_environment(argv):
    """Return when the running interpreter has the locked packages; otherwise replace this process."""
    if sys.version_info < OLDEST:
        sys.exit(
            "ntd needs Python %d.%d or newer; this is %d.%d. Install it and run: python3.11 %s"
            % (OLDEST + tuple(sys.version_info[:2]) + (" ".join(argv),))
        )
    if os.environ.get("NTD_SKIP_VENV") == "1":
        return
    venv = os.environ.get("NTD_VENV") or os.path.join(ROOT, ".venv")
    in_ours = os.path.realpath(sys.prefix) == os.path.realpath(venv)
    in_another = sys.prefix != sys.base_prefix and not in_ours
    if in_another and importlib.util.find_spec("django"):
        return
    lock = _wanted_lock(argv, venv)
    if not _is_current(venv, lock):
        _make(venv, lock)
    if not in_ours:
        python = _python_of(venv)
        os.execv(python, [python] + argv)


def _wanted_lock(argv, venv):
    has_dev = _stamp(venv).startswith("requirements-dev.lock")
    wants_dev = has_dev or any(command in argv[1:2] for command in DEV_COMMANDS)
    return os.path.join(ROOT, "requirements-dev.lock" if wants_dev else "requirements.lock")


def _python_of(venv):
    return os.path.join(venv, "bin", "python")


def _stamp(venv):
    try:
        with open(os.path.join(venv, "ntd-lock")) as file:
            return file.read()
    except OSError:
        return ""


def _expected_stamp(lock):
    with open(lock, "rb") as file:
        return "%s %s" % (os.path.basename(lock), hashlib.sha256(file.read()).hexdigest())


def _is_current(venv, lock):
    return _stamp(venv) == _expected_stamp(lock)


def _make(venv, lock):
    os.makedirs(os.path.dirname(venv), exist_ok=True)
    with open(venv.rstrip("/") + ".lock", "w") as guard:
        # Two commands started together must not install into one folder at the same time.
        fcntl.flock(guard, fcntl.LOCK_EX)
        if _is_current(venv, lock):
            return
        say = "Installing packages into %s (once; later starts need no network) ..."
        sys.stderr.write(say % os.path.relpath(venv) + "\n")
        _create(venv)
        _install(venv, lock)
        with open(os.path.join(venv, "ntd-lock"), "w") as file:
            file.write(_expected_stamp(lock))


def _create(venv):
    if os.path.exists(_python_of(venv)) and _has_pip(venv):
        return
    result = subprocess.run([sys.executable, "-m", "venv", "--clear", venv], capture_output=True, text=True)
    if result.returncode == 0:
        return
    # Debian leaves ensurepip out of its Python; a pip outside can still fill an environment without one.
    shutil.rmtree(venv, ignore_errors=True)
    bare = subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], capture_output=True, text=True)
    if bare.returncode or not _outside_pip():
        sys.exit(
            "Cannot make a virtual environment in %s: %s\nOn Debian or Ubuntu: apt install python3-venv"
            % (venv, (result.stderr or result.stdout).strip())
        )


def _has_pip(venv):
    return subprocess.run([_python_of(venv), "-m", "pip", "--version"], capture_output=True).returncode == 0


def _outside_pip():
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0


def _install(venv, lock):
    if _has_pip(venv):
        command = [_python_of(venv), "-m", "pip"]
    else:
        command = [sys.executable, "-m", "pip", "--python", _python_of(venv)]
    command += ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock]
    if subprocess.run(command).returncode:
        sys.exit("Installing the packages failed (see above). Mend that and run the same command again.")
