"""Runs inside bubblewrap and never runs a tenant's code: it forks single-use slots.

    daemon ==seqpacket==> zygote --clone into fresh namespaces--> init (pid 1) --fork--> program

The first message is the settings; each later one carries the five descriptors of one slot.
"""

import array
import gc
import importlib
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import forks  # noqa: F401 - before anything that asks for hooks of a fork
import kernel
import program

MESSAGE_LIMIT = 1 << 17


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    settings = json.loads(control.recv(MESSAGE_LIMIT))
    settings["filter"] = bytes.fromhex(settings["filter"])
    init = importlib.import_module(settings["init"])
    _preload(settings)
    if settings["language"] == "python":
        program.prepare(settings["env"])
    kernel.rehearse()
    init.rehearse()
    # Children are reaped by the kernel, so none waits here as a zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Collecting in a child would touch, and so copy, every page shared with it.
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while True:
        message, descriptors = _receive(control)
        if not message:
            return
        order = json.loads(message)
        _fork_slot(begin=init.run, control=control, settings=settings, order=order, descriptors=descriptors)


def _preload(settings: dict) -> None:
    sys.path[:] = [entry for entry in sys.path if entry != settings["home"]]
    if settings["libraries"]:
        sys.path.append(settings["libraries"])
    for name in settings["preload"]:
        try:
            __import__(name)
        except ImportError as problem:
            print(f"cannot preload {name}: {problem}", file=sys.stderr)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    message, ancillary, _, _ = control.recvmsg(MESSAGE_LIMIT, socket.CMSG_SPACE(8 * descriptors.itemsize))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return message, list(descriptors)


def _fork_slot(*, begin, control: socket.socket, settings: dict, order: dict, descriptors: list[int]) -> None:
    gate_read, gate_write = os.pipe()
    pid = kernel.fork_into_namespaces()
    if pid == 0:
        os.close(gate_write)
        control.close()
        begin(settings=settings, order=order, descriptors=descriptors, gate=gate_read)
        os._exit(70)
    for descriptor in (gate_read, *descriptors):
        os.close(descriptor)
    try:
        if pid > 0:
            _map_user(pid=pid, user=order["user"], inner=settings["user"])
            os.write(gate_write, b"1")
    except OSError as problem:
        # The slot's init reads the end of the gate and leaves; the daemon sees its socket close.
        print(f"cannot map the user of a slot: {problem}", file=sys.stderr)
    finally:
        os.close(gate_write)


def _map_user(*, pid: int, user: int, inner: int) -> None:
    for name, content in (("setgroups", "deny"), ("uid_map", f"{inner} {user} 1"), ("gid_map", f"{inner} {user} 1")):
        target = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
        try:
            os.write(target, content.encode())
        finally:
            os.close(target)


if __name__ == "__main__":
    main(int(sys.argv[1]))
