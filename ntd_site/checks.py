"""Wrong settings stop the start, with a sentence that says what to do."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from billing.bank import references
from billing.gateways import signatures
from billing.gateways.answers import LOOPBACK
from ntd_site import coin_checks
from sandboxes.daemon import egress

TOPOLOGIES = ("mesh", "ring", "star", "hierarchical", "adaptive")
ENGINES = ("auto", "gvisor", "bubblewrap")
ROLES = ("coordinator", "worker", "both")
RUNTIMES = ("local", "e2b")
BIC = re.compile(r"[A-Z]{6}[0-9A-Z]{2}(?:[0-9A-Z]{3})?")
STRIPE_KEY = re.compile(r"[sr]k_(?:live|test)_[0-9A-Za-z_]{10,}")
STRIPE_SECRET = re.compile(r"whsec_[0-9A-Za-z+/=_-]{16,}")
E2B_KEY = re.compile(r"e2b_[0-9A-Za-z]{16,}")


def register() -> None:
    checks.register(check_settings)


def check_settings(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    found = [
        *_urls(), *_gateways(), *_stripe(), *_bank(), *coin_checks.found(), *_numbers(), *_choices(), *_sandboxes(), *_webhooks(), *_e2b(), *_production(),
    ]  # fmt: skip
    errors = [checks.Error(text, hint=hint, id=f"ntd.{code}") for code, text, hint in found]
    return [*errors, *_free_credits()]


def _free_credits() -> list[checks.CheckMessage]:
    if not (
        settings.SIMULATED_GATEWAY
        and (settings.NTD_ENV == "production" or settings.PAYMENT_GATEWAY_URL or settings.STRIPE_API_KEY)
    ):
        return []
    text = "The simulated gateway is on where real payments are taken: anybody can have credits for nothing."
    return [checks.Warning(text, hint="Unset NTD_SIMULATED_GATEWAY.", id="ntd.W001")]


Found = tuple[str, str, str]


def _urls() -> list[Found]:
    found = []
    scheme = urlsplit(settings.DATABASE_URL).scheme
    if scheme.startswith("sqlite"):
        found.append(
            (
                "E001",
                "DATABASE_URL names SQLite, which ntd does not run on.",
                "Leave it empty for the embedded PostgreSQL, or name a PostgreSQL 15 or newer: postgresql://user:password@host/name.",
            )
        )
    elif scheme not in ("postgres", "postgresql"):
        found.append(
            (
                "E001",
                f"DATABASE_URL starts with {scheme or 'nothing'}://, not postgresql://.",
                "Use postgresql://user:password@host/name.",
            )
        )
    if urlsplit(settings.REDIS_URL).scheme not in ("redis", "rediss", "unix"):
        found.append(
            (
                "E002",
                "REDIS_URL must start with redis://, rediss:// or unix://.",
                "Leave it empty for the embedded Valkey.",
            )
        )
    return found


def _numbers() -> list[Found]:
    if settings.CREDIT_NOTE_PREFIX != settings.INVOICE_PREFIX:
        return []
    text = "INVOICE_PREFIX and CREDIT_NOTE_PREFIX are the same, so invoices and credit notes would share their numbers."
    return [("E020", text, "Name two prefixes that differ, for example nothing and CN.")]


def _gateways() -> list[Found]:
    found = []
    address = _bad_gateway_address(settings.PAYMENT_GATEWAY_URL)
    if address:
        found.append(("E003", f"PAYMENT_GATEWAY_URL {address}.", "Leave it empty for the simulated gateway."))
    facilitator = _bad_gateway_address(settings.X402_FACILITATOR_URL)
    if facilitator:
        found.append(("E041", f"NTD_X402_FACILITATOR_URL {facilitator}.", "Leave it empty to take no x402."))
    node = _bad_gateway_address(settings.USDC_RPC_URL)
    if node:
        found.append(("E038", f"NTD_USDC_RPC_URL {node}.", "Leave it empty to take no USDC."))
    if settings.PAYMENT_GATEWAY_URL and not settings.GATEWAY_SECRETS["http"]:
        found.append(
            (
                "E011",
                "PAYMENT_GATEWAY_URL needs NTD_GATEWAY_SECRET_HTTP.",
                "Set it to the secret that the gateway and this service sign with, for example whsec_... of 32 bytes.",
            )
        )
    for name, given in settings.GATEWAY_SECRETS.items():
        if not all(signatures.is_secret(secret) for secret in given):
            found.append(
                (
                    "E012",
                    f"NTD_GATEWAY_SECRET_{name.upper()} is no secret of at least 24 bytes in base64.",
                    "Make one with: python3 -c 'import base64, os; print(\"whsec_\" + base64.b64encode(os.urandom(32)).decode())'",
                )
            )
    return found


def _stripe() -> list[Found]:
    if not settings.STRIPE_API_KEY:
        return []
    found = []
    if not STRIPE_KEY.fullmatch(settings.STRIPE_API_KEY):
        found.append(
            (
                "E021",
                "STRIPE_API_KEY has not the form of a secret key: sk_live_..., sk_test_... or rk_...",
                "Copy the secret (or a restricted) key from Stripe's dashboard; the publishable key (pk_...) takes no payments.",
            )
        )
    secrets = settings.STRIPE_WEBHOOK_SECRETS
    if not secrets or not all(STRIPE_SECRET.fullmatch(secret) for secret in secrets):
        found.append(
            (
                "E021",
                "STRIPE_API_KEY needs STRIPE_WEBHOOK_SECRET, whsec_... as Stripe shows it.",
                "Add a webhook endpoint /api/v1/gateways/stripe/webhook in Stripe's dashboard, and copy its signing secret.",
            )
        )
    address = _bad_gateway_address(settings.STRIPE_API_URL) if settings.STRIPE_API_URL else "is empty"
    if address:
        found.append(("E021", f"STRIPE_API_URL {address}.", "Leave it unset for https://api.stripe.com."))
    return found


def _bank() -> list[Found]:
    found = []
    if settings.BANK_IBAN and not references.is_iban(settings.BANK_IBAN):
        text = "BANK_IBAN is no IBAN: its check digits are wrong, or a part is missing."
        found.append(("E022", text, "Copy it from your bank, or leave it unset to offer no bank transfers."))
    if settings.BANK_BIC and not BIC.fullmatch(settings.BANK_BIC):
        found.append(("E022", "BANK_BIC is no BIC of 8 or 11 letters and digits.", "Correct it, or leave it unset."))
    if settings.BANK_IBAN and not settings.BANK_ACCOUNT_HOLDER:
        found.append(("E022", "BANK_IBAN needs BANK_ACCOUNT_HOLDER.", "Say in whose name the account is."))
    return found


def _bad_gateway_address(url: str) -> str:
    """What is wrong with it, as the end of a sentence; empty when nothing is."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not host:
        return "must be an http(s) address"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "must have no user, password, query or fragment"
    if parts.scheme == "http" and host not in LOOPBACK:
        return "must begin with https:// (http:// only to this machine)"
    return ""


