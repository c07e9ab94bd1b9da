"""The way out of a program with a network: no interface but a loopback, and on it the daemon's gateway.

Gateway()        started while this process still has the machine's network
open(policy)     in the program's network: what connects to the listener goes out, as far as the policy lets it
end()            closes all of it, and says what went through
"""

import json
import os
import socket
import struct
import subprocess
import sys

import kernel
import place

PORT = 3128
# As the gateway packs it: bytes sent, bytes received.
COUNTS = struct.Struct("!QQ")
END_SECONDS = 2
WAITING_CONNECTIONS = 128


class Gateway:
    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        user = place.GATEWAY_USER if place.knows_users() else 0
        command = [sys.executable, "-S", "-B", "-m", "sandboxes.daemon.gateway", str(theirs.fileno()), str(user)]
        env = {"PYTHONPATH": place.HOME, "PATH": os.environ.get("PATH", os.defpath)}
        quiet = subprocess.DEVNULL
        with theirs:
            subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=quiet, stdout=quiet, env=env, cwd="/")

    def open(self, policy: str) -> None:
        kernel.raise_loopback()
        self._lease, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", PORT))
            listener.listen(WAITING_CONNECTIONS)
            message = json.dumps({"policy": policy}).encode()
            socket.send_fds(self._control, [message], [listener.fileno(), theirs.fileno()])

    def end(self) -> tuple:
        """(sent, received). Raises OSError when the gateway is gone, since nobody knows then."""
        self._lease.settimeout(END_SECONDS)
        self._lease.send(b"end")
        counts = self._lease.recv(COUNTS.size)
        if len(counts) != COUNTS.size:
            raise OSError("the gateway of the sandbox's network ended before its program")
        return COUNTS.unpack(counts)


def variables() -> dict:
    """In both spellings: some programs read the one, some the other. What stays in the sandbox needs no proxy."""
    proxy, own = f"http://127.0.0.1:{PORT}", "localhost,127.0.0.1,::1"
    said = {"http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy, "no_proxy": own}
    return {**said, **{name.upper(): value for name, value in said.items()}, "NODE_USE_ENV_PROXY": "1"}
