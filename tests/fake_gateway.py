"""A payment gateway on 127.0.0.1 that is strict: it checks signatures, keys, fields and amounts, and keeps its own books.

It is written from the protocol in billing/gateways/http.py, and checks signatures with the specification's own library.
`mischief` makes it answer the next request as no gateway should.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from standardwebhooks import Webhook

FIELDS = {
    "payments": {
        "reference", "amount", "currency", "payment_method", "return_url", "description", "capture", "idempotency_key",
    },
    "capture": {"amount", "idempotency_key"},
    "confirm": {"idempotency_key"},
    "cancel": {"idempotency_key"},
    "refunds": {"amount", "idempotency_key"},
    "evidence": {"evidence", "idempotency_key"},
}  # fmt: skip
Answer = tuple[int, dict[str, Any]]


class No(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.answer: Answer = (status, {"code": code, "message": f"No: {code}."})
        super().__init__(code)


class Hangup(Exception):
    """The connection ends without an answer."""


@dataclass
class Books:
    payments: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    disputes: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, tuple[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


class FakeGateway:
    """The server's mind; one lock, since it answers in threads."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.books = Books()
        self.requests: list[str] = []
        self.mischief: Callable[[BaseHTTPRequestHandler], None] | None = None
        self.url = ""
        self._lock = threading.Lock()

    # --- what it does

    def post(self, path: str, said: dict[str, Any]) -> Answer:
        parts = path.strip("/").split("/")
        act = parts[-1]
        if act not in FIELDS or set(said) != FIELDS[act]:
            raise No(400, "unknown_fields")
        key = said["idempotency_key"]
        with self._lock:
            wanted = json.dumps([path, said], sort_keys=True)
            if key in self.books.by_key:
                before, answer = self.books.by_key[key]
                if before != wanted:
                    raise No(422, "key_reused")
                return 200, self._now(answer)
            answer = self._create(said) if len(parts) == 1 else self._act(parts[1], act, said)
            self.books.by_key[key] = (wanted, answer)
        if said.get("payment_method") == "pay_lost":
            raise Hangup
        return (402 if answer.get("state") == "failed" else 201), answer

    def _now(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The same thing as it is now."""
        return self.books.payments.get(answer["id"]) or self.books.disputes.get(answer["id"], answer)

    def _create(self, said: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(said["amount"], int) or said["amount"] <= 0:
            raise No(400, "bad_amount")
        if said["payment_method"] not in (
            "pay_ok",
            "pay_declined",
            "pay_action",
            "pay_later",
            "pay_lost",
            "pay_disputed",
        ):
            raise No(422, "unknown_method")
        payment = {
            "id": f"pay_{len(self.books.payments) + 1}",
            "reference": said["reference"],
            "state": "processing",
            "amount": said["amount"],
            "currency": said["currency"],
            "captured": 0,
            "refunded": 0,
            "wants_capture": said["capture"],
        }
        self.books.payments[payment["id"]] = payment
        if said["payment_method"] == "pay_action":
            payment |= {"state": "requires_action", "action_url": "https://bank.example/confirm"}
        elif said["payment_method"] == "pay_declined":
            payment |= {"state": "failed", "failure_code": "card_declined", "failure_message": "The card was declined."}
        elif said["payment_method"] != "pay_later":
            self._pay(payment)
        self._announce(payment)
        if said["payment_method"] == "pay_disputed":
            self.dispute(payment)
        return payment

    def dispute(self, payment: dict[str, Any]) -> None:
        """The payer wants it back."""
        due = datetime.now(UTC) + timedelta(days=7)
        about = {"amount": payment["captured"], "currency": payment["currency"], "reason": "fraudulent"}
        about |= {"id": f"dp_{len(self.books.disputes) + 1}", "payment": payment["id"], "state": "opened"}
        about |= {"evidence_due_at": due.isoformat(), "has_evidence": False}
        self.books.disputes[about["id"]] = about
        self._announce_dispute(about)

    def _give_evidence(self, dispute: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        texts = said["evidence"]
        if not isinstance(texts, dict) or not all(isinstance(each, str) and each for each in texts.values()):
            raise No(400, "bad_evidence")
        if dispute["has_evidence"] or dispute["state"] in ("won", "lost"):
            raise No(422, "evidence_given")
        dispute |= {"has_evidence": True, "state": "under_review"}
        self._announce_dispute(dispute)
        return dispute

    def _announce_dispute(self, dispute: dict[str, Any]) -> None:
        id, kind = f"evt_d{len(self.books.events) + 1}_{dispute['id']}", f"dispute.{dispute['state']}"
        moment = datetime.now(UTC).isoformat()
        self.books.events.append({"id": id, "type": kind, "created_at": moment, "data": {"dispute": dict(dispute)}})

    def _pay(self, payment: dict[str, Any]) -> None:
        payment.pop("action_url", None)
        done = {"state": "succeeded", "captured": payment["amount"]}
        payment |= done if payment["wants_capture"] else {"state": "authorized"}

    def _act(self, id: str, act: str, said: dict[str, Any]) -> dict[str, Any]:
        payment = self.books.payments.get(id)
        if act == "evidence" and id in self.books.disputes:
            return self._give_evidence(self.books.disputes[id], said)
        if payment is None:
            raise No(404, "not_found")
        if act == "refunds":
            return self._refund(payment, said)
        if act == "capture" and payment["state"] != "succeeded":
            if payment["state"] != "authorized" or said["amount"] != payment["amount"]:
                raise No(422, "not_capturable")
            payment["wants_capture"] = True
            self._pay(payment)
        elif act == "confirm" and payment["state"] == "requires_action":
            self._pay(payment)
        elif act == "cancel" and payment["state"] in ("requires_action", "processing", "authorized"):
            payment["state"] = "cancelled"
        self._announce(payment)
        return payment

    def _refund(self, payment: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
        if not 0 < said["amount"] <= payment["captured"] - payment["refunded"]:
            raise No(422, "refund_exceeds_payment")
        payment["refunded"] += said["amount"]
        refund = {"id": f"ref_{len(self.books.refunds) + 1}", "state": "succeeded", "amount": said["amount"]}
        self.books.refunds[said["idempotency_key"]] = refund
        return refund

    def get(self, path: str, query: dict[str, list[str]]) -> Answer:
        with self._lock:
            parts = path.strip("/").split("/")
            if parts[0] == "disputes" and parts[1] in self.books.disputes:
                return 200, self.books.disputes[parts[1]]
            if len(parts) == 2:
                if parts[1] not in self.books.payments:
                    raise No(404, "not_found")
                return 200, self._settled(self.books.payments[parts[1]])
            key = query["idempotency_key"][0]
            if parts[0] == "refunds":
                return 200, {"refunds": [self.books.refunds[key]] if key in self.books.refunds else []}
            mine = [each for each in self.books.payments.values() if each["reference"] == key]
            return 200, {"payments": [self._settled(each) for each in mine]}

    def _settled(self, payment: dict[str, Any]) -> dict[str, Any]:
        if payment["state"] == "processing":
            self._pay(payment)
        return payment

    # --- webhooks

    def _announce(self, payment: dict[str, Any]) -> None:
        self.books.events.append(
            {
                "id": f"evt_{len(self.books.events) + 1}",
                "type": f"payment.{payment['state']}",
                "created_at": datetime.now(UTC).isoformat(),
                "data": {"payment": {name: value for name, value in payment.items() if name != "wants_capture"}},
            }
        )

    def webhooks(self) -> Iterator[tuple[bytes, dict[str, str]]]:
        """What it would send by now, signed."""
        with self._lock:
            for payment in self.books.payments.values():
                if payment["state"] == "processing":
                    self._pay(payment)
                    self._announce(payment)
            waiting, self.books.events = self.books.events, []
        for event in waiting:
            body = json.dumps(event)
            moment = datetime.now(UTC)
            signature = Webhook(self.secret).sign(event["id"], moment, body)
            headers = {
                "webhook-id": event["id"],
                "webhook-timestamp": str(int(moment.timestamp())),
                "webhook-signature": signature,
            }
            yield body.encode(), headers

    # --- the wire

    def check(self, headers: dict[str, str], body: bytes) -> None:
        Webhook(self.secret).verify(body, headers, json_parse=False)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    @property
    def gateway(self) -> FakeGateway:
        return self.server.gateway  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        self.gateway.requests.append(f"{self.command} {self.path}")
        self.close_connection = True
        if self.gateway.mischief is not None:
            self.gateway.mischief(self)
            return
        try:
            self.gateway.check(dict(self.headers.items()), body)
            status, said = self._answer(body)
        except No as no:
            status, said = no.answer
        except Hangup:
            return
        except Exception as wrong:  # noqa: BLE001 - what is not understood is refused
            status, said = 401, {"code": "refused", "message": str(wrong)}
        answer(self, status, json.dumps(said).encode())

    def _answer(self, body: bytes) -> Answer:
        target = urlsplit(self.path)
        if self.command == "GET":
            return self.gateway.get(target.path, parse_qs(target.query))
        said = json.loads(body)
        if self.headers["Idempotency-Key"] != said.get("idempotency_key"):
            raise No(400, "key_differs")
        return self.gateway.post(target.path, said)


@contextmanager
def serving(secret: str) -> Iterator[FakeGateway]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.gateway = gateway = FakeGateway(secret)  # type: ignore[attr-defined]
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)