def _choices() -> list[Found]:
    found = []
    if settings.TOPOLOGY not in TOPOLOGIES:
        found.append(("E004", f"NTD_TOPOLOGY is {settings.TOPOLOGY!r}.", f"Use one of {', '.join(TOPOLOGIES)}."))
    if settings.FEDERATION_ROLE not in ROLES:
        found.append(("E005", f"FEDERATION_ROLE is {settings.FEDERATION_ROLE!r}.", f"Use one of {', '.join(ROLES)}."))
    if settings.FEDERATION_ROLE == "worker" and not settings.COORDINATOR_URL:
        found.append(
            (
                "E006",
                "FEDERATION_ROLE=worker needs COORDINATOR_URL.",
                "Set it to the address of the coordinator, for example https://ntd.example.",
            )
        )
    return [*found, *_numbers()]


def _webhooks() -> list[Found]:
    found = []
    for network in settings.WEBHOOK_PRIVATE_NETWORKS:
        try:
            ip_network(network, strict=False)
        except ValueError:
            text = f"NTD_WEBHOOK_PRIVATE_NETWORKS: {network!r} is no network."
            found.append(("E017", text, "Use networks or addresses: 10.1.0.0/16,127.0.0.1."))
    return found


def _numbers() -> list[Found]:
    found = []
    for name in ("MAX_SANDBOXES", "MAX_AGENTS", "RATE_LIMIT_PER_MINUTE"):
        if getattr(settings, name) < 1:
            found.append(("E007", f"{name} must be at least 1.", "Correct the environment variable."))
    for name in ("DEFAULT_CREDITS", "KEPT_SANDBOXES"):
        if getattr(settings, name) < 0:
            found.append(("E007", f"{name} must not be negative.", "Correct the environment variable."))
    return found


