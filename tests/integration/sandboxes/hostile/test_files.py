"""Files in and artifacts out: links, nodes, names and sizes that mean harm."""

from __future__ import annotations

import json
import os

import pytest

from sandboxes.daemon.artifacts import DEEPEST, MOST_FILES, MOST_NAMED
from tests.integration.sandboxes.daemons import make_request, run, watch
from tests.integration.sandboxes.hostile.rows import HANDLED, LANGUAGES, Row, both, play

# Every byte a name can have, alone, and some that mean something somewhere.
ODD_NAMES = [
    *(bytes([number]) for number in range(1, 256) if number not in b"./"),
    *(b"\xff\xfe", b"a\nb", b"a\n", b"\r\nX: y", b" ", b"-rf", b"...", b"..x", b"%2e%2e", b"%00", b"~", b"*", b"a;b"),
    *("\u202egpj.exe".encode(), "\ufeffx".encode(), "🙂".encode(), "e\u0301".encode()),
    *(b"data:x,y", b"con", b"x" * 255, "é".encode() * 127, b"<script>", b'"', b"'", b"\\", b"a?b#c", b"a&b=c"),
]
ODD_NAMES = [*dict.fromkeys(ODD_NAMES)]

MAKES = [
    Row(
        "links to files and folders of the system",
        python="""
        import os
        for name, target in {
            'passwd': '/etc/passwd', 'etc': '/etc', 'up': '../../../../etc/passwd', 'environ': '/proc/self/environ',
            'mem': '/proc/self/mem', 'root': '/proc/self/root', 'fd': '/proc/self/fd/0', 'init': '/proc/1/environ',
            'loop': 'loop', 'there': 'back', 'back': 'there', 'nowhere': '/nowhere', 'own': '../own',
        }.items(): os.symlink(target, 'artifacts/' + name)
        open('own', 'w').write('mine')
        """,
        node="""
        const fs = require('fs');
        for (const [name, target] of Object.entries({
            passwd: '/etc/passwd', etc: '/etc', up: '../../../../etc/passwd', environ: '/proc/self/environ',
            mem: '/proc/self/mem', root: '/proc/self/root', fd: '/proc/self/fd/0', init: '/proc/1/environ',
            loop: 'loop', there: 'back', back: 'there', nowhere: '/nowhere', own: '../own',
        })) fs.symlinkSync(target, 'artifacts/' + name);
        fs.writeFileSync('own', 'mine');
        """,
    ),
    Row(
        "makes sockets and pipes",
        python="""
        import os, socket
        os.mkfifo('artifacts/pipe')
        socket.socket(socket.AF_UNIX).bind('artifacts/socket')
        """,
        node="""
        require('child_process').execFileSync('mkfifo', ['artifacts/pipe']);
        require('net').createServer().listen('artifacts/socket', () => process.reallyExit(0));
        """,
    ),
]
LEFT_OUT = {
    MAKES[0].says: {"passwd", "etc", "up", "environ", "mem", "root", "fd", "init", "loop", "there", "back", "nowhere", "own"},
    MAKES[1].says: {"pipe", "socket"},
}  # fmt: skip


@both(MAKES)
def test_only_files_are_artifacts(attacked, row, language, own_kernel):
    outcome = play(attacked, row, language)

    assert outcome.artifacts == ()
    # Sockets and pipes stay inside a kernel of the program's own.
    inside = own_kernel and row is MAKES[1]
    assert set(outcome.artifacts_truncated) == (set() if inside else LEFT_OUT[row.says])


ITS_OWN = [
    Row(
        "has two names for one file of its own",
        python="import os; open('own', 'w').write('mine'); os.link('own', 'artifacts/a'); os.link('own', 'artifacts/b')",
        node="const fs = require('fs'); fs.writeFileSync('own', 'mine'); fs.linkSync('own', 'artifacts/a'); fs.linkSync('own', 'artifacts/b');",
    ),
    Row(
        "closes its files to everybody and opens them to root",
        python="""
        import os
        for name, mode in {'a': 0, 'b': 0o6777}.items():
            open('artifacts/' + name, 'w').write('mine')
            os.chmod('artifacts/' + name, mode)
        """,
        node="""
        const fs = require('fs');
        for (const [name, mode] of Object.entries({a: 0, b: 0o6777})) {
          fs.writeFileSync('artifacts/' + name, 'mine');
          fs.chmodSync('artifacts/' + name, mode);
        }
        """,
    ),
]


@both(ITS_OWN)
def test_what_is_its_own_is_kept(attacked, row, language):
    outcome = play(attacked, row, language)

    assert {each.path: each.content for each in outcome.artifacts} == {"a": b"mine", "b": b"mine"}


