"""A chain as a node tells it over JSON-RPC (`eth_getLogs`); the node is believed only where all it says agrees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from billing.chains import MOST_UNITS, Block, NoAnswer, Transfer
from billing.chains.keccak import keccak256

TRANSFER = "0x" + keccak256(b"Transfer(address,address,uint256)").hex()
# What common nodes answer in one call.
MOST_BLOCKS = 1000
MOST_RECIPIENTS = 500
MOST_BYTES = 8 * 1024 * 1024
_ids = itertools.count(1)


class RpcChain:
    def __init__(self, url: str, *, network: str, deadline_seconds: float = 10.0) -> None:
        self.network = network
        self._url = url
        self._deadline = deadline_seconds

    def head(self) -> Block:
        return self._block("latest")

    def block(self, number: int) -> Block:
        found = self._block(hex(number))
        if found.number != number:
            raise NoAnswer("The node answered about another block.")
        return found

    def transfers(self, *, token: str, recipients: Sequence[str], first: int, last: int) -> list[Transfer]:
        found: list[Transfer] = []
        for start in range(first, last + 1, MOST_BLOCKS):
            for at in range(0, len(recipients), MOST_RECIPIENTS):
                wanted = recipients[at : at + MOST_RECIPIENTS]
                found += self._logs(token, wanted, start, min(start + MOST_BLOCKS - 1, last))
        return found

    def _logs(self, token: str, recipients: Sequence[str], first: int, last: int) -> list[Transfer]:
        topics = [TRANSFER, None, ["0x" + each[2:].rjust(64, "0") for each in recipients]]
        asked = {"address": token, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)}
        said = self._call("eth_getLogs", [asked])
        if not isinstance(said, list):
            raise NoAnswer("The node's logs are no list.")
        try:
            read = [_transfer(each, token) for each in said]
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as wrong:
            raise NoAnswer("The node's logs cannot be read.") from wrong
        wanted = set(recipients)
        return [each for each in read if each and each.recipient in wanted and first <= each.block <= last]

    def _block(self, which: str) -> Block:
        said = self._call("eth_getBlockByNumber", [which, False])
        try:
            moment = datetime.fromtimestamp(int(said["timestamp"], 16), UTC)
            return Block(int(said["number"], 16), _hash(said["hash"]), moment)
        except (KeyError, ValueError, TypeError, OverflowError, AttributeError) as wrong:
            raise NoAnswer("The node has no such block.") from wrong

    def _call(self, method: str, params: list[Any]) -> Any:
        body = {"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}
        try:
            answer = httpx.post(self._url, json=body, timeout=self._deadline, follow_redirects=False)
            if answer.status_code != 200 or len(answer.content) > MOST_BYTES:
                raise NoAnswer(f"The node answered with status {answer.status_code}.")
            said = answer.json()
        except (httpx.HTTPError, ValueError, RecursionError) as wrong:
            raise NoAnswer(f"The node does not answer: {type(wrong).__name__}.") from wrong
        if not isinstance(said, dict) or said.get("id") != body["id"] or "result" not in said:
            raise NoAnswer("The node answered with an error.")
        return said["result"]


def _transfer(log: dict[str, Any], token: str) -> Transfer | None:
    """None for what is no transfer of this token, whatever was asked for."""
    topics = log["topics"]
    if log["address"].lower() != token or topics[0].lower() != TRANSFER or len(topics) != 3 or log.get("removed"):
        return None
    units = int(log["data"], 16)
    if units > MOST_UNITS:
        return None
    return Transfer(
        tx_hash=_hash(log["transactionHash"]),
        log_index=int(log["logIndex"], 16),
        block=int(log["blockNumber"], 16),
        sender="0x" + topics[1][-40:].lower(),
        recipient="0x" + topics[2][-40:].lower(),
        units=units,
    )


def _hash(text: str) -> str:
    if len(text) != 66 or len(bytes.fromhex(text[2:])) != 32:
        raise ValueError(text)
    return text.lower()