def _sandboxes() -> list[Found]:
    found = []
    if settings.SANDBOX_ENGINE not in ENGINES:
        text = f"NTD_SANDBOX_ENGINE is {settings.SANDBOX_ENGINE!r}."
        found.append(("E012", text, f"Use one of {', '.join(ENGINES)}."))
    try:
        egress.only(settings.MCP_ALLOW)
    except egress.BadPolicy as problem:
        found.append(("E018", f"NTD_MCP_ALLOW: {problem}.", "Use a list of host:port, such as tools.internal:8080."))
    try:
        egress.parse(settings.SANDBOX_NETWORK)
    except egress.BadPolicy as problem:
        found.append(("E011", f"NTD_SANDBOX_NETWORK: {problem}.", "Use off, outward, or host:port,host:port."))
    return found


def _e2b() -> list[Found]:
    found = []
    if settings.E2B_API_KEY and not E2B_KEY.fullmatch(settings.E2B_API_KEY):
        found.append(
            (
                "E014",
                "E2B_API_KEY has not the form of a key: e2b_ and at least 16 letters and digits.",
                "Copy it from the E2B dashboard, without quotes or spaces, or leave it empty to run nothing at E2B.",
            )
        )
    for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
        if getattr(settings, name) and urlsplit(getattr(settings, name)).scheme not in ("http", "https"):
            found.append(("E015", f"{name} must be an http(s) address.", "Leave it empty for the E2B cloud."))
    if settings.E2B_API_URL and not (settings.E2B_SANDBOX_URL or settings.E2B_DOMAIN):
        found.append(
            (
                "E015",
                "E2B_API_URL without E2B_SANDBOX_URL or E2B_DOMAIN would send the sandboxes' tokens to the E2B cloud.",
                "Say too where the sandboxes of that server are reached.",
            )
        )
    for name in ("E2B_MAX_SANDBOXES", "E2B_SANDBOX_CPUS", "E2B_SANDBOX_MEMORY_MB"):
        if getattr(settings, name) < 1:
            found.append(("E007", f"{name} must be at least 1.", "Correct the environment variable."))
    if settings.E2B_LONGEST_SECONDS < 60:
        found.append(("E007", "E2B_LONGEST_SECONDS must be at least 60.", "Correct the environment variable."))
    return [*found, *_runtimes()]


def _runtimes() -> list[Found]:
    wanted = settings.DEFAULT_RUNTIMES
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(RUNTIMES):
        return [
            (
                "E016",
                f"NTD_DEFAULT_RUNTIMES is {','.join(wanted)!r}.",
                "Use local, e2b, or both in the order you prefer.",
            )
        ]
    if "e2b" in wanted and not settings.E2B_API_KEY:
        return [("E016", "NTD_DEFAULT_RUNTIMES names e2b, which needs E2B_API_KEY.", "Set the key, or take e2b out.")]
    return []


def _production() -> list[Found]:
    found = []
    if settings.NTD_TEST_CLOCK and not settings.DEBUG:
        found.append(
            (
                "E008",
                "NTD_TEST_CLOCK needs DEBUG.",
                "The test clock is for tests: set DEBUG=1, or unset NTD_TEST_CLOCK.",
            )
        )
    if settings.NTD_ENV == "production" and (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_REDIS):
        found.append(
            (
                "E009",
                "Production needs its own PostgreSQL and Redis.",
                "Set DATABASE_URL and REDIS_URL, or unset NTD_ENV.",
            )
        )
    if settings.NTD_ENV == "production" and settings.DEBUG:
        found.append(("E010", "DEBUG is on in production.", "Unset DEBUG."))
    return found
