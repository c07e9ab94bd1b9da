"""The waiting Python program: takes one request, becomes it, and ends as the interpreter would."""

import atexit
import builtins
import json
import linecache
import os
import random
import signal
import site
import struct
import sys
import threading
import traceback
import types

LENGTH = struct.Struct("!I")
MAIN = "/workspace/main.py"
OWN_MODULES = ("kernel", "slot_init", "program")


def run(*, descriptor: int, env: dict[str, str]) -> None:
    _open_streams()
    os.environ.clear()
    os.environ.update(env)
    _reseed()
    os.write(descriptor, b"R")
    request, blobs = _receive(descriptor)
    os.close(descriptor)
    code = next(blobs)
    status = 1
    try:
        _place_files(request["files"], blobs)
        os.environ.update(request["env"])
        sys.argv = [MAIN, *request["args"]]
        status = _execute(code.decode("utf-8", "surrogatepass"))
    except OSError as problem:
        print(f"The files of this execution could not be written: {problem}", file=sys.stderr)
    finally:
        _end(status)


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
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    # Written line by line: what was printed is visible at once, and kept if the program is killed.
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _reseed() -> None:
    """Slots share their zygote's memory, so each needs chance of its own."""
    random.seed()
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
    site.setquit()
    sys.path.insert(0, "/workspace")
    sys.modules["__main__"] = main
    for name in OWN_MODULES:
        sys.modules.pop(name, None)
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
