"""Stripe's API on 127.0.0.1, strict: written from docs.stripe.com/api, it checks what Stripe checks and keeps books.

The key, form bodies, every parameter's name, amounts and their limits, states, and an idempotency key that comes again:
the same answer for the same request, 400 for another. Methods: pm_card_visa pays, pm_card_visa_chargeDeclined does
not, pm_card_threeDSecure2Required asks the customer (`authenticate`), pm_later pays when webhooks are sent, pm_lost
pays and hangs up, pm_card_createDispute pays and is disputed. Cards given on its page (`give_card`) are a customer's
and pay as one of these until they are detached. `mischief` answers the next request as Stripe never would.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.fake_gateway import answer
from tests.fake_stripe_cards import Answer, FakeCards, Form, No, card_page, shown

KEY = "sk_test_fake0123456789"
SECRET = "whsec_ZmFrZS1zdHJpcGUtc2VjcmV0LWZvci10ZXN0cw"
PARAMS = {
    "create": {
        "amount", "currency", "payment_method", "customer", "return_url", "automatic_payment_methods[enabled]",
        "automatic_payment_methods[allow_redirects]", "confirm", "capture_method", "description", "off_session",
        "metadata[reference]", "expand[0]",
    },
    "customers": {"metadata[account]", "description"},
    "detach": set(),
    "retrieve": {"expand[0]"},
    "confirm": {"expand[0]"},
    "capture": {"amount_to_capture", "expand[0]"},
    "cancel": {"expand[0]"},
    "search": {"query", "limit", "expand[0]"},
    "refund": {"payment_intent", "amount", "metadata[key]"},
    "refunds": {"payment_intent", "limit"},
    "dispute": set(),
    "sessions": {
        "mode", "line_items[0][price_data][currency]", "line_items[0][price_data][unit_amount]",
        "line_items[0][price_data][product_data][name]", "line_items[0][quantity]", "client_reference_id",
        "metadata[reference]", "payment_intent_data[metadata][reference]", "payment_intent_data[metadata][page]",
        "payment_intent_data[description]", "success_url", "cancel_url", "expand[0]", "customer", "currency",
        "allowed_payment_method_types[0]", "setup_intent_data[metadata][reference]",
    },
    "expire": {"expand[0]"},
    "evidence": {"submit"},
}  # fmt: skip
METHODS = {
    "pm_card_visa": "succeeded",
    "pm_lost": "succeeded",
    "pm_card_createDispute": "succeeded",
    "pm_later": "processing",
    "pm_card_threeDSecure2Required": "requires_action",
    "pm_card_visa_chargeDeclined": "requires_payment_method",
}
LEAST = {"jpy": 50}
ZERO_PLACES = {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"}
THREE_PLACES = {"bhd", "jod", "kwd", "omr", "tnd"}
EVIDENCE = {
    "access_activity_log", "customer_email_address", "customer_name", "customer_purchase_ip", "product_description",
    "refund_policy_disclosure", "refund_refusal_explanation", "service_date", "uncategorized_text",
}  # fmt: skip


@dataclass
class FakeStripe(FakeCards):
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    disputes: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, tuple[str, Answer]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    mischief: Callable[[BaseHTTPRequestHandler], None] | None = None
    # Whether its search sees what was made; the real one needs some seconds.
    is_indexed: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    # --- requests

    def handle(self, method: str, path: str, form: Form, headers: dict[str, str]) -> Answer:
        self.check(method, headers)
        if method == "GET":
            return self.get(path, form)
        key = headers.get("idempotency-key", "")
        if not 0 < len(key) <= 255:
            raise No(400, "idempotency_key_missing", "This fake takes no write without a key.")
        with self.lock:
            wanted = json.dumps([path, form], sort_keys=True)
            if key in self.by_key:
                before, said = self.by_key[key]
                if before != wanted:
                    sentence = "Keys for idempotent requests can only be used with the same parameters."
                    raise No(400, "", sentence, type="idempotency_error")
                return said
            self.by_key[key] = (wanted, self.post(path, form))
            return self.by_key[key][1]

    def check(self, method: str, headers: dict[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {KEY}":
            raise No(401, "", "Invalid API Key provided: sk_test_****", type="invalid_request_error")
        if not re.fullmatch(r"20\d\d-\d\d-\d\d\.[a-z]+", headers.get("stripe-version", "")):
            raise No(400, "", "Invalid Stripe API version.")
        if method == "POST" and headers.get("content-type") != "application/x-www-form-urlencoded":
            raise No(400, "", "Invalid request: only form-encoded bodies are taken.")

    def post(self, path: str, form: Form) -> Answer:
        """What is refused for what it says is kept with its key too, as Stripe keeps it once it began."""
        parts = path.removeprefix("/v1/").removeprefix("checkout/").split("/")
        acts = {"payment_intents": "create", "refunds": "refund", "disputes": "evidence", "sessions": "sessions",
                "customers": "customers"}  # fmt: skip
        act = parts[2] if len(parts) == 3 else acts.get(parts[0], "")
        known(act, {name: form[name] for name in form if act != "evidence" or not name.startswith("evidence[")})
        try:
            if parts[0] == "sessions":
                return 200, self.open_page(form) if act == "sessions" else self.close_page(parts[1])
            if act in ("customers", "detach"):
                return 200, self.new_customer(form) if act == "customers" else self.detach(parts[1])
            if act == "evidence":
                return 200, self.give_evidence(parts[1], form)
            if act == "refund":
                return 200, self.refund(form)
            return self.create(form) if act == "create" else (200, self.act(self.intent(parts[1]), act, form))
        except No as no:
            return no.answer

    def get(self, path: str, form: Form) -> Answer:
        parts = path.removeprefix("/v1/").split("/")
        if parts == ["payment_intents", "search"]:
            known("search", form)
            found = re.fullmatch(r"metadata\['reference'\]:'([^']*)'", form["query"])
            assert found, form["query"]
            mine = [each for each in self.intents.values() if each["metadata"]["reference"] == found[1]]
            rows = [shown(each) for each in mine] if self.is_indexed else []
            return 200, {"object": "search_result", "data": rows, "has_more": False, "url": path}
        if parts == ["refunds"]:
            known("refunds", form)
            self.intent(form["payment_intent"])
            rows = [each for each in self.refunds.values() if each["payment_intent"] == form["payment_intent"]]
            return 200, {"object": "list", "data": rows, "has_more": False, "url": path}
        if parts[:2] == ["checkout", "sessions"]:
            known("retrieve", form)
            return 200, self.page(parts[2])
        if parts[0] == "payment_methods":
            known("dispute", form)
            return 200, shown(self.card(parts[1]))
        if parts[0] == "disputes":
            known("dispute", form)
            return 200, shown(self.dispute_of(parts[1]))
        known("retrieve", form)
        return 200, shown(self.intent(parts[1]))

    def intent(self, id: str) -> dict[str, Any]:
        if id not in self.intents:
            raise No(404, "resource_missing", f"No such payment_intent: '{id}'", param="intent")
        return self.intents[id]

    # --- PaymentIntents

    def create(self, form: Form) -> Answer:
        amount_is_right(form)
        method = self.method_of(form)
        redirects = form.get("automatic_payment_methods[allow_redirects]", "always") != "never"
        if form.get("confirm") == "true" and redirects and "return_url" not in form:
            raise No(400, "parameter_missing", "A return_url is needed.", param="return_url")
        is_alone = form.get("off_session") == "true"
        number = len(self.intents) + 1
        intent = {
            "id": f"pi_{number}",
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "amount_received": 0,
            "amount_capturable": 0,
            "currency": form["currency"],
            "capture_method": form["capture_method"],
            "status": "requires_confirmation",
            "metadata": {"reference": form["metadata[reference]"]},
            "latest_charge": None,
            "next_action": None,
            "last_payment_error": None,
            "livemode": False,
        }
        self.intents[intent["id"]] = intent
        status = METHODS[method]
        code = "authentication_required" if is_alone and status == "requires_action" else "card_declined"
        if code == "authentication_required":
            status = "requires_payment_method"
        self.enter(intent, status, form.get("return_url", ""), code=code)
        if intent["status"] == "requires_payment_method":
            error = {"decline_code": "generic_decline", "payment_intent": {**intent, "latest_charge": f"ch_{number}"}}
            raise No(402, code, "Your card was declined.", type="card_error", **error)
        if form["payment_method"] == "pm_card_createDispute":
            self.dispute(intent["id"])
        return 200, shown(intent)

    def method_of(self, form: Form) -> str:
        """One of METHODS; a card that is kept is named with its customer, and is nobody's once it was detached."""
        named = form["payment_method"]
        if named in METHODS:
            return named
        if named not in self.cards:
            raise No(400, "resource_missing", "No such PaymentMethod.", param="payment_method")
        if self.cards[named]["customer"] is None or form.get("customer") != self.cards[named]["customer"]:
            raise No(400, "payment_method_invalid", "The PaymentMethod does not belong to the Customer.")
        return self.pays_as[named]

    def enter(self, intent: dict[str, Any], status: str, return_url: str = "", *, code: str = "card_declined") -> None:
        waits = intent["capture_method"] == "manual" and intent["status"] != "requires_capture"
        intent["next_action"] = None
        if status == "succeeded" and waits:
            status, intent["amount_capturable"] = "requires_capture", intent["amount"]
        elif status == "succeeded":
            intent |= {"amount_received": intent["amount"], "amount_capturable": 0}
        if status == "requires_payment_method":
            intent["last_payment_error"] = {"code": code, "message": "Your card was declined."}
        if status == "requires_action":
            redirect = {"url": "https://hooks.stripe.com/3d_secure/redirect", "return_url": return_url}
            intent["next_action"] = {"type": "redirect_to_url", "redirect_to_url": redirect}
        if status in ("succeeded", "requires_capture") and intent["latest_charge"] is None:
            charge = {"id": intent["id"].replace("pi_", "ch_"), "object": "charge", "amount_refunded": 0}
            intent["latest_charge"] = charge
        intent["status"] = status
        self.announce(intent)

    def act(self, intent: dict[str, Any], act: str, form: Form) -> dict[str, Any]:
        status = intent["status"]
        allowed = {
            "confirm": ("requires_confirmation",),
            "capture": ("requires_capture",),
            # Also `processing`, in rare cases, as the documentation has it.
            "cancel": ("requires_action", "requires_payment_method", "requires_confirmation", "requires_capture",
                       "processing"),
        }[act]  # fmt: skip
        if status not in allowed:
            sentence = f"You cannot {act} this PaymentIntent because it has a status of {status}."
            raise No(400, "payment_intent_unexpected_state", sentence, payment_intent={**intent, "latest_charge": None})
        if act == "capture" and int(form.get("amount_to_capture", intent["amount"])) > intent["amount"]:
            raise No(400, "amount_too_large", "The amount could not be captured.", param="amount_to_capture")
        self.enter(intent, "canceled" if act == "cancel" else "succeeded")
        return shown(intent)

    def authenticate(self, id: str, *, succeeds: bool = True) -> None:
        """The customer, at the bank's page."""
        intent = self.intents[id]
        if intent["status"] == "requires_action":
            self.enter(intent, "succeeded" if succeeds else "requires_payment_method")

    def refund(self, form: Form) -> dict[str, Any]:
        intent = self.intent(form["payment_intent"])
        if intent["status"] != "succeeded":
            raise No(400, "", f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
        charge, amount = intent["latest_charge"], int(form["amount"])
        if not 0 < amount <= intent["amount_received"] - charge["amount_refunded"]:
            raise No(400, "", "Refund amount is greater than unrefunded amount on charge.", param="amount")
        charge["amount_refunded"] += amount
        id = f"re_{len(self.refunds) + 1}"
        about = {"payment_intent": intent["id"], "amount": amount, "currency": intent["currency"]}
        self.refunds[id] = {
            "id": id, "object": "refund", "status": "succeeded", "metadata": {"key": form["metadata[key]"]}, **about
        }  # fmt: skip
        return dict(self.refunds[id])

    # --- its own page (Checkout)

    def open_page(self, form: Form) -> dict[str, Any]:
        if form["mode"] == "setup":
            return self.open_card_page(form)
        price = {"amount": form["line_items[0][price_data][unit_amount]"]}
        price["currency"] = form["line_items[0][price_data][currency]"]
        amount_is_right(price)
        if form["mode"] != "payment" or not form["success_url"].startswith(
            ("https://", "http://127.0.0.1", "http://localhost")
        ):
            raise No(400, "url_invalid", "Not a valid URL", param="success_url")
        id = f"cs_test_{len(self.sessions) + 1}"
        self.sessions[id] = {
            "id": id, "object": "checkout.session", "mode": "payment", "status": "open", "payment_status": "unpaid",
            "amount_total": int(price["amount"]), "currency": price["currency"], "payment_intent": None,
            "client_reference_id": form["client_reference_id"], "success_url": form["success_url"],
            "metadata": {"reference": form["metadata[reference]"]}, "url": f"{self.url}/pay/{id}", "livemode": False,
            "cancel_url": form["cancel_url"],
        }  # fmt: skip
        return self.page(id)

    def page(self, id: str) -> dict[str, Any]:
        """As it is shown: without an address once it has closed."""
        if id not in self.sessions:
            raise No(404, "resource_missing", f"No such checkout.session: {id}", param="session")
        found = shown(self.sessions[id])
        intent = found["payment_intent"]
        given = found.get("setup_intent")
        if given:
            found["setup_intent"] = {**given, "payment_method": shown(self.cards[given["payment_method"]])}
        return {**found, "payment_intent": intent and shown(self.intents[intent]),
                "url": found["url"] if found["status"] == "open" else None}  # fmt: skip

    def close_page(self, id: str) -> dict[str, Any]:
        if self.page(id)["status"] != "open":
            raise No(400, "", 'Only Checkout Sessions with a status in ["open"] can be expired.')
        self.sessions[id]["status"] = "expired"
        self.tell_page(id, "expired")
        return self.page(id)

    def pay_page(self, id: str, how: str = "succeeded") -> None:
        """The customer, on Stripe's page: `succeeded`, `processing` (tells later) or `requires_payment_method`."""
        page = self.sessions[id]
        if page["status"] != "open":
            return
        if page["payment_intent"] is None:
            page["payment_intent"] = f"pi_{len(self.intents) + 1}"
            self.intents[page["payment_intent"]] = {
                "id": page["payment_intent"], "object": "payment_intent", "amount": page["amount_total"],
                "amount_received": 0, "amount_capturable": 0, "currency": page["currency"],
                "capture_method": "automatic", "status": "requires_confirmation", "latest_charge": None,
                "metadata": {**page["metadata"], "page": "checkout"}, "next_action": None, "last_payment_error": None,
                "livemode": False,
            }  # fmt: skip
        self.enter(self.intents[page["payment_intent"]], how)
        if how != "requires_payment_method":
            page |= {"status": "complete", "payment_status": "paid" if how == "succeeded" else "unpaid"}
            self.tell_page(id, "completed")

    def tell_page(self, id: str, kind: str) -> None:
        event = {"id": f"evt_{len(self.events) + 1}_{id}_{kind}", "object": "event", "type": f"checkout.session.{kind}"}
        moment, about = int(datetime.now(UTC).timestamp()), shown(self.sessions[id])
        if about.get("setup_intent"):
            about["setup_intent"] = about["setup_intent"]["id"]
        self.events.append({**event, "created": moment, "data": {"object": about}})

    # --- disputes

    def dispute(self, intent_id: str, status: str = "needs_response") -> dict[str, Any]:
        """The payer wants it back: the money is withdrawn, unless it is an inquiry."""
        intent, id = self.intents[intent_id], f"dp_{len(self.disputes) + 1}"
        due = int(datetime.now(UTC).timestamp()) + 7 * 86400
        self.disputes[id] = {
            "id": id, "object": "dispute", "amount": intent["amount_received"], "currency": intent["currency"],
            "charge": intent["latest_charge"]["id"], "payment_intent": intent_id, "reason": "product_not_received",
            "status": status, "evidence": {}, "metadata": {}, "livemode": False,
            "evidence_details": {"due_by": due, "has_evidence": False, "past_due": False, "submission_count": 0},
        }  # fmt: skip
        self.tell_dispute(id, "created", *([] if status.startswith("warning") else ["funds_withdrawn"]))
        return self.disputes[id]

    def dispute_of(self, id: str) -> dict[str, Any]:
        if id not in self.disputes:
            raise No(404, "resource_missing", f"No such dispute: '{id}'", param="dispute")
        return self.disputes[id]

    def give_evidence(self, id: str, form: Form) -> dict[str, Any]:
        found, texts = self.dispute_of(id), {name: each for name, each in form.items() if name != "submit"}
        named = {name.removeprefix("evidence[").removesuffix("]") for name in texts}
        if named - EVIDENCE or not named:
            raise No(400, "parameter_unknown", f"Received unknown parameters: {named - EVIDENCE}")
        if found["status"] not in ("needs_response", "warning_needs_response"):
            raise No(400, "", "This dispute's evidence can no longer be changed.")
        found["evidence"] = texts
        found["evidence_details"] |= {"has_evidence": True, "submission_count": int(form.get("submit") == "true")}
        if form.get("submit") == "true":
            found["status"] = "warning_under_review" if found["status"].startswith("warning") else "under_review"
        self.tell_dispute(id, "updated")
        return shown(found)

    def decide(self, id: str, status: str) -> None:
        self.disputes[id]["status"] = status
        self.tell_dispute(id, *(["funds_reinstated"] if status == "won" else []), "closed")

    def tell_dispute(self, id: str, *kinds: str) -> None:
        moment = int(datetime.now(UTC).timestamp())
        for kind in kinds:
            event = {"id": f"evt_{len(self.events) + 1}_{id}_{kind}", "object": "event", "created": moment}
            about = {"type": f"charge.dispute.{kind}", "data": {"object": shown(self.disputes[id])}}
            self.events.append({**event, **about})

    # --- webhooks

    def announce(self, intent: dict[str, Any]) -> None:
        kinds = {"requires_payment_method": "payment_failed", "requires_capture": "amount_capturable_updated"}
        about = {**intent, "latest_charge": intent["latest_charge"] and intent["latest_charge"]["id"]}
        event = {
            "id": f"evt_{len(self.events) + 1}_{intent['id']}_{intent['status']}",
            "object": "event",
            "type": f"payment_intent.{kinds.get(intent['status'], intent['status'])}",
            "created": int(datetime.now(UTC).timestamp()),
            "data": {"object": json.loads(json.dumps(about))},
        }
        self.events.append(event)

    def webhooks(self) -> Iterator[tuple[bytes, dict[str, str]]]:
        """What it would send by now, signed."""
        with self.lock:
            for intent in self.intents.values():
                if intent["status"] == "processing":
                    self.enter(intent, "succeeded")
            waiting, self.events = self.events, []
        for event in waiting:
            body = json.dumps(event).encode()
            yield body, {"Stripe-Signature": signature(body)}


def known(act: str, form: Form) -> None:
    unknown = set(form) - PARAMS.get(act, set())
    if act not in PARAMS or unknown:
        raise No(400, "parameter_unknown", f"Received unknown parameters: {unknown}")


def amount_is_right(form: Form) -> None:
    currency, text = form["currency"], form["amount"]
    if not re.fullmatch(r"[a-z]{3}", currency) or not re.fullmatch(r"[0-9]+", text):
        raise No(400, "parameter_invalid_integer", "Invalid integer or currency.", param="amount")
    if int(text) < LEAST.get(currency, 50):
        raise No(400, "amount_too_small", "Amount must be at least the minimum.", param="amount")
    if int(text) > 99_999_999:
        raise No(400, "amount_too_large", "Amount must be no more than 99999999.", param="amount")
    if currency in THREE_PLACES and int(text) % 10:
        raise No(400, "invalid_amount", "The last digit of a three-decimal amount must be 0.", param="amount")


def signature(body: bytes, *, at: datetime | None = None, secret: str = SECRET) -> str:
    """As docs.stripe.com/webhooks/signature says."""
    seconds = int((at or datetime.now(UTC)).timestamp())
    made = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={made},v0=none"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"] or 0)).decode())

    def _serve(self, body: str) -> None:
        fake: FakeStripe = self.server.fake  # type: ignore[attr-defined]
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.headers.append(headers)
        self.close_connection = True
        if fake.mischief is not None:
            fake.mischief(self)
            return
        target = urlsplit(self.path)
        if target.path.startswith("/pay/"):
            self._page(fake, target.path.removeprefix("/pay/"), body)
            return
        form = dict(parse_qsl(target.query if self.command == "GET" else body, strict_parsing=False))
        try:
            status, said = fake.handle(self.command, target.path, form, headers)
        except No as no:
            status, said = no.answer
        if form.get("payment_method") == "pm_lost":
            return
        answer(self, status, json.dumps(said).encode())

    def _page(self, fake: FakeStripe, id: str, body: str) -> None:
        """What a customer sees there, who pays, is declined, or goes back."""
        page, how = fake.sessions[id], dict(parse_qsl(body)).get("how", "")
        if page["mode"] == "setup":
            card_page(self, fake, page, how, METHODS)
            return
        if how in ("succeeded", "processing"):
            fake.pay_page(id, how)
        if how == "requires_payment_method":
            fake.pay_page(id, how)
            how = ""
        if how:
            answer(self, 303, b"", Location=page["success_url"])
            return
        buttons = {"succeeded": "Pay", "requires_payment_method": "Be declined", "back": "Go back"}
        shown = "".join(f'<button name="how" value="{value}">{label}</button>' for value, label in buttons.items())
        text = f"<!doctype html><title>Stripe</title><h1>{page['amount_total']} {page['currency']}</h1>"
        answer(self, 200, f'{text}<form method="post">{shown}</form>'.encode(), Content_Type="text/html")


@contextmanager
def serving() -> Iterator[FakeStripe]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.fake = fake = FakeStripe()  # type: ignore[attr-defined]
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
