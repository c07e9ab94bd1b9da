"""What is read of a blockchain: its head, and the transfers of one token to addresses of ours. Nothing is ever signed.

`rpc` asks a node over JSON-RPC, `simulated` plays a chain in our own database. Each passes the same contract tests.
A chain may take back its newest blocks, so whoever reads it believes only what lies deep enough (coins.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

# More than any token has; what is above it is nonsense and not read.
MOST_UNITS = 2**63 - 1


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    time: datetime


@dataclass(frozen=True)
class Transfer:
    """One `Transfer` log of the token. It is one and the same wherever its transaction and log index are."""

    tx_hash: str
    log_index: int
    block: int
    sender: str
    recipient: str
    # Atomic units of the token.
    units: int


class NoAnswer(Exception):
    """The chain does not say, or not anything that can be believed. Ask again later."""


class ChainReader(Protocol):
    # As CAIP-2 writes it: eip155:8453.
    network: str

    def head(self) -> Block:
        """The newest block. Raises NoAnswer."""
        ...

    def block(self, number: int) -> Block:
        """The block of this number as the chain is now. Raises NoAnswer."""
        ...

    def transfers(self, *, token: str, recipients: Sequence[str], first: int, last: int) -> list[Transfer]:
        """Of the token to any of these addresses, in blocks `first` to `last`, both included. Raises NoAnswer.

        Addresses are compared in lower case, as they are kept. One log may come twice.
        """
        ...