TURNED = [
    Row(
        "turns the artifacts folder elsewhere",
        python="import os; os.rmdir('artifacts'); os.symlink('/etc', 'artifacts')",
        node="const fs = require('fs'); fs.rmdirSync('artifacts'); fs.symlinkSync('/etc', 'artifacts');",
    ),
    Row(
        "puts a file in its place",
        python="import os; os.rmdir('artifacts'); open('artifacts', 'w').write('x')",
        node="const fs = require('fs'); fs.rmdirSync('artifacts'); fs.writeFileSync('artifacts', 'x');",
    ),
    Row(
        "removes it",
        python="import os; os.rmdir('artifacts')",
        node="require('fs').rmdirSync('artifacts')",
    ),
    Row(
        "closes it and ends",
        python="import os; os.chmod('artifacts', 0); os.chmod('.', 0)",
        node="const fs = require('fs'); fs.chmodSync('artifacts', 0); fs.chmodSync('.', 0);",
    ),
]


@both(TURNED)
def test_without_the_folder_there_are_no_artifacts(attacked, row, language):
    outcome = play(attacked, row, language)

    assert (outcome.artifacts, outcome.artifacts_truncated) == ((), ())


SWAPS = Row(
    "swaps a file and a link while its artifacts are collected",
    python="""
    import os
    if os.fork() == 0:
        os.setsid()
        while True:
            for step in (lambda: os.symlink('/etc/passwd', 'artifacts/a'), lambda: os.unlink('artifacts/a'),
                         lambda: open('artifacts/a', 'w').write('mine'), lambda: os.unlink('artifacts/a')):
                try: step()
                except OSError: pass
    while not os.path.lexists('artifacts/a'): pass
    """,
    node="""
    const fs = require('fs');
    const swap = 'while :; do ln -s /etc/passwd artifacts/a; rm -f artifacts/a; printf mine > artifacts/a; rm -f artifacts/a; done';
    require('child_process').spawn('/bin/sh', ['-c', swap], {detached: true, stdio: 'ignore'}).unref();
    const wait = () => fs.readdirSync('artifacts').length ? process.exit(0) : setImmediate(wait);
    wait();
    """,
)


@both([SWAPS])
def test_a_link_swapped_in_at_the_end_is_not_followed(attacked, row, language):
    outcome = play(attacked, row, language)

    assert {each.content for each in outcome.artifacts} <= {b"", b"mine"}


HUGE = [
    Row(
        "leaves a sparse file of 10 GB, and a small one",
        python="""
        import os
        os.truncate(os.open('artifacts/huge', os.O_CREAT | os.O_RDWR), 10 << 30)
        open('artifacts/small', 'w').write('kept')
        """,
        node="""
        const fs = require('fs');
        fs.closeSync(fs.openSync('artifacts/huge', 'w'));
        fs.truncateSync('artifacts/huge', 10 * 2 ** 30);
        fs.writeFileSync('artifacts/small', 'kept');
        """,
        limits={"disk_mb": 10240},
    ),
    Row(
        "leaves two files that are too much together, and a small one",
        python="""
        for name in 'huge', 'huge2': open('artifacts/' + name, 'wb').write(b'x' * (33 << 20))
        open('artifacts/small', 'w').write('kept')
        """,
        node="""
        const fs = require('fs');
        for (const name of ['huge', 'huge2']) fs.writeFileSync('artifacts/' + name, Buffer.alloc(33 << 20));
        fs.writeFileSync('artifacts/small', 'kept');
        """,
    ),
]


@both(HUGE)
def test_what_is_too_large_is_named_and_the_rest_is_kept(attacked, row, language):
    outcome = play(attacked, row, language)

    assert {each.path: each.content for each in outcome.artifacts} == {"small": b"kept"}
    assert {path.rstrip("2") for path in outcome.artifacts_truncated} == {"huge"}


MANY = [
    Row(
        "leaves 10,000 small files",
        python="for n in range(10_000): open(f'artifacts/{n:05}', 'w')",
        node="const fs = require('fs'); for (let n = 0; n < 10000; n++) fs.writeFileSync('artifacts/' + String(n).padStart(5, '0'), '');",
    ),
    Row(
        "leaves 1,000 folders in each other, with a file in each",
        python="""
        import os
        os.chdir('artifacts')
        for n in range(1000):
            open('f', 'w').close()
            os.mkdir('d' * 255)
            os.chdir('d' * 255)
        """,
        node="""
        const fs = require('fs'), deeper = 'd'.repeat(255);
        process.chdir('artifacts');
        // Node has its folder as a path, whose length the kernel bounds.
        for (let n = 0; n < 15; n++) { fs.writeFileSync('f', ''); fs.mkdirSync(deeper); process.chdir(deeper); }
        fs.writeFileSync('f', '');
        """,
    ),
    Row(
        "leaves folders as wide as they are deep",
        python="""
        import os
        for a in range(20):
            for b in range(20):
                os.makedirs(f'artifacts/{a}/{b}')
                for c in range(20): open(f'artifacts/{a}/{b}/{c}', 'w').close()
        """,
        node="""
        const fs = require('fs');
        for (let a = 0; a < 20; a++) for (let b = 0; b < 20; b++) {
          fs.mkdirSync(`artifacts/${a}/${b}`, {recursive: true});
          for (let c = 0; c < 20; c++) fs.writeFileSync(`artifacts/${a}/${b}/${c}`, '');
        }
        """,
    ),
]


