"""What every reader of a chain promises: the one that is played, and JSON-RPC against a node that tells of it."""

from __future__ import annotations

import httpx
import pytest
from django.utils import timezone

from billing.chains import NoAnswer, rpc, simulated
from tests import fake_node

pytestmark = pytest.mark.django_db
OURS = "0x" + "ab" * 20
THEIRS = "0x" + "cd" * 20


@pytest.fixture(params=["simulated", "rpc"])
def chain(request, monkeypatch):
    if request.param == "simulated":
        return simulated.SimulatedChain()
    monkeypatch.setattr(httpx, "post", fake_node.answering())
    return rpc.RpcChain("http://node.example", network=simulated.NETWORK)


def send(units: int = 5, recipient: str = OURS, **how):
    return simulated.send(recipient=recipient, units=units, now=timezone.now(), **how)


def read(chain, first: int = 1, last: int = 0, recipients=(OURS,)):
    last = last or chain.head().number
    return chain.transfers(token=simulated.TOKEN, recipients=list(recipients), first=first, last=last)


def test_a_transfer_is_read_as_it_was_made(chain):
    made = send(1_250_000)

    assert read(chain) == [made]
    assert (made.sender, made.recipient, made.units) == (simulated.WALLET, OURS, 1_250_000)


def test_what_is_not_ours_or_not_the_token_is_not_read(chain):
    send(recipient=THEIRS)
    send(token="0x" + "ee" * 20)

    assert read(chain) == []


def test_only_the_blocks_asked_for_are_read_with_both_ends(chain):
    made = [send(number) for number in (1, 2, 3)]

    assert read(chain, made[1].block, made[1].block) == [made[1]]
    assert read(chain, made[0].block, made[1].block) == made[:2]


def test_one_log_may_come_twice_and_is_the_same(chain):
    made = send(copies=2)

    assert read(chain) == [made, made]


def test_blocks_that_were_taken_back_take_their_transfers_with_them(chain):
    send()
    before = chain.head()

    simulated.take_back(blocks=1, now=timezone.now())

    assert read(chain) == []
    assert chain.head().number == before.number + 1
    assert chain.block(before.number).hash != before.hash


def test_a_block_that_is_not_there_is_no_answer(chain):
    with pytest.raises(NoAnswer):
        chain.block(10**6)


def test_many_blocks_are_asked_for_in_parts(chain):
    made = send()
    simulated.mine(now=timezone.now(), blocks=rpc.MOST_BLOCKS + 10)

    assert read(chain) == [made]


def twisted(**changes):
    return lambda method, result: [{**each, **changes} for each in result] if method == "eth_getLogs" else result


@pytest.mark.parametrize(
    "twist",
    [
        twisted(address="0x" + "ee" * 20),
        twisted(removed=True),
        twisted(data=hex(2**64)),
        twisted(topics=["0x" + "00" * 32, "0x" + "00" * 32, "0x" + OURS[2:].rjust(64, "0")]),
        twisted(topics=[rpc.TRANSFER, "0x" + "00" * 32, "0x" + THEIRS[2:].rjust(64, "0")]),
        twisted(blockNumber=hex(10**7)),
    ],
)
def test_a_node_that_answers_what_was_not_asked_is_not_believed(monkeypatch, twist):
    send()
    monkeypatch.setattr(httpx, "post", fake_node.answering(twist))

    assert read(rpc.RpcChain("http://node.example", network="eip155:1")) == []


@pytest.mark.parametrize(
    "twist",
    [
        lambda method, result: None,
        lambda method, result: {"no": "such"},
        twisted(data="many"),
        twisted(transactionHash="0x12"),
        twisted(topics=None),
        twisted(logIndex=None),
    ],
)
def test_what_cannot_be_read_is_no_answer(monkeypatch, twist):
    send()
    monkeypatch.setattr(httpx, "post", fake_node.answering(twist))

    with pytest.raises(NoAnswer):
        read(rpc.RpcChain("http://node.example", network="eip155:1"), 1, 5)


@pytest.mark.parametrize("wrong", [httpx.ConnectError("no"), httpx.ReadTimeout("late")])
def test_a_node_that_is_silent_is_no_answer(monkeypatch, wrong):
    def post(*_, **__):
        raise wrong

    monkeypatch.setattr(httpx, "post", post)
    with pytest.raises(NoAnswer):
        rpc.RpcChain("http://node.example", network="eip155:1").head()
