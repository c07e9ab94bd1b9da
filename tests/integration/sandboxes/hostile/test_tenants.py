"""One tenant finds nothing of another: neither of one that ran before nor of one that runs beside."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.integration.sandboxes.daemons import Going, run
from tests.integration.sandboxes.hostile.rows import LANGUAGES

# A leaves its secret wherever a program can. What the sandbox forbids is simply not left.
HIDE_IN_PYTHON = """
import builtins, ctypes, json, os, socket
secret = os.environ['SECRET']
builtins.LEAK = [secret * 10] * 10
held = bytearray(secret.encode() * 1000)
for folder in ('/tmp', '/workspace', '/workspace/artifacts', '/dev/shm', '/scratch', '/var/tmp', '/run', '/dev', '/'):
    for name in ('leak', secret):
        try:
            with open(os.path.join(folder, name), 'w') as out: out.write(secret)
        except OSError: pass
open('/tmp/unlinked', 'w').write(secret); kept = open('/tmp/unlinked'); os.unlink('/tmp/unlinked')
memory = os.memfd_create(secret[:200]); os.write(memory, secret.encode())
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0' + secret); abstract.listen()
libc = ctypes.CDLL(None)
libc.shmget(0x5ec, 4096, 0o1666); libc.semget(0x5ec, 1, 0o1666); libc.msgget(0x5ec, 0o1666)
libc.syscall(248, b'user', secret.encode(), secret.encode(), len(secret), -4)
libc.prctl(15, secret[:15].encode(), 0, 0, 0)
json.dumps = lambda *_, **__: secret
if os.fork() == 0:
    os.execve('/bin/sh', ['sh', '-c', 'sleep 600', secret], {'LEAK': secret})
"""
HIDE_IN_NODE = """
const fs = require('fs'), net = require('net'), secret = process.env.SECRET;
globalThis.LEAK = Array(10).fill(secret.repeat(10));
const held = Buffer.from(secret.repeat(1000));
for (const folder of ['/tmp', '/workspace', '/workspace/artifacts', '/dev/shm', '/scratch', '/var/tmp', '/run', '/dev', '/'])
  for (const name of ['leak', secret]) try { fs.writeFileSync(folder + '/' + name, secret); } catch {}
fs.writeFileSync('/tmp/unlinked', secret); const kept = fs.openSync('/tmp/unlinked'); fs.unlinkSync('/tmp/unlinked');
net.createServer().listen('\\0' + secret).on('error', () => {}).unref();
JSON.stringify = () => secret;
process.title = secret;
require('child_process').spawn('/bin/sh', ['-c', 'sleep 600', secret], {env: {LEAK: secret}, stdio: 'ignore'}).unref();
"""
# B looks everywhere. It has the secret's first letter and the rest apart, so it does not find its own question.
SEEK_IN_PYTHON = """
import os, sys
head, tail = os.environ['HEAD'].encode(), os.environ['TAIL'].encode()
found = set()
def look(where, content):
    at = content.find(tail)
    while at >= 0:
        if content[at - 1:at] == head: found.add(where)
        at = content.find(tail, at + 1)
with open('/proc/self/mem', 'rb', buffering=0) as memory:
    for line in open('/proc/self/maps'):
        area, rights, *_ = line.split()
        start, end = (int(part, 16) for part in area.split('-'))
        try:
            memory.seek(start)
            if rights[0] == 'r': look('memory', memory.read(end - start))
        except (OSError, OverflowError, ValueError): pass
for top in ('/tmp', '/workspace', '/dev', '/scratch', '/var', '/run', '/home', '/mnt', '/srv', '/root', '/etc'):
    for at, folders, files in os.walk(top):
        for name in folders + files: look('names', name.encode(errors='surrogateescape'))
        for name in files:
            path = os.path.join(at, name)
            try:
                if os.path.isfile(path): look('files', open(path, 'rb').read(1 << 16))
            except OSError: pass
for name in os.listdir('/proc'):
    for part in ('environ', 'cmdline', 'comm', 'maps') if name.isdigit() else ():
        try: look('processes', open(f'/proc/{name}/{part}', 'rb').read())
        except OSError: pass
for name in ('net/unix', 'keys', 'sysvipc/shm', 'sysvipc/sem', 'sysvipc/msg', 'locks'):
    try: listing = open(f'/proc/{name}', 'rb').read()
    except OSError: continue
    look(name, listing)
    if name.startswith('sysvipc') and listing.count(b'\\n') > 1: found.add(name)
