"""A node of a chain, on loopback: speaks JSON-RPC about the chain that is played in the database. It can be made to lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from billing.chains import Block, Transfer, rpc, simulated

Twist = Callable[[str, Any], Any]


def answering(twist: Twist = lambda method, result: result) -> Callable[..., httpx.Response]:
    """What stands in for `httpx.post`. `twist` may change what is answered."""

    def post(url: str, *, json: Any, **_: Any) -> httpx.Response:  # noqa: A002 - as httpx calls it
        answer = {"jsonrpc": "2.0", "id": json["id"], "result": twist(json["method"], _answer(**json))}
        return httpx.Response(200, content=_text(answer), request=httpx.Request("POST", url))

    return post


def _text(answer: Any) -> bytes:
    return json.dumps(answer).encode()


def _answer(*, method: str, params: list[Any], **_: Any) -> Any:
    chain = simulated.SimulatedChain()
    if method == "eth_getBlockByNumber":
        return _block(chain.head() if params[0] == "latest" else chain.block(int(params[0], 16)))
    asked = params[0]
    first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
    if last - first >= rpc.MOST_BLOCKS:
        raise AssertionError("More blocks than a node answers.")
    recipients = ["0x" + topic[-40:] for topic in asked["topics"][2]]
    found = chain.transfers(token=asked["address"], recipients=recipients, first=first, last=last)
    return [_log(each, asked["address"]) for each in found]


def _block(block: Block) -> dict[str, str]:
    return {"number": hex(block.number), "hash": block.hash, "timestamp": hex(int(block.time.timestamp()))}


def _log(each: Transfer, token: str) -> dict[str, Any]:
    padded = ["0x" + address[2:].rjust(64, "0") for address in (each.sender, each.recipient)]
    return {
        "address": token.upper().replace("0X", "0x"),
        "topics": [rpc.TRANSFER, *padded],
        "data": f"0x{each.units:064x}",
        "blockNumber": hex(each.block),
        "transactionHash": each.tx_hash,
        "logIndex": hex(each.log_index),
        "removed": False,
    }
