"""Pid 1 of a kept slot: starts one program after another, for as long as the daemon keeps it.

    daemon --run, with the program's socket and streams--> init --fork--> program, as in any slot
    daemon <--armed, report------------------------------- init           then everything but the init is dead

Files are all that stays from one program to the next.
"""

import contextlib
import os
import select
import signal
import socket
import stat
import sys

import program
import slot_init

DESCRIPTORS_OF_A_PROGRAM = 4
ARTIFACTS = "/workspace/artifacts"


def run(*, settings: dict, order: dict, descriptors: list[int], gate: int) -> None:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptors[0])
    try:
        if os.read(gate, 1) != b"1":
            return
        os.close(gate)
        slot_init.become_user(settings["user"])
        control.send(b"here")
        if control.recv(16) != b"go":
            return
        slot_init.settle(control=control, disk_mb=order["disk_mb"], settings=settings)
        slot_init.close_all_but(control.fileno())
        while _serve(control=control, settings=settings, order=order):
            pass
    except BaseException as problem:
        print(f"kept slot: {type(problem).__name__}: {problem}", file=sys.stderr)
    finally:
        os._exit(71)


def _serve(*, control: socket.socket, settings: dict, order: dict) -> bool:
    """One message, and the program it starts; False when the daemon is gone."""
    # The watch over the program before has left the socket unblocking.
    select.select([control], [], [])
    message, descriptors, _, _ = socket.recv_fds(control, 4096, DESCRIPTORS_OF_A_PROGRAM)
    if message != b"run":
        # Any other message came too late for the program before.
        return bool(message)
    try:
        child = os.fork()
    except OSError:
        child = -1
    if child == 0:
        control.close()
        _become_program(settings=settings, order=order, descriptors=descriptors)
        os._exit(70)
    for descriptor in descriptors:
        os.close(descriptor)
    if child < 0:
        control.send(slot_init.REPORT.pack(signal.SIGKILL, 0.0, 0.0, 0, False))
        return True
    watch = slot_init.Watch(control=control, child=child, disk_mb=order["disk_mb"], settings=settings)
    watch.keep()
    return not watch.abandoned


def _become_program(*, settings: dict, order: dict, descriptors: list[int]) -> None:
    # The watch waits for these; the program is to get them as always.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    slot_init.take(descriptors, limits=order["limits"])
    if settings["language"] == "python":
        program.wake()
    slot_init.give_up_rights(settings)
    tidy()
    slot_init.start(settings)


def tidy() -> None:
    """Put right, as the program itself, what the program before may have done to the places it starts from."""
    with contextlib.suppress(OSError):
        for _, place, mode in slot_init.PLACES:
            os.chmod(place, mode)
        if not _is_folder(ARTIFACTS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ARTIFACTS)
            os.mkdir(ARTIFACTS)
        _empty(ARTIFACTS)


def _empty(folder: str) -> None:
    """However deep it is: what lies in a folder of it moves up, and then the folder goes."""
    moved = 0
    os.chmod(folder, 0o755)
    while names := os.listdir(folder):
        for name in names:
            path = f"{folder}/{name}"
            if not _is_folder(path):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            for inner in os.listdir(path):
                moved += 1
                _move(f"{path}/{inner}", f"{folder}/.{moved}-{os.urandom(8).hex()}")
            os.rmdir(path)


def _move(source: str, target: str) -> None:
    if _is_folder(source):
        # A folder that moves is itself written to.
        os.chmod(source, 0o700)
    os.rename(source, target)


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
