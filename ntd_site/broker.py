"""kombu's Redis transport with one client for each pool of connections.

kombu makes a client for each message it sends, takes or acknowledges, and making one takes redis-py longer than
the commands do: an eighth of a worker's time was measured.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    _shared: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        # What waits for messages keeps a connection of its own, so it is a client of its own.
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._shared is None or self._shared.connection_pool is not self.pool:
            self._shared = super()._create_client()
        return self._shared


class Transport(redis.Transport):
    Channel = Channel
