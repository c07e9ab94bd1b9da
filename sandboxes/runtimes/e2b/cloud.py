"""The E2B cloud through its official SDK: the few calls that are made, and every failure in the words of a runtime.

AuthenticationException                        -> RuntimeUnavailable     nothing will run until the key is corrected
403, 404 at creation, TemplateException        -> RuntimeUnavailable     nor until the template is
other 400s, NotEnoughSpaceException            -> InvalidRequest         this execution will never run there
RateLimitException, 503, 5xx, time-outs,
sandbox gone or out of reach, dropped streams  -> RuntimeLost            again, on another sandbox
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import e2b
import httpx

from sandboxes.runtimes import Held, InvalidRequest, RuntimeLost, RuntimeUnavailable

# Who a sandbox is of, in its metadata: at E2B one account may serve several installations.
OWNER, OWNER_VALUE, REQUEST = "ntd", "execution", "ntd-request"
# The SDK waits inside this for what `Retry-After` says, so it is also how long E2B may ask us to be patient.
PATIENCE_SECONDS = 60
RETRIES = 20
PROBE_SECONDS = 5
KILL_SECONDS = 15
PAGE = 100
SECRET = re.compile(r"e2b_[0-9A-Za-z]+")
# How the transport begins to say what happened; the address is the operator's to know.
PREAMBLE = re.compile(r"(Request failed: )?error sending request for url \(\S*\): ")
LONGEST_SENTENCE = 300


@dataclass(frozen=True)
class Plan:
    """What the operator said of the E2B account: its key, the templates, and what a sandbox of them has.

    `network` is where programs that ask for it may reach, in the words of `sandboxes.daemon.egress`; "" for nowhere.
    """

    api_key: str = field(repr=False)
    templates: Mapping[str, str]
    cpus: int = 2
    memory_mb: int = 512
    longest_seconds: int = 3600
    network: str = ""
    domain: str = ""
    api_url: str = ""
    sandbox_url: str = ""

    @property
    def address(self) -> str:
        return self.api_url or f"https://api.{self.domain or 'e2b.app'}"


class Cloud:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        places = {"domain": plan.domain, "api_url": plan.api_url, "sandbox_url": plan.sandbox_url}
        given: Any = {name: value for name, value in places.items() if value}
        # Bound to this object, so that another E2B client of the same process neither changes it nor is changed.
        self._client = e2b.E2B(api_key=plan.api_key, debug=False, retries=RETRIES, **given)

    def create(self, *, language: str, request_id: str, lease_seconds: int, network: bool) -> e2b.Sandbox:
        """A running sandbox that E2B ends by itself after `lease_seconds`. A repeated call gives the same one."""
        template = self.plan.templates[language]
        with faults(f"making a sandbox of {template}", other=lambda error: _creation(error, template)):
            return self._client.Sandbox.create(
                template,
                timeout=lease_seconds,
                metadata={OWNER: OWNER_VALUE, REQUEST: request_id},
                allow_internet_access=network,
                # What the program listens on is nobody's.
                network={"allow_public_traffic": False},
                lifecycle={"on_timeout": "kill"},
                idempotency_key=re.sub(r"[^a-z0-9-]", "-", request_id.lower()),
                request_timeout=PATIENCE_SECONDS,
            )

    def kill(self, sandbox: str) -> bool:
        """False when it was gone already."""
        with faults(f"killing the sandbox {sandbox}"):
            return bool(self._client.Sandbox.kill(sandbox, request_timeout=KILL_SECONDS))

    def held(self) -> list[Held]:
        """Every sandbox that an installation with this key holds for an execution."""
        found: list[Held] = []
        query = e2b.SandboxQuery(metadata={OWNER: OWNER_VALUE})
        with faults("listing the sandboxes"):
            pages = self._client.Sandbox.list(query=query, limit=PAGE)
            while pages.has_next:
                found += [Held(each.sandbox_id, each.metadata.get(REQUEST, "")) for each in pages.next_items()]
        return found

    def probe(self) -> None:
        """Ask whether the key works and the templates are there. Raises RuntimeLost, RuntimeUnavailable."""
        with faults("asking whether the key works"):
            self._client.Sandbox.list(limit=1, request_timeout=PROBE_SECONDS, retries=0).next_items()
            missing = [name for name in sorted({*self.plan.templates.values()}) if not self._has(name)]
        if missing:
            raise RuntimeUnavailable([_no_template(name) for name in missing])

    def _has(self, template: str) -> bool:
        return bool(self._client.Template.exists(template, request_timeout=PROBE_SECONDS, retries=0))


@contextlib.contextmanager
def faults(doing: str, *, other: Callable[[e2b.SandboxException], Exception | None] | None = None) -> Iterator[None]:
    """Around calls of the SDK only: what they raise leaves as a runtime's failure, and without the key."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the SDK lets its transport's errors through, and bare Exceptions
        raise as_failure(error, doing=doing, other=other) from error


def as_failure(
    error: Exception, *, doing: str, other: Callable[[e2b.SandboxException], Exception | None] | None = None
) -> Exception:
    """`other` may say of an answer of E2B what it means for this call."""
    said = f"E2B, {doing}: {plain(error)}"
    if isinstance(error, e2b.AuthenticationException):
        return RuntimeUnavailable([f"E2B does not let us in: correct E2B_API_KEY. {said}"])
    if isinstance(error, e2b.TemplateException):
        return RuntimeUnavailable([f"The template is too old for this version of the SDK. {said}"])
    if isinstance(error, e2b.RateLimitException):
        return RuntimeLost(f"E2B asked to slow down, and went on asking. {said}")
    if isinstance(error, e2b.NotEnoughSpaceException):
        return InvalidRequest(f"The files of this execution do not fit on the disk of the E2B sandbox. {said}")
    if isinstance(error, httpx.ConnectError | httpx.TimeoutException):
        return RuntimeLost(f"E2B cannot be reached, {doing}: {plain(error)}")
    meant = other(error) if other and isinstance(error, e2b.SandboxException) else None
    return meant or RuntimeLost(said)


def _creation(error: e2b.SandboxException, template: str) -> Exception | None:
    if error.status_code in (403, 404):
        return RuntimeUnavailable([_no_template(template)])
    if error.status_code in (400, 422) or isinstance(error, e2b.InvalidArgumentException):
        return InvalidRequest(f"E2B refuses to make this sandbox: {plain(error)}")
    return None


def _no_template(name: str) -> str:
    return (
        f"There is no E2B template {name} for this key: build it, or correct E2B_TEMPLATE_PYTHON or E2B_TEMPLATE_NODE."
    )


def plain(error: Exception) -> str:
    """What an error says, on one line, short, and without anything that looks like a key."""
    text = PREAMBLE.sub("", " ".join(str(error).split())) or type(error).__name__
    return SECRET.sub("e2b_•••", text)[:LONGEST_SENTENCE]
