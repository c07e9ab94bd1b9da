"""The waiting Python program: takes one request, becomes it, and ends as the interpreter would.

What is the same for all is done, and what a program will do is practised, in the zygote: `prepare`. A function's
first call writes to memory (what it makes once, how often it ran), and in a fork each page written to is copied.
"""

import atexit
import builtins
import json
import linecache
import os
import signal
import site
import socket
import struct
import sys
import threading
import traceback
import types

import forks
import kernel

LENGTH = struct.Struct("!I")
MAIN = "/workspace/main.py"
# A request as the daemon sends it, for a program that does nothing.
HEADER = b'{"args": [], "env": {}, "files": [], "sizes": [4]}'
NOTHING = LENGTH.pack(len(HEADER)) + HEADER + b"pass"
OWN_MODULES = ("forks", "kernel", "slot_init", "program")


def prepare(env: dict[str, str]) -> None:
    """In the zygote, before any slot: of what a program needs, all that no request changes."""
    _open_streams()
    os.environ.clear()
    os.environ.update(env)
    site.setquit()
    sys.path.insert(0, "/workspace")
    _rehearse()
    sys.argv = [MAIN]
    for name in OWN_MODULES:
        sys.modules.pop(name, None)


def _rehearse() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(kernel.REHEARSALS):
            forks.run_hooks()
            _reseed()
            ours.send(NOTHING)
            _serve(*_receive(theirs.fileno()))


def get_ready() -> None:
    """In the program, as long as nothing is asked of it: also touch what it will touch, while nobody waits."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    forks.catch_up()
    _reseed()
    reading, writing = os.pipe()
    os.write(writing, NOTHING)
    _serve(*_receive(reading))
    os.close(reading)
    os.close(writing)


def run(descriptor: int) -> None:
    os.write(descriptor, b"R")
    request, blobs = _receive(descriptor)
    os.close(descriptor)
    status = 1
    try:
        status = _serve(request, blobs)
    except OSError as problem:
        print(f"The files of this execution could not be written: {problem}", file=sys.stderr)
    finally:
        _end(status)


def _serve(request: dict, blobs: "types.GeneratorType") -> int:
    code = next(blobs)
    _place_files(request["files"], blobs)
    os.environ.update(request["env"])
    sys.argv = [MAIN, *request["args"]]
    return _execute(code.decode("utf-8", "surrogatepass"))


def _receive(descriptor: int) -> tuple[dict, "types.GeneratorType"]:
    header = json.loads(_read(descriptor, LENGTH.unpack(_read(descriptor, LENGTH.size))[0]))
    sizes = header["sizes"]
    content = _read(descriptor, sum(sizes))
    return header, _cut(content, sizes)


def _cut(content: bytes, sizes: list[int]):
    start = 0
    for size in sizes:
        yield content[start : start + size]
        start += size


def _read(descriptor: int, wanted: int) -> bytes:
    parts = bytearray()
    while len(parts) < wanted:
        part = os.read(descriptor, min(wanted - len(parts), 1 << 20))
        if not part:
            os._exit(72)
        parts += part
    return bytes(parts)


def _open_streams() -> None:
    """The program's streams. They are told what they are on when they are made, so they are made on pipes."""
    reading, writing = os.pipe()
    real = [os.dup(number) for number in range(3)]
    for number, pipe in enumerate((reading, writing, writing)):
        os.dup2(pipe, number)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    # Written line by line: what was printed is visible at once, and kept if the program is killed.
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    for number, kept in enumerate(real):
        os.dup2(kept, number)
    for descriptor in (reading, writing, *real):
        os.close(descriptor)


def _reseed() -> None:
    """Slots share their zygote's memory, so each needs chance of its own. `random` sees to it by a hook of its own."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _place_files(paths: list[str], blobs) -> None:
    for path, content in zip(paths, blobs, strict=True):
        target = os.path.join("/workspace", path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as out:
            out.write(content)


def _execute(code: str) -> int:
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=MAIN, __builtins__=builtins)
    sys.modules["__main__"] = main
    linecache.cache[MAIN] = (len(code), None, code.splitlines(keepends=True), MAIN)
    try:
        exec(compile(code, MAIN, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as leaving:
        return _exit_status(leaving.code)
    except BaseException as problem:
        _tell(problem)
        return 1
    return 0


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _tell(problem: BaseException) -> None:
    """Say it as the interpreter does, from the caller's first line on."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    problem.__traceback__ = trace
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(problem), problem, trace)
        return
    # The interpreter's own hook looks for the source on disk only; the code was never written there.
    traceback.print_exception(problem)


def _end(status: int) -> None:
    """What the interpreter does at its end, without the slow freeing of what the kernel frees anyway."""
    for step in (threading._shutdown, atexit._run_exitfuncs):
        try:
            step()
        except BaseException as problem:
            _tell(problem)
    for stream in (sys.stdout, sys.stderr):
        try:
            # The interpreter, too, forgives a program that has closed its own streams.
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException:
            status = status or 120
    os._exit(status)
