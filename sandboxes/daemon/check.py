"""Runs inside a sandbox as the self-test: tries what must fail and prints, as JSON, what did not.

With the release and version of the host's kernel as arguments it must find itself on another kernel than that.
"""

import ctypes
import json
import os
import socket
import sys

faults = []
libc = ctypes.CDLL(None, use_errno=True)


def refused(what, attempt):
    try:
        attempt()
    except OSError:
        return
    faults.append(f"{what} was possible")


def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def start_children(number):
    """Children that wait: a broken build of gVisor fell over ten of them."""
    stay, leave = os.pipe()
    children = []
    for _ in range(number):
        children.append(os.fork())
        if children[-1] == 0:
            os.close(leave)
            os.read(stay, 1)
            os._exit(0)
    os.close(leave)
    return [pid for pid in children if os.waitpid(pid, 0)[1] != 0]


status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
for field, wanted in (("Seccomp", 2), ("CapEff", 0), ("CapPrm", 0)):
    if int(status[field].strip(), 16) != wanted:
        faults.append(f"{field} is {status[field].strip()}")
if libc.prctl(39, 0, 0, 0, 0) != 1:
    faults.append("new privileges can be gained")
if sys.argv[1:]:
    kernel = os.uname()
    if [kernel.release, kernel.version] == sys.argv[1:]:
        faults.append("it runs on the host's own kernel")
elif int(status["CapBnd"].strip(), 16):
    faults.append(f"CapBnd is {status['CapBnd'].strip()}")
elif int(open("/proc/self/uid_map").read().split()[1]) == 0:
    faults.append("the program runs as root of its parent namespace")
if os.getuid() == 0:
    faults.append("the program runs as root")
refused("writing kernel.core_pattern", lambda: open("/proc/sys/kernel/core_pattern", "r+"))
refused("writing to /usr", lambda: open("/usr/lib/written", "w"))
refused("writing to the root", lambda: open("/written", "w"))
refused("writing to /dev", lambda: open("/dev/written", "w"))
refused("reading /etc/shadow", lambda: open("/etc/shadow"))
refused("an internet socket", lambda: socket.socket(socket.AF_INET))
refused("a netlink socket", lambda: socket.socket(16, socket.SOCK_RAW))
refused("a vsock socket", lambda: socket.socket(40, socket.SOCK_STREAM))
refused("a new user namespace", lambda: call(libc.unshare(0x10000000)))
refused("a mount", lambda: call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
refused("tracing", lambda: call(libc.ptrace(0, 0, 0, 0)))
refused("reading the memory of pid 1", lambda: open("/proc/1/mem", "rb"))
strangers = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
if strangers:
    faults.append(f"other processes are visible: {strangers}")
try:
    import subprocess

    subprocess.run(["/bin/sh", "-c", "exit 0"], check=True)
except Exception as problem:
    faults.append(f"a program of the system does not run: {problem!r}")
if failed := start_children(20):
    faults.append(f"{len(failed)} of 20 waiting children did not end well")
if os.environ.keys() & {"USER", "LOGNAME", "DATABASE_URL"}:
    faults.append("the daemon's environment is visible")
json.dump(faults, sys.stdout)