print(*sorted(found), flush=True)
"""
SEEK_IN_NODE = """
{
const fs = require('fs'), path = require('path'), found = new Set();
const head = Buffer.from(process.env.HEAD)[0], tail = Buffer.from(process.env.TAIL);
function look(where, content) {
  for (let at = content.indexOf(tail); at >= 0; at = content.indexOf(tail, at + 1))
    if (content[at - 1] === head) found.add(where);
}
function read(where, name) { try { look(where, fs.readFileSync(name)); } catch {} }
const memory = fs.openSync('/proc/self/mem'), block = Buffer.alloc(1 << 20);
for (const line of fs.readFileSync('/proc/self/maps', 'latin1').trim().split('\\n')) {
  const [area, rights] = line.split(' ');
  const [start, end] = area.split('-').map((part) => BigInt('0x' + part));
  for (let at = start; rights[0] === 'r' && at < end; at += 1000000n) {
    const size = Number(end - at < 1048576n ? end - at : 1048576n);
    try { look('memory', block.subarray(0, fs.readSync(memory, block, 0, size, at))); } catch {}
  }
  block.fill(0);
}
function walk(folder) {
  let names = [];
  try { names = fs.readdirSync(folder); } catch { return; }
  for (const name of names) {
    look('names', Buffer.from(name));
    const place = path.join(folder, name), facts = fs.lstatSync(place);
    if (facts.isDirectory()) walk(place); else if (facts.isFile()) read('files', place);
  }
}
['/tmp', '/workspace', '/dev', '/scratch', '/var', '/run', '/home', '/mnt', '/srv', '/root', '/etc'].forEach(walk);
for (const name of fs.readdirSync('/proc'))
  if (/^[0-9]+$/.test(name)) for (const part of ['environ', 'cmdline', 'comm', 'maps']) read('processes', `/proc/${name}/${part}`);
for (const name of ['net/unix', 'keys', 'sysvipc/shm', 'sysvipc/sem', 'sysvipc/msg', 'locks']) {
  read(name, '/proc/' + name);
  try { if (name.startsWith('sysvipc') && fs.readFileSync('/proc/' + name, 'latin1').split('\\n').length > 2) found.add(name); } catch {}
}
fs.writeSync(1, [...found].sort().join(' ') + '\\n');
}
"""
HIDE = {"python": HIDE_IN_PYTHON, "node": HIDE_IN_NODE}
SEEK = {"python": SEEK_IN_PYTHON, "node": SEEK_IN_NODE}
STAY = {"python": "\nprint('hidden', flush=True)\nimport time; time.sleep(600)", "node": "\nconsole.log('hidden'); setTimeout(() => {}, 6e5);"}  # fmt: skip
LEAVE = {"python": "\nos._exit(0)", "node": "\nprocess.exit(0);"}
SEES_ITS_OWN = {"files", "memory", "names", "processes"}


@pytest.fixture
def secret() -> str:
    return f"secret{uuid.uuid4().hex}"


def question(secret: str) -> dict[str, str]:
    return {"HEAD": secret[:1], "TAIL": secret[1:]}


def seek(runtime, secret: str, language: str) -> str:
    outcome = run(runtime, SEEK[language], language=language, env=question(secret), timeout_seconds=60)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome.stdout.decode().strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_who_looks_finds_what_is_its_own(attacked, language, secret):
    """So the search of the tests below is one that can find."""
    env = question(secret) | {"SECRET": secret}

    outcome = run(attacked, HIDE[language] + SEEK[language], language=language, env=env, timeout_seconds=60)

    assert set(outcome.stdout.decode().split()) >= SEES_ITS_OWN, outcome.stderr


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("other", LANGUAGES)
def test_nothing_is_found_of_one_who_runs_beside(attacked, language, other, secret):
    beside = Going(attacked, HIDE[other] + STAY[other], language=other, env={"SECRET": secret})
    try:
        assert seek(attacked, secret, language) == ""
    finally:
        attacked.cancel(beside.request.id)
        assert beside.end().cancelled


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("other", LANGUAGES)
def test_nothing_is_found_of_one_who_ran_before(attacked, language, other, secret):
    for _ in range(3):
        left = run(attacked, HIDE[other] + LEAVE[other], language=other, env={"SECRET": secret})
        assert left.exit_code == 0, left.stderr
        assert seek(attacked, secret, language) == ""


REACH = {
    "python": """
import ctypes, json, os, socket
secret = os.environ['SECRET']
libc = ctypes.CDLL(None)
try: socket.socket(socket.AF_UNIX).connect('\\0' + secret); print('reached by a name')
except OSError: pass
for number in (29, 64, 68):
    if libc.syscall(number, 0x5ec, *[0] * 3) >= 0: print('reached by a key')
if libc.syscall(249, b'user', secret.encode(), 0, -4) >= 0: print('reached by a keyring')
print(json.dumps('end'))
""",
    "node": """
const end = () => { console.log(JSON.stringify('end')); process.exit(0); };
require('net').connect('\\0' + process.env.SECRET).on('connect', () => { console.log('reached by a name'); end(); }).on('error', end);
""",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_who_knows_the_name_reaches_nothing_by_it(attacked, language, secret):
    beside = Going(attacked, HIDE["python"] + STAY["python"], env={"SECRET": secret})
    try:
        assert run(attacked, REACH[language], language=language, env={"SECRET": secret}).stdout == b'"end"\n'
    finally:
        attacked.cancel(beside.request.id)
        beside.end()


CHANCE = {
    "python": "import json, os, random, uuid; print(json.dumps([random.random(), os.urandom(8).hex(), str(uuid.uuid4()), id(object())]))",
    "node": "const c = require('crypto'); console.log(JSON.stringify([Math.random(), c.randomBytes(8).toString('hex'), c.randomUUID(), 0]))",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_chance_differs_between_sandboxes(attacked, language):
    seen = [json.loads(run(attacked, CHANCE[language], language=language).stdout) for _ in range(4)]

    for drawn in list(zip(*seen, strict=True))[:3]:
        assert len(set(drawn)) == 4
