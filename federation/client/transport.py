"""What a transport is: it carries one question to the product and brings the answer, or says that it cannot."""

from __future__ import annotations

from typing import Any, Protocol


class Problem(Exception):
    """The product refused; `status` and `code` are the contract's, `body` is the whole problem."""

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.body: dict[str, Any] = body if isinstance(body, dict) else {}
        self.code = str(self.body.get("code", ""))
        errors = "; ".join(
            f"{name}: {' '.join(map(str, words))}" for name, words in self.body.get("errors", {}).items()
        )
        super().__init__(" ".join(filter(None, (str(self.body.get("detail", f"It answered {status}.")), errors))))

    @property
    def is_the_end(self) -> bool:
        """Asking again with this token is no use."""
        return self.status in (401, 410)

    @property
    def is_passing(self) -> bool:
        """Another moment may mend it."""
        return self.status == 429 or self.status >= 500 and self.status != 501

    @property
    def wait_seconds(self) -> float:
        return float(self.body.get("retry_after", 1))


class Unreachable(Exception):
    """No answer came. Whether the question arrived is not known."""


class Transport(Protocol):
    name: str

    async def ask(self, verb: str, *, of: str, body: Any = None, wait: float = 0, **query: Any) -> Any:
        """The answer's body, None for an empty one. Raises Problem, Unreachable."""
        ...

    async def close(self) -> None: ...