@both(MANY)
def test_their_number_and_depth_are_bounded(attacked, row, language):
    outcome = play(attacked, row, language)

    assert 0 < len(outcome.artifacts) <= MOST_FILES
    assert len(outcome.artifacts_truncated) <= MOST_NAMED
    assert max(each.path.count("/") for each in outcome.artifacts) <= DEEPEST


WRITE_NAMES = {
    "python": "import json, os, sys\nfor name in json.loads(os.environ['NAMES']):\n    open(b'artifacts/' + bytes(name), 'wb').write(bytes(name))",
    "node": "const fs = require('fs');\nfor (const name of JSON.parse(process.env.NAMES)) fs.writeFileSync(Buffer.concat([Buffer.from('artifacts/'), Buffer.from(name)]), Buffer.from(name));",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_odd_names_come_out_as_they_are(attacked, language):
    kept = 0
    for at in range(0, len(ODD_NAMES), MOST_FILES):
        names = ODD_NAMES[at : at + MOST_FILES]
        outcome = run(
            attacked, WRITE_NAMES[language], language=language, env={"NAMES": json.dumps([*map(list, names)])}
        )

        assert outcome.exit_code == 0, outcome.stderr
        assert {os.fsencode(each.path): each.content for each in outcome.artifacts} == {name: name for name in names}
        kept += len(outcome.artifacts)
    assert kept == len(ODD_NAMES) > 256


# What JSON can carry: no name in it is a byte that is no character.
READ_NAMES = {
    "python": "import os\nfor name in os.listdir(b'in'): os.rename(b'in/' + name, b'artifacts/' + name)",
    "node": "const fs = require('fs'); fs.rmdirSync('artifacts'); fs.renameSync('in', 'artifacts');",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_odd_names_go_in_as_they_are(attacked, language):
    names = [name for name in ODD_NAMES if name.decode(errors="replace").encode() == name][:MOST_FILES]
    request = make_request(
        READ_NAMES[language], language=language, files={f"in/{name.decode()}": name for name in names}
    )

    outcome = watch(attacked, request).outcome

    assert {os.fsencode(each.path): each.content for each in outcome.artifacts} == {name: name for name in names}


SHOW = {
    "python": "import json, os, sys; print(json.dumps([os.environ['ODD'], sys.argv[1:], os.environ['PATH']]))",
    "node": "console.log(JSON.stringify([process.env.ODD, process.argv.slice(2), process.env.PATH]))",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_odd_values_of_the_environment_and_arguments_arrive_as_they_are(attacked, language):
    odd = "".join(map(chr, range(1, 0x180))) + "\u202e\ufeff\ufffe🙂\n"
    arguments = (odd, "", "\n", "-c", "--", "--inspect", "$(id)", "`id`", "a b", "'", '"')

    outcome = run(attacked, SHOW[language], language=language, env={"ODD": odd, "PATH": ""}, args=arguments)

    assert json.loads(outcome.stdout) == [odd, list(arguments), ""]


RUNNERS = {"LD_PRELOAD": "/workspace/evil.so", "PYTHONSTARTUP": "/workspace/evil.py", "PYTHONINSPECT": "1", "PYTHONHOME": "/"}  # fmt: skip
RUNNERS |= {"NODE_OPTIONS": "--inspect --require /workspace/evil.js", "LD_LIBRARY_PATH": "/workspace", "BASH_ENV": "x"}
EVIL = {"evil.so": b"\x7fELF", "evil.py": b"print('evil')", "evil.js": b"console.log('evil')", "json.py": b"1/0", "fs.js": b"throw 1"}  # fmt: skip
FINE = {"python": "print('fine')", "node": "console.log('fine')"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_environment_and_the_files_never_reach_the_runner(attacked, language):
    outcome = run(attacked, FINE[language], language=language, env=RUNNERS, files=EVIL)

    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, b"fine\n", b"")


IN_THE_WAY = [
    Row("is given a file where its artifacts go", ends={"exit_code": 1, "breach": None}, **FINE),
]


@both(IN_THE_WAY)
def test_a_file_in_the_way_is_an_honest_failure(attacked, row, language):
    outcome = play(attacked, row, language, files={"artifacts": b"x"})

    assert b"directory" in outcome.stderr


MODES = Row(
    "looks at the folders it was given",
    python="import os; print([oct(os.stat(p).st_mode & 0o7777) for p in ('/workspace', '/workspace/artifacts', '/tmp', '/dev/shm')])",
    node="console.log(JSON.stringify(['/workspace', '/workspace/artifacts', '/tmp', '/dev/shm'].map((p) => '0o' + (require('fs').statSync(p).mode & 0o7777).toString(8))).replace(/\"/g, \"'\").replace(/,/g, ', '))",
    ends=HANDLED | {"stdout": b"['0o755', '0o755', '0o1777', '0o1777']\n"},
)


@both([MODES])
def test_its_folders_are_as_programs_expect(attacked, row, language):
    play(attacked, row, language)
