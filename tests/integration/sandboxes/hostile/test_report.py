"""How a program ended is the kernel's word: nothing it writes, closes, patches or leaves running changes it."""

from __future__ import annotations

from tests.integration.sandboxes.daemons import run
from tests.integration.sandboxes.hostile.rows import HANDLED, Row, both, play

FORGES = [
    Row(
        "writes a report of success to every descriptor there could be, opened anew as well",
        python="""
        import os, struct
        frames = struct.pack('!iddQB', 0, 0.0, 0.0, 1, 0), b'armed', b'R', struct.pack('!IB', 2, 18) + b'{}'
        for number in range(3, 2048):
            for frame in frames:
                try: os.write(number, frame)
                except OSError: pass
        for process in ('self', '1', '2'):
            for number in range(64):
                for way in (os.O_WRONLY, os.O_RDWR):
                    try: os.write(os.open(f'/proc/{process}/fd/{number}', way | os.O_NONBLOCK), frames[0])
                    except OSError: pass
        os._exit(5)
        """,
        node="""
        const fs = require('fs'), frame = Buffer.alloc(29);
        for (const process of ['self', '1', '2']) for (let n = 0; n < 64; n++) for (const way of ['a', 'r+'])
          try { fs.writeSync(fs.openSync(`/proc/${process}/fd/${n}`, way), frame); } catch {}
        for (let n = 3; n < 1024; n++) try { fs.writeSync(n, frame); } catch {}
        process.reallyExit(5);
        """,
        # Node writes over the pipes by which it wakes itself, and may crash.
        ends={"breach": None, "cancelled": False},
    ),
    Row(
        "prints a report of success and fails",
        python="import os; os.write(1, bytes(29)); os._exit(9)",
        node="require('fs').writeSync(1, Buffer.alloc(29)); process.reallyExit(9)",
        ends={"exit_code": 9, "stdout": bytes(29)},
    ),
    Row(
        "patches how programs end",
        python="import os, sys, atexit\nos._exit = lambda *_: None\nsys.excepthook = lambda *_: None\nraise ValueError",
        node="process.exit = process.reallyExit = process.abort = () => {}; throw new Error('x')",
        ends={"cancelled": False},
    ),
    Row(
        "exits with a number beyond a byte",
        python="import os; os._exit(256 + 7)",
        node="process.reallyExit(256 + 7)",
        ends={"exit_code": 7},
    ),
    Row(
        "dies by a signal of its own",
        python="import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        node="process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9000)",
        ends={"exit_code": None, "signal": 15, "breach": None},
    ),
]


@both(FORGES)
def test_a_forged_report_reaches_nobody(attacked, row, language):
    outcome = play(attacked, row, language)

    assert outcome.exit_code != 0


STREAMS = [
    Row(
        "closes its own output and goes on",
        python="import sys\nprint('before')\nsys.stdout.close()\nsys.stderr.close()",
        node="process.stdout.write('before\\n', () => { process.stdout.destroy(); process.stderr.destroy(); setTimeout(() => {}, 10); })",
        ends=HANDLED | {"stdout": b"before\n"},
    ),
    Row(
        "closes its descriptors and fails",
        python="import os\nprint('before', flush=True)\nos.closerange(0, 100)\nos._exit(4)",
        node="const fs = require('fs'); fs.writeSync(1, 'before\\n'); for (const n of [0, 1, 2]) fs.closeSync(n); process.reallyExit(4)",
        ends={"exit_code": 4, "breach": None, "stdout": b"before\n"},
    ),
    Row(
        "closes its output and runs on until its time is over",
        python="import os\nos.closerange(0, 3)\nwhile True: pass",
        node="for (const n of [0, 1, 2]) require('fs').closeSync(n); for (;;);",
        ends={"breach": "timeout", "signal": 9},
        timeout_seconds=0.5,
    ),
    Row(
        "swaps its two streams",
        python="import os\na = os.dup(1); os.dup2(2, 1); os.dup2(a, 2); os.write(1, b'one'); os.write(2, b'two')",
        node="const {execFileSync} = require('child_process'); execFileSync('/bin/sh', ['-c', 'printf one >&2; printf two'], {stdio: 'inherit'})",
        ends=HANDLED | {"stdout": b"two", "stderr": b"one"},
    ),
    Row(
        "writes what is no text",
        python="import sys; sys.stdout.buffer.write(bytes(range(256)) + b'\\xff\\xfe\\x00')",
        node="process.stdout.write(Buffer.from([...Array(256).keys(), 255, 254, 0]))",
        ends=HANDLED | {"stdout": bytes(range(256)) + b"\xff\xfe\x00"},
    ),
    Row(
        "has open what it was given, and nothing else",
        python="import os; print([n for n in range(4096) if os.path.exists(f'/proc/self/fd/{n}')])",
        node="""
        const fs = require('fs');
        const open = fs.readdirSync('/proc/self/fd').map((n) => { try { return fs.readlinkSync('/proc/self/fd/' + n); } catch { return ''; } });
        const outside = open.filter((target) => /^(pipe|socket):|^[/]/.test(target) && !/^[/](dev[/]null|proc[/])/.test(target));
        // Its standard streams, and the pipes by which Node wakes itself.
        console.log(outside.filter((target) => target.startsWith('socket') || target.startsWith('/')));
        """,
    ),
]


