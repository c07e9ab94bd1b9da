"""Secrets kept in rows: sealed when they come in, opened only where they are used.

The key is made from SECRET_KEY (HKDF-SHA256), so a copy of the database alone opens nothing. A former SECRET_KEY still
opens while it is in SECRET_KEY_FALLBACKS. The box is Fernet of the library `cryptography`: AES-128-CBC with HMAC.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

PURPOSE = b"ntd secrets kept in rows"
MARK = "sealed"


class Unreadable(Exception):
    """Raised for what was sealed with a key that is here no more."""

    code = "config_error"

    def __init__(self) -> None:
        super().__init__("A secret cannot be read any more: the installation has another SECRET_KEY. Give it again.")


def seal(text: str) -> str:
    return _box().encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises Unreadable."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable from None


def _box() -> MultiFernet:
    return _box_of(settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=4)
def _box_of(*keys: str) -> MultiFernet:
    made = (HKDF(SHA256(), length=32, salt=None, info=PURPOSE).derive(key.encode()) for key in keys)
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in made])


# Among the variables of an execution: a sealed one is an object, which no customer can write there.


def among(env: Mapping[str, str], sealed: Mapping[str, str]) -> dict[str, Any]:
    """Variables as an execution keeps them; `sealed` are sealed already."""
    return {**env, **{name: {MARK: text} for name, text in sealed.items()}}


def apart(env: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The plain ones of an execution, and its sealed ones as they are."""
    sealed = {name: value[MARK] for name, value in env.items() if isinstance(value, dict)}
    return {name: value for name, value in env.items() if name not in sealed}, sealed


def opened(env: Mapping[str, Any]) -> dict[str, str]:
    """What its program is started with. Raises Unreadable."""
    plain, sealed = apart(env)
    return {**plain, **{name: unseal(text) for name, text in sealed.items()}}
