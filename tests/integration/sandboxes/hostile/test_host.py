"""What the machine has is neither read nor written nor reached: files, processes, devices, networks."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sandboxes.hostile.rows import LANGUAGES, Attempt, Row, both, play, worked

SECRET = "hers-alone"


def reads(says: str, path: str) -> Attempt:
    return Attempt(says, f"open({path!r}, 'rb').read(1)", f"fs.readSync(fs.openSync('{path}'), Buffer.alloc(1));")


def lists(says: str, path: str) -> Attempt:
    return Attempt(says, f"os.listdir({path!r})", f"fs.readdirSync('{path}');")


def writes(says: str, path: str) -> Attempt:
    return Attempt(says, f"open({path!r}, 'r+' if os.path.exists({path!r}) else 'w')", f"fs.openSync('{path}', 'a');")


# fmt: off
READING = [
    reads("reads the passwords of the machine", "/etc/shadow"),
    reads("reads who may become root", "/etc/sudoers"),
    lists("lists the home of root", "/root"),
    lists("lists the homes of people", "/home"),
    lists("lists the state of services", "/var/lib"),
    lists("lists the logs", "/var/log"),
    lists("lists the sockets of services", "/run"),
    lists("lists the kernel's objects", "/sys"),
    lists("lists the cgroups", "/sys/fs/cgroup"),
    lists("lists the configuration of the machine", "/etc/ssh"),
    Attempt("reads a file that everybody may read", "open(os.environ['FILE'])", "fs.readFileSync(process.env.FILE);"),
    reads("reads the memory of the kernel", "/proc/kcore"),
    reads("reads the messages of the kernel", "/proc/kmsg"),
    reads("reads the log device", "/dev/kmsg"),
    reads("reads the memory device", "/dev/mem"),
    reads("reads the disk", "/dev/vda"),
    reads("reads the other disk", "/dev/sda"),
    reads("opens the virtual machines", "/dev/kvm"),
    reads("opens the file systems of users", "/dev/fuse"),
    reads("opens the tunnels", "/dev/net/tun"),
    reads("opens the vsock device", "/dev/vsock"),
    reads("opens a loop device", "/dev/loop-control"),
    reads("opens a terminal of its own", "/dev/ptmx"),
    reads("opens the terminal of the daemon", "/dev/tty"),
    reads("reads the timers of everybody", "/proc/timer_list"),
    reads("reads the kernel's allocations", "/proc/slabinfo"),
]
WRITING = [
    writes("writes to the root", "/written"),
    writes("writes to the programs", "/usr/bin/env"),
    writes("adds a library", "/usr/lib/written.so"),
    writes("writes to its interpreter", "/opt/python/written"),
    writes("writes to the zygote", "/opt/sandbox/zygote.py"),
    writes("writes to Node", "/opt/node/node"),
    writes("changes the users", "/etc/passwd"),
    writes("adds a device", "/dev/written"),
    writes("writes to the terminals", "/dev/pts/written"),
    writes("writes to the place where the scratch was", "/scratch/written"),
    writes("becomes the core handler", "/proc/sys/kernel/core_pattern"),
    writes("becomes the module loader", "/proc/sys/kernel/modprobe"),
    writes("overcommits memory", "/proc/sys/vm/overcommit_memory"),
    writes("lets user namespaces be made", "/proc/sys/user/max_user_namespaces"),
    writes("presses the kernel's keys", "/proc/sysrq-trigger"),
    writes("tells the killer to spare it", "/proc/self/oom_score_adj"),
    writes("has itself dumped", "/proc/self/coredump_filter"),
    writes("maps another user", "/proc/self/uid_map"),
    writes("removes its mapping of groups", "/proc/self/setgroups"),
    writes("writes to the kernel's objects", "/sys/kernel/uevent_helper"),
    writes("registers a format of programs", "/proc/sys/fs/binfmt_misc/register"),
    Attempt("removes a program", "os.unlink('/usr/bin/env')", "fs.unlinkSync('/usr/bin/env');"),
    Attempt("renames a library folder", "os.rename('/usr/lib', '/usr/lab')", "fs.renameSync('/usr/lib', '/usr/lab');"),
    Attempt("opens a program to all", "os.chmod('/usr/bin/env', 0o4777)", "fs.chmodSync('/usr/bin/env', 0o4777);"),
    Attempt("takes a program", "os.chown('/usr/bin/env', 1000, 1000)", "fs.chownSync('/usr/bin/env', 1000, 1000);"),
    Attempt(
        "gives its own file to root",
        "open('x', 'w'); os.chown('x', 0, 0)",
        "fs.writeFileSync('x', ''); fs.chownSync('x', 0, 0);",
    ),
    Attempt("links a program into its folder", "os.link('/usr/bin/env', 'env')", "fs.linkSync('/usr/bin/env', 'env');"),
    Attempt(
        "links its input out of its folder",
        "os.link('/proc/self/fd/0', '/tmp/in')",
        "fs.linkSync('/proc/self/fd/0', '/tmp/in');",
    ),
    Attempt(
        "makes a disk device",
        "os.mknod('disk', 0o060666, os.makedev(254, 0))",
        "run('mknod', 'disk', 'b', '254', '0');",
    ),
    Attempt(
        "makes a memory device",
        "os.mknod('mem', 0o020666, os.makedev(1, 1))",
        "run('mknod', 'mem', 'c', '1', '1');",
    ),
]
PROCESSES = [
    Attempt("kills a process of the machine", "os.kill(int(os.environ['PID']), 9)", "process.kill(+process.env.PID, 9);"),
    Attempt("kills a process of the machine as a group", "os.killpg(int(os.environ['PID']), 9)", "process.kill(-process.env.PID, 9);"),
    Attempt("asks whether it is there", "os.kill(int(os.environ['PID']), 0)", "process.kill(+process.env.PID, 0);"),
    Attempt("reads its environment", "open(f\"/proc/{os.environ['PID']}/environ\").read()", "fs.readFileSync(`/proc/${process.env.PID}/environ`);"),
    Attempt("reads its command line", "open(f\"/proc/{os.environ['PID']}/cmdline\").read()", "fs.readFileSync(`/proc/${process.env.PID}/cmdline`);"),
    Attempt("changes its priority", "os.setpriority(os.PRIO_PROCESS, int(os.environ['PID']), 19)", "os.setPriority(+process.env.PID, 19);"),
    Attempt("makes itself more urgent", "os.setpriority(os.PRIO_PROCESS, 0, -5)", "os.setPriority(0, -5);"),
    Attempt("makes everything of its user slow", "os.setpriority(os.PRIO_PROCESS, 1, 19)", "os.setPriority(1, 19);"),
    reads("reads the memory of pid 1", "/proc/1/mem"),
    reads("reads the map of pid 1", "/proc/1/maps"),
    reads("reads the environment of pid 1", "/proc/1/environ"),
    lists("lists what pid 1 has open", "/proc/1/fd"),
    lists("walks through the root of pid 1", "/proc/1/root/"),
    lists("walks through the folder of pid 1", "/proc/1/cwd/"),
]
NETWORKS = [
    Attempt("connects to a server of the machine", "socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 5)", "await connected(net.connect(+process.env.PORT, '127.0.0.1'));"),
    Attempt("connects to it by the other protocol", "socket.create_connection(('::1', int(os.environ['PORT'])), 5)", "await connected(net.connect(+process.env.PORT, '::1'));"),
    Attempt("connects to the metadata of a cloud", "socket.create_connection(('169.254.169.254', 80), 5)", "await connected(net.connect(80, '169.254.169.254'));"),
    Attempt("asks for a name", "socket.getaddrinfo('example.com', 80)", "await require('dns').promises.lookup('example.com');"),
    Attempt("listens", "socket.create_server(('', 0))", "await new Promise((done, fail) => net.createServer().on('error', fail).listen(0, done));"),
    Attempt("sends a datagram", "socket.socket(2, 2).sendto(b'x', ('127.0.0.1', 9))", "await new Promise((done, fail) => { const s = dgram.createSocket('udp4').on('error', fail); s.send('x', 9, '127.0.0.1', (no) => no ? fail(no) : done()); });"),
    Attempt("connects to a socket of the machine without a name in the file system", "socket.socket(socket.AF_UNIX).connect('\\0' + os.environ['ABSTRACT'])", "await connected(net.connect('\\0' + process.env.ABSTRACT));"),
    Attempt("connects to a socket of the machine with one", "socket.socket(socket.AF_UNIX).connect(os.environ['SOCKET'])", "await connected(net.connect(process.env.SOCKET));"),
]

# fmt: on
# What a kernel of the program's own lets it do to that kernel, where it reaches nothing else.
TO_ITS_OWN_KERNEL = {
    "tells the killer to spare it",
    "maps another user",
    "presses the kernel's keys",
    "makes itself more urgent",
    "makes everything of its user slow",
    "reads the map of pid 1",
    "reads the environment of pid 1",
    "lists what pid 1 has open",
}


def beyond(did: list[str], own_kernel: bool) -> list[str]:
    return [says for says in did if not (own_kernel and says in TO_ITS_OWN_KERNEL)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_of_the_host_is_read(attacked, language, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)

    assert worked(attacked, READING, language, env={"FILE": str(secret)}) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_of_the_host_is_written(attacked, language, own_kernel):
    before = Path("/proc/sys/kernel/core_pattern").read_text(), Path("/usr/bin/env").stat()

    assert beyond(worked(attacked, WRITING, language), own_kernel) == []
    assert (Path("/proc/sys/kernel/core_pattern").read_text(), Path("/usr/bin/env").stat()) == before


@pytest.fixture
def victim() -> Iterator[subprocess.Popen]:
    """A process of the machine with a secret in its environment."""
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(wait, env={"SECRET": SECRET}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_process_of_the_host_is_seen_or_stopped(attacked, language, victim, own_kernel):
    assert beyond(worked(attacked, PROCESSES, language, env={"PID": str(victim.pid)}), own_kernel) == []
    assert victim.poll() is None


@pytest.mark.enable_socket
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_network_is_reached(attacked, language, tmp_path):
    name = f"ntd-victim-{uuid.uuid4().hex}"
    with socket.socket() as server, socket.socket(socket.AF_UNIX) as nameless, socket.socket(socket.AF_UNIX) as named:
        server.bind(("127.0.0.1", 0))
        nameless.bind("\0" + name)
        named.bind(str(tmp_path / "s"))
        for each in (server, nameless, named):
            each.listen()
            each.setblocking(False)
        where = {"PORT": str(server.getsockname()[1]), "ABSTRACT": name, "SOCKET": str(tmp_path / "s")}

        assert worked(attacked, NETWORKS, language, env=where) == []
        for each in (server, nameless, named):
            with pytest.raises(BlockingIOError):
                each.accept()


ALONE = {"exit_code": 0, "stdout": b"1,2\n"}
KILLED = {"exit_code": None, "signal": 9, "breach": None}
ENDS = [
    Row(
        "sees its own processes only",
        python="import os; print(','.join(sorted(n for n in os.listdir('/proc') if n.isdigit())))",
        node="console.log(require('fs').readdirSync('/proc').filter(n => /^[0-9]+$/.test(n)).sort().join())",
        ends=ALONE,
    ),
    Row(
        "kills every number there is, and lives",
        python="""
        import os
        for pid in (*range(1, 40_000), 2 ** 22):
            if pid != os.getpid():
                try: os.kill(pid, 9)
                except OSError: pass
        """,
        node="""
        const own = require('fs').readdirSync('/proc/self/task').map(Number);
        for (let pid = 1; pid < 40000; pid++)
          if (!own.includes(pid)) try { process.kill(pid, 9); } catch {}
        """,
    ),
    Row(
        "kills its group, which is itself",
        python="import os; os.kill(0, 9)",
        node="process.kill(0, 9); for (;;);",
        ends=KILLED,
    ),
    Row(
        "kills all that it may, which is not itself",
        python="import os; os.kill(-1, 9)",
        node="try { process.kill(-1, 9); } catch (e) { if (e.code !== 'ESRCH') throw e; }",
        ends={},
    ),
    Row(
        "stops all that it may and waits",
        python="import os, time\nif os.fork() == 0:\n    os.kill(-1, 19)\ntime.sleep(60)",
        node="require('child_process').spawn('/bin/sh', ['-c', 'kill -STOP -1']); setTimeout(() => {}, 60000)",
        ends={"breach": "timeout"},
        timeout_seconds=1,
    ),
    Row(
        "sends pid 1 every signal",
        python="""
        import os
        for n in [*range(1, 32), *range(34, 65)]:
            try: os.kill(1, n)
            except PermissionError: pass
        """,
        node="""
        for (let n = 1; n < 65; n++)
          if (n !== 32 && n !== 33) try { process.kill(1, n); } catch (e) { if (e.code !== 'EPERM') throw e; }
        """,
    ),
    Row(
        "becomes root by a program that is root's",
        python="""
        import os, shutil, subprocess
        shutil.copy('/usr/bin/id', 'id'); os.chmod('id', 0o6755)
        for program in (['./id', '-u'], ['su', '-c', 'id -u'], ['sudo', '-n', 'id', '-u']):
            try: print(subprocess.run(program, capture_output=True, stdin=subprocess.DEVNULL).stdout)
            except FileNotFoundError: print(b'')
        """,
        node="""
        const fs = require('fs'), {spawnSync} = require('child_process');
        fs.copyFileSync('/usr/bin/id', 'id'); fs.chmodSync('id', 0o6755);
        for (const [program, ...args] of [['./id', '-u'], ['su', '-c', 'id -u'], ['sudo', '-n', 'id', '-u']])
          console.log('b' + (spawnSync(program, args, {stdio: ['ignore', 'pipe', 'ignore']}).stdout || '').toString().replace(/(.+)\\n/, "'$1\\\\n'").replace(/^$/, "''"));
        """,
        ends={"exit_code": 0, "stdout": b"b'1000\\n'\nb''\nb''\n"},
    ),
]


@both(ENDS)
def test_it_ends_as_it_must(attacked, row, language):
    play(attacked, row, language)
