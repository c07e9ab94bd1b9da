"""Every limit ends the program that meets it, and is named; a program that copes with it has breached nothing."""

from __future__ import annotations

from tests.integration.sandboxes.hostile.rows import HANDLED, Row, both, hit, play

SMALL = {"memory_mb": 64}
FEW = {"processes": 16}
TIGHT = {"disk_mb": 8}
QUIET = {"output_kb": 64}
NO_CALL = "it offers no such call"
EMPTY = {"python": b"['artifacts']\n", "node": b"[ 'artifacts' ]\n"}

MEMORY = [
    Row(
        "takes memory for ever",
        python="x = []\nwhile True: x.append(bytearray(1 << 20))",
        node="const x = []; for (;;) x.push(Buffer.alloc(1 << 20, 1))",
        ends=hit("memory", signal=9),
        limits=SMALL,
    ),
    Row(
        "takes 2 GiB at once",
        python="x = b'x' * (2 << 30)",
        node="Buffer.alloc(2 ** 31, 1)",
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "fills the heap of its language",
        python="x = []\nwhile True: x.append({n: str(n) for n in range(1000)})",
        node="const x = []; for (;;) x.push({x: x.length})",
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "shares memory with nobody",
        python="import mmap\nm = mmap.mmap(-1, 2 << 30)\nfor n in range(2048): m.write(b'x' * (1 << 20))",
        node="new Uint8Array(new SharedArrayBuffer(1 << 30)).fill(1)",
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "fills a file that is only memory",
        python="import os\nf = os.memfd_create('x')\nfor n in range(2048): os.write(f, b'x' * (1 << 20))",
        node="new Uint8Array(new WebAssembly.Memory({initial: 16384, maximum: 32768}).buffer).fill(1)",
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "fills the shared memory folder",
        python="f = open('/dev/shm/x', 'wb')\nfor n in range(2048): f.write(b'x' * (1 << 20))",
        node="const fs = require('fs'), f = fs.openSync('/dev/shm/x', 'w'), b = Buffer.alloc(1 << 20, 1); for (let n = 0; n < 2048; n++) fs.writeSync(f, b)",
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "takes a little of every kind, together too much",
        python="""
        import os
        heap, block, memory = [], b'x' * (1 << 20), os.memfd_create('x')
        with open('/tmp/x', 'wb') as tmp, open('/dev/shm/x', 'wb') as shm, open('x', 'wb') as own:
            for n in range(20):
                heap.append(bytearray(block))
                for each in (tmp, shm, own): each.write(block)
                os.write(memory, block)
        """,
        node="""
        const fs = require('fs'), block = Buffer.alloc(1 << 20, 1), heap = [];
        const files = ['/tmp/x', '/dev/shm/x', 'x'].map((path) => fs.openSync(path, 'w'));
        for (let n = 0; n < 30; n++) {
          heap.push(Buffer.alloc(1 << 20, 1));
          for (const file of files) fs.writeSync(file, block);
        }
        """,
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "spreads it over its children and fails with them",
        python="""
        import os, time
        for n in range(4):
            if os.fork() == 0:
                x = bytearray(b'x') * (40 << 20)
                time.sleep(60)
        raise SystemExit(1 if os.wait()[1] else 0)
        """,
        node="""
        const {spawn} = require('child_process');
        const more = ['-e', 'const x = Buffer.alloc(40 << 20, 1); setTimeout(() => x, 60000)'];
        for (let n = 0; n < 4; n++) spawn(process.execPath, more).on('exit', (code, signal) => signal && process.exit(1));
        """,
        ends=hit("memory", exit_code=1),
        ends_with_its_kernel=hit("memory", signal=9),
        limits=SMALL,
    ),
    Row(
        "sees a child killed for its memory and ends well",
        python="""
        import os
        if os.fork() == 0:
            x = bytearray(b'x') * (200 << 20)
        raise SystemExit(0 if os.wait()[1] == 9 else 7)
        """,
        node="""
        const {signal} = require('child_process').spawnSync(process.execPath, ['-e', 'Buffer.alloc(200 << 20, 1)']);
        process.exit(signal === 'SIGKILL' ? 0 : 7);
        """,
        ends_with_its_kernel=hit("memory", signal=9),
        limits=SMALL,
    ),
    Row(
        "asks for more than there can be, is refused, and ends well",
        python="try: bytearray(1 << 62)\nexcept MemoryError: print('refused')",
        node="try { Buffer.alloc(2 ** 52); } catch { console.log('refused'); }",
        ends=HANDLED | {"stdout": b"refused\n"},
        limits=SMALL,
    ),
    Row(
        "asks for more than there can be, and fails",
        python="bytearray(1 << 62)",
        node="new ArrayBuffer(2 ** 52)",
        ends=hit("memory", exit_code=1),
        limits=SMALL,
    ),
]
PROCESSES = [
    Row(
        "is a fork bomb that minds nothing",
        python="import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        node="require('child_process').spawnSync('/bin/bash', ['-c', 'f() { f | f & }; f; sleep 60']); setTimeout(() => {}, 60000)",
        ends=hit("timeout", signal=9),
        limits=FEW,
        timeout_seconds=0.5,
    ),
    Row(
        "starts processes until it is refused",
        python="import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(60)",
        node="const {spawn} = require('child_process'); setInterval(() => { for (let n = 0; n < 20; n++) spawn('/bin/sleep', ['60']); }, 1)",
        ends=hit("processes"),
        limits=FEW,
    ),
    Row(
        "starts threads until it is refused",
        python="import threading, time\nfor n in range(200): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        node="const {Worker} = require('worker_threads'); for (let n = 0; n < 200; n++) new Worker('setTimeout(() => {}, 60000)', {eval: true})",
        ends=hit("processes"),
        limits=FEW,
    ),
    Row(
        "starts threads until it is refused, and ends well",
        python="""
        import os, threading, time
        try:
            while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except RuntimeError: os._exit(0)
        """,
        node="""
        const {Worker} = require('worker_threads');
        try { for (;;) new Worker('setTimeout(() => {}, 60000)', {eval: true}); } catch { process.reallyExit(0); }
        """,
        limits=FEW,
    ),
    Row(
        "starts processes until it is refused, and ends well",
        python="import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60)\nexcept OSError: os._exit(0)",
        node="const {spawn} = require('child_process'); setInterval(() => spawn('/bin/sleep', ['60']).on('error', () => process.exit(0)), 1)",
        limits=FEW,
    ),
]
TIME = [
    Row(
        "loops for ever", python="while True: pass", node="for (;;);", ends=hit("timeout", signal=9), timeout_seconds=1
    ),
    Row(
        "sleeps for ever",
        python="import time; time.sleep(3600)",
        node="setTimeout(() => {}, 3.6e6)",
        ends=hit("timeout", signal=9),
        timeout_seconds=0.5,
    ),
    Row(
        "waits for input that has ended, and goes on",
        python="import sys; print(repr(sys.stdin.read()))",
        node="console.log(\"'\" + require('fs').readFileSync(0) + \"'\")",
        ends=HANDLED | {"stdout": b"''\n"},
    ),
    Row(
        "ignores every signal that it can",
        python="""
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        print('deaf', flush=True)
        while True: pass
        """,
        node="""
        for (const name of Object.keys(require('os').constants.signals)) try { process.on(name, () => {}); } catch {}
        require('fs').writeSync(1, 'deaf\\n');
        for (;;);
        """,
        ends=hit("timeout", signal=9, stdout=b"deaf\n"),
        timeout_seconds=0.5,
    ),
    Row(
        "stops itself",
        python="import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        node="process.kill(process.pid, 'SIGSTOP')",
        ends=hit("timeout", signal=9),
        timeout_seconds=0.5,
    ),
    Row(
        "is of many that loop for ever",
        python="import os\nfor n in range(12):\n    if os.fork() == 0:\n        os.setsid()\n        break\nwhile True: pass",
        node="for (let n = 0; n < 12; n++) require('child_process').spawn('/bin/sh', ['-c', 'while :; do :; done']); for (;;);",
        ends=hit("timeout", signal=9),
        limits={"processes": 40},
        timeout_seconds=0.5,
    ),
    Row(
        "calls itself for ever",
        python="def f(): f()\nf()",
        node="(function f() { f(); })()",
        ends={"exit_code": 1, "breach": None},
    ),
]
OUTPUT = [
    Row(
        "prints 1 GiB",
        python="import os\nfor n in range(1 << 14): os.write(1, b'x' * (1 << 16))",
        node="const fs = require('fs'), b = Buffer.alloc(1 << 16, 'x'); for (let n = 0; n < 1 << 14; n++) fs.writeSync(1, b)",
        ends=hit("output", signal=9, stdout=b"x" * (1 << 16), stdout_truncated=True, stderr_truncated=False),
        limits=QUIET,
    ),
    Row(
        "complains for 1 GiB",
        python="import os\nfor n in range(1 << 14): os.write(2, b'x' * (1 << 16))",
        node="const fs = require('fs'), b = Buffer.alloc(1 << 16, 'x'); for (let n = 0; n < 1 << 14; n++) fs.writeSync(2, b)",
        ends=hit("output", signal=9, stderr=b"x" * (1 << 16), stdout_truncated=False, stderr_truncated=True),
        limits=QUIET,
    ),
    Row(
        "prints as much as it may to each stream, and no more",
        python="import os\nfor n in range(16): os.write(1, b'o' * 4096); os.write(2, b'e' * 4096)",
        node="const fs = require('fs'); for (let n = 0; n < 16; n++) { fs.writeSync(1, 'o'.repeat(4096)); fs.writeSync(2, 'e'.repeat(4096)); }",
        ends=HANDLED | {"stdout": b"o" * (1 << 16), "stderr": b"e" * (1 << 16)},
        limits=QUIET,
    ),
    Row(
        "prints one byte more, at its very end",
        python="import sys; sys.stdout.buffer.write(b'x' * 65537)",
        node="process.stdout.write('x'.repeat(65537))",
        ends=hit("output", stdout=b"x" * (1 << 16), stdout_truncated=True),
        limits=QUIET,
    ),
    Row(
        "leaves the printing to a child that outlives it",
        python="import os\nif os.fork() == 0:\n    while True: os.write(1, b'x' * 4096)\nos.wait()",
        node="require('child_process').spawn('/usr/bin/yes', {stdio: 'inherit'})",
        ends=hit("output", signal=9),
        limits=QUIET,
    ),
]
DISK = [
    Row(
        "fills /tmp",
        python="f = open('/tmp/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
        node="const fs = require('fs'), f = fs.openSync('/tmp/x', 'w'), b = Buffer.alloc(1 << 20, 1); for (;;) fs.writeSync(f, b)",
        ends=hit("disk", exit_code=1),
        limits=TIGHT,
    ),
    Row(
        "fills every place it can write to, each a little",
        python="""
        for place in ('/workspace/a', '/tmp/b', '/dev/shm/c', '/workspace/artifacts/d'):
            with open(place, 'wb') as out:
                for n in range(3): out.write(b'x' * (1 << 20))
        """,
        node="""
        for (const place of ['/workspace/a', '/tmp/b', '/dev/shm/c', '/workspace/artifacts/d'])
          require('fs').writeFileSync(place, Buffer.alloc(3 << 20, 1));
        """,
        ends=hit("disk", exit_code=1),
        limits=TIGHT,
    ),
    Row(
        "makes 200,000 files without content",
        python="for n in range(200_000): open(f'/tmp/{n}', 'w').close()",
        node="const fs = require('fs'); for (let n = 0; n < 200000; n++) fs.closeSync(fs.openSync('/tmp/' + n, 'w'))",
        ends=hit("disk", exit_code=1),
    ),
    Row(
        "hides content in names of attributes",
        python="""
        import os
        for n in range(200_000):
            open(f'/tmp/{n}', 'w').close()
            os.setxattr(f'/tmp/{n}', 'user.x', b'x' * 60_000)
        """,
        why_not=NO_CALL,
        ends=hit("disk", exit_code=1),
        # Files of a kernel of its own have no such attributes.
        ends_with_its_kernel={"exit_code": 1, "breach": None},
    ),
    Row(
        "writes far behind the end of a file",
        python="f = open('x', 'wb')\nf.seek(10 << 30)\nf.write(b'x')\nf.flush()",
        node="const fs = require('fs'); fs.writeSync(fs.openSync('x', 'w'), 'x', 10 * 2 ** 30)",
        ends=hit("disk", exit_code=1),
    ),
    Row(
        "makes a sparse file of 10 GB",
        python="import os; os.truncate(os.open('x', os.O_CREAT | os.O_RDWR), 10 << 30)",
        node="const fs = require('fs'); fs.closeSync(fs.openSync('x', 'w')); fs.truncateSync('x', 10 * 2 ** 30)",
        ends=hit("disk", exit_code=1),
    ),
    Row(
        "is killed for the size of a file, as programs are that do not ask",
        python="import os, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); os.truncate(os.open('x', os.O_CREAT | os.O_RDWR), 10 << 30)",
        why_not="it and all it starts have the signal ignored",
        ends=hit("disk", signal=25),
    ),
    Row(
        "fills /tmp, clears up, and ends well",
        python="""
        import os
        try:
            with open('/tmp/x', 'wb', buffering=0) as f:
                while True: f.write(b'x' * (1 << 20))
        except OSError: os.unlink('/tmp/x')
        """,
        node="""
        const fs = require('fs'), f = fs.openSync('/tmp/x', 'w');
        try { for (;;) fs.writeSync(f, Buffer.alloc(1 << 20, 1)); } catch { fs.unlinkSync('/tmp/x'); }
        """,
        limits=TIGHT,
    ),
    Row(
        "fills /tmp beyond its memory, where that is the smaller",
        python="f = open('/tmp/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
        node="const fs = require('fs'), f = fs.openSync('/tmp/x', 'w'), b = Buffer.alloc(1 << 20, 1); for (;;) fs.writeSync(f, b)",
        ends=hit("memory"),
        limits=SMALL,
    ),
    Row(
        "uses more than is usual, when it may",
        python="f = open('x', 'wb')\nfor n in range(1100): f.seek(n << 20); f.write(b'x')\nprint(f.tell() >> 20)",
        node="const fs = require('fs'), f = fs.openSync('x', 'w'); for (let n = 0; n < 1100; n++) fs.writeSync(f, 'x', n << 20); console.log(fs.statSync('x').size >> 20)",
        ends=HANDLED | {"stdout": b"1099\n"},
        limits={"disk_mb": 2048},
    ),
]
LIST = {"python": "import os; print(os.listdir('.'))", "node": "console.log(require('fs').readdirSync('.'))"}
EXTREMES = [
    Row("has the least of everything", limits={"cpu": 0.1, "memory_mb": 16, "disk_mb": 1, "processes": 1, "output_kb": 1}, **LIST),
    Row("has the most of everything", limits={"cpu": 8, "memory_mb": 16384, "disk_mb": 10240, "processes": 1024, "output_kb": 65536}, **LIST),
]  # fmt: skip
GIVEN = [
    Row("is given more than its disk holds", limits={"disk_mb": 1}, ends=hit("disk", exit_code=1), **LIST),
    Row("is given more than its memory holds", limits={"memory_mb": 16}, ends=hit("memory"), **LIST),
]


@both(MEMORY)
def test_memory(attacked, row, language):
    outcome = play(attacked, row, language)

    assert outcome.peak_memory_bytes <= (row.limits["memory_mb"] << 20)


@both(PROCESSES)
def test_processes_and_threads(attacked, row, language):
    play(attacked, row, language)


@both(TIME)
def test_time(attacked, row, language):
    play(attacked, row, language)


@both(OUTPUT)
def test_output(attacked, row, language):
    play(attacked, row, language)


@both(DISK)
def test_disk(attacked, row, language):
    outcome = play(attacked, row, language)

    assert outcome.disk_bytes <= (row.limits.get("disk_mb", 1024) << 20)


@both(EXTREMES)
def test_the_least_and_the_most_are_enough_for_nothing_much(attacked, row, language):
    assert play(attacked, row, language).stdout == EMPTY[language]


@both(GIVEN)
def test_what_is_given_counts_too(attacked, row, language):
    play(attacked, row, language, files={"large": b"x" * (30 << 20)})
