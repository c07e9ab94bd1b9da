"""Pid 1 inside gVisor: starts the program as a user without rights, and says outside how it ended.

The program is another user of another user namespace: it can neither signal this process nor read it, and it
never holds its socket. Whatever else goes on in there dies before the end is told.
"""

import json
import os
import resource
import select
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import forks  # noqa: F401 - before anything that asks for hooks of a fork
import gvisor_init
import kernel
import program
import slot_init

CONTROL, PROGRAM, FIRST_STREAM = 3, 4, 5
MESSAGE_LIMIT = 1 << 17
# Nothing belongs to it: what the program makes is the guest's root's, so this process must be somebody else.
NOBODY = 65534


def main() -> None:
    control = socket.socket(fileno=CONTROL)
    settings = json.loads(control.recv(MESSAGE_LIMIT))
    # gVisor opens no device for writing on a file system that is mounted read-only.
    os.chown("/dev", NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        control.close()
        _become_program(settings)
        os._exit(70)
    _let_go_of_streams()
    _become_nobody()
    status = _watch(control=control, child=child)
    slot_init.end_everything()
    control.send(gvisor_init.STATUS.pack(status))


def _become_program(settings: dict) -> None:
    slot_init.place_from(0, [FIRST_STREAM, FIRST_STREAM + 1, FIRST_STREAM + 2, PROGRAM])
    os.closerange(slot_init.PROGRAM_DESCRIPTOR + 1, 1 << 10)
    os.setsid()
    os.umask(0o022)
    if settings["limits"]:
        _bound(0, settings["limits"])
    kernel.become_user_of_own_namespace(settings["user"])
    os.chdir("/workspace")
    if settings["language"] == "python":
        _prepare(settings)
    kernel.keep_capabilities(())
    kernel.forbid_new_privileges()
    kernel.filter_calls(bytes.fromhex(settings["filter"]))
    if settings["language"] == "node":
        os.execve(settings["command"][0], settings["command"], settings["env"])
    program.run(slot_init.PROGRAM_DESCRIPTOR)


def _prepare(settings: dict) -> None:
    """What the zygote does for all programs of an engine without a kernel between them."""
    sys.path[:] = [entry for entry in sys.path if entry != settings["home"]]
    if settings["libraries"]:
        sys.path.append(settings["libraries"])
    for name in settings["preload"]:
        __import__(name)
    program.prepare(settings["env"])
    program.get_ready()


def _let_go_of_streams() -> None:
    """What the program could open again by its number must be nothing of the host's."""
    quiet = os.open("/dev/null", os.O_RDWR)
    for number in range(CONTROL):
        os.dup2(quiet, number)
    os.closerange(CONTROL + 1, 1 << 10)


def _become_nobody() -> None:
    """Another user than the program's, with the two rights it takes to bound and end it."""
    kernel.keep_capabilities_over_users()
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.keep_capabilities((kernel.CAP_KILL, kernel.CAP_SYS_RESOURCE))
    kernel.set_dumpable(False)


def _watch(*, control: socket.socket, child: int) -> int:
    """The program's wait status; until it ends, limits may come."""
    woken = gvisor_init.wake_on_child()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    ended = slot_init.reap(child)
    while ended is None:
        events = dict(poll.poll())
        gvisor_init.drain(woken)
        if CONTROL in events:
            message = control.recv(MESSAGE_LIMIT)
            if not message:
                os._exit(71)
            _bound(child, json.loads(message))
            control.send(b"armed")
        ended = slot_init.reap(child)
    return ended


def _bound(pid: int, limits: dict) -> None:
    """Put limits on the waiting program; what the host's kernel counts is not among them."""
    bounds = {
        # This process counts as well: it began as the program's user.
        resource.RLIMIT_NPROC: limits["processes"] + 1,
        resource.RLIMIT_FSIZE: limits["disk_mb"] << 20,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_CORE: 1,
    }
    for limit, value in bounds.items():
        # A second order may raise these two; the filter keeps the program from it, and the scratch space bounds files.
        may_grow = limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, limit, (value, resource.RLIM_INFINITY if may_grow else value))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
