"""A chain without value, in our own database: blocks are mined when somebody asks for it, and may be taken back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from billing.chains import Block, NoAnswer, Transfer
from billing.models import SimulatedBlock, SimulatedTransfer

NETWORK = "eip155:31337"
TOKEN = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
WALLET = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
SHOP = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
FACILITATOR = "0x90f79bf6eb2c4f870365e785982e1f101e93b906"
# An extended public key whose private half is published (BIP-32, test vector 1), so nothing real can be sent to it.
XPUB = "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8"


GENESIS = Block(0, f"0x{0:064x}", datetime.fromisoformat("2026-01-01T00:00:00Z"))


class SimulatedChain:
    network = NETWORK

    def head(self) -> Block:
        found = SimulatedBlock.objects.order_by("-number").first()
        return _block(found) if found else GENESIS

    def block(self, number: int) -> Block:
        found = SimulatedBlock.objects.filter(number=number).first()
        if found is None and number == GENESIS.number:
            return GENESIS
        if found is None:
            raise NoAnswer(f"There is no block {number}.")
        return _block(found)

    def transfers(self, *, token: str, recipients: Sequence[str], first: int, last: int) -> list[Transfer]:
        rows = SimulatedTransfer.objects.filter(token=token, recipient__in=recipients)
        found = rows.filter(block__number__range=(first, last)).order_by("block", "log_index")
        return [_transfer(each) for each in found for _ in range(each.copies)]


@transaction.atomic
def mine(*, now: datetime, blocks: int = 1) -> int:
    """Add empty blocks; the number of the newest."""
    newest = SimulatedBlock.objects.select_for_update().order_by("-number").first()
    number = newest.number if newest else 0
    made = [SimulatedBlock(number=number + 1 + at, hash=_hash(), time=now) for at in range(blocks)]
    SimulatedBlock.objects.bulk_create(made)
    return number + blocks


@transaction.atomic
def send(
    *,
    recipient: str,
    units: int,
    now: datetime,
    sender: str = WALLET,
    token: str = TOKEN,
    tx_hash: str = "",
    log_index: int = 0,
    copies: int = 1,
) -> Transfer:
    """A transfer, in a block of its own."""
    number = mine(now=now)
    made = SimulatedTransfer.objects.create(
        block_id=number,
        tx_hash=tx_hash or _hash(),
        log_index=log_index,
        token=token,
        sender=sender,
        recipient=recipient,
        units=units,
        copies=copies,
    )
    return _transfer(made)


@transaction.atomic
def take_back(*, blocks: int, now: datetime) -> None:
    """A re-organisation: the newest blocks never were, and others are in their places, one more of them."""
    newest = SimulatedBlock.objects.select_for_update().order_by("-number")[:blocks]
    gone = [each.number for each in newest]
    SimulatedBlock.objects.filter(number__in=gone).delete()
    mine(now=now, blocks=len(gone) + 1)


def _hash() -> str:
    return f"0x{secrets.token_hex(32)}"


def _block(row: SimulatedBlock) -> Block:
    return Block(row.number, row.hash, row.time)


def _transfer(row: SimulatedTransfer) -> Transfer:
    return Transfer(row.tx_hash, row.log_index, row.block_id, row.sender, row.recipient, row.units)