@both(STREAMS)
def test_its_streams_are_its_own(attacked, row, language):
    outcome = play(attacked, row, language)

    if row is STREAMS[-1]:
        assert outcome.stdout == {"python": b"[0, 1, 2]\n", "node": b"[]\n"}[language]


def test_its_environment_holds_nothing_of_the_daemons(attacked):
    usual = {"HOME", "LANG", "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}  # fmt: skip
    python = run(attacked, "import os; print(' '.join(os.environ))").stdout.decode().split()
    node = run(attacked, "console.log(Object.keys(process.env).join(' '))", language="node").stdout.decode().split()

    assert set(python) | set(node) <= usual


OUTLIVES = [
    Row(
        "leaves a daemon behind that has left its session and closed everything",
        python="""
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 3)
                while True: time.sleep(1)
            os._exit(0)
        os.wait()
        print('gone')
        """,
        node="""
        const {spawn} = require('child_process');
        spawn('/bin/sh', ['-c', 'exec </dev/null >/dev/null 2>&1; setsid sleep 600 & setsid sleep 600'], {detached: true, stdio: 'ignore'}).unref();
        console.log('gone');
        """,
        ends=HANDLED | {"stdout": b"gone\n"},
    ),
    Row(
        "leaves one behind that keeps its output open",
        python="""
        import os, time
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        print('gone')
        """,
        node="require('child_process').spawn('/bin/sleep', ['600'], {detached: true, stdio: 'inherit'}).unref(); console.log('gone');",
        ends=HANDLED | {"stdout": b"gone\n"},
    ),
    Row(
        "leaves many behind that are busy, and ends as it likes",
        python="""
        import os
        for n in range(10):
            if os.fork() == 0:
                os.setsid()
                while True: pass
        os._exit(6)
        """,
        node="""
        for (let n = 0; n < 10; n++)
          require('child_process').spawn('/bin/sh', ['-c', 'while :; do :; done'], {detached: true, stdio: 'ignore'}).unref();
        process.exit(6);
        """,
        ends={"exit_code": 6, "breach": None},
    ),
    Row(
        "lets its child run on when it crashes",
        python="import os, ctypes, time\nif os.fork() == 0: time.sleep(600)\nctypes.string_at(0)",
        node="require('child_process').spawn('/bin/sleep', ['600']); process.kill(process.pid, 'SIGSEGV'); for (;;);",
        ends={"exit_code": None, "signal": 11, "breach": None},
    ),
]


@both(OUTLIVES)
def test_nothing_outlives_its_main_process(attacked, row, language):
    play(attacked, row, language)


LOSES = [
    Row(
        "takes the limits of pid 1 away",
        python="""
        import resource
        for name in ('RLIMIT_CPU', 'RLIMIT_NOFILE', 'RLIMIT_AS', 'RLIMIT_DATA', 'RLIMIT_STACK'):
            try: resource.prlimit(1, getattr(resource, name), (0, 0)); print('did', name)
            except PermissionError: pass
        """,
        node="""
        const {spawnSync} = require('child_process');
        for (const name of ['cpu', 'nofile', 'as', 'data', 'stack'])
          if (spawnSync('prlimit', ['--pid', '1', `--${name}=0:0`]).status === 0) console.log('did', name);
        """,
        ends=HANDLED | {"stdout": b""},
    ),
    Row(
        "floods pid 1 with news of children",
        python="""
        import os, time
        until = time.monotonic() + 0.5
        for n in range(4): os.fork()
        while time.monotonic() < until:
            try: os.kill(1, 17)
            except PermissionError: pass
        """,
        node="const until = Date.now() + 500; while (Date.now() < until) try { process.kill(1, 17); } catch (e) { if (e.code !== 'EPERM') throw e; }",
    ),
    Row(
        "gives pid 1 many children to bury",
        python="""
        import os
        for n in range(100):
            if os.fork() == 0:
                if os.fork() == 0: os._exit(0)
                os._exit(0)
            os.wait()
        """,
        node="""
        const more = 'i=0; while [ $i -lt 100 ]; do (true & true) ; i=$((i+1)); done';
        process.exit(require('child_process').spawnSync('/bin/sh', ['-c', more]).status);
        """,
    ),
    Row(
        "leaves no memory for pid 1 to report with",
        python="""
        import os
        with open('/tmp/x', 'wb', buffering=0) as f:
            while True: f.write(b'x' * 4096)
        """,
        node="const fs = require('fs'), f = fs.openSync('/tmp/x', 'w'), b = Buffer.alloc(4096, 1); for (;;) fs.writeSync(f, b)",
        ends={"breach": "memory"},
        limits={"memory_mb": 32},
    ),
]


@both(LOSES)
def test_no_program_has_its_sandbox_lost(attacked, row, language):
    """A lost sandbox is tried again and costs nothing: what a program could bring about, it would."""
    play(attacked, row, language)
