"""Pure. Creditor references (ISO 11649) and IBANs (ISO 13616), whose check digits are those of ISO 7064 MOD 97-10.

A reference is RF, two check digits and up to 21 letters and digits. Ours has ten digits, the transfer's number.
"""

from __future__ import annotations

import re

REFERENCE = re.compile(r"RF[0-9]{2}[0-9A-Z]{1,21}")
IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")
DIGITS = 10
# As people type it: in groups, with dots or dashes, after and before other words.
OURS_IN_TEXT = re.compile(rf"(?<![0-9A-Z])R ?F(?:[ .\-/]?[0-9]){{{2 + DIGITS}}}(?![ .\-/]?[0-9])")


def make(number: int) -> str:
    """The reference of the transfer of this number: 7 -> RF860000000007."""
    body = f"{number:0{DIGITS}d}"
    return f"RF{98 - _rest(body + 'RF00'):02d}{body}"


def is_reference(text: str) -> bool:
    """Whether it is a creditor reference with right check digits; spaces do not count."""
    plain = squeezed(text)
    return bool(REFERENCE.fullmatch(plain)) and _rest(plain[4:] + plain[:4]) == 1


def is_iban(text: str) -> bool:
    plain = squeezed(text)
    return bool(IBAN.fullmatch(plain)) and _rest(plain[4:] + plain[:4]) == 1


def number_of(reference: str) -> int | None:
    """The transfer's number, when the reference is one of ours."""
    plain = squeezed(reference)
    if not is_reference(plain) or not plain[4:].isdigit() or len(plain) != 4 + DIGITS:
        return None
    return int(plain[4:])


def found_in(*texts: str) -> str:
    """The one reference of ours in these texts; empty when there is none, or several and nobody can tell which."""
    found = {
        plain
        for text in texts
        for hit in OURS_IN_TEXT.findall(" ".join(text.upper().split()))
        if number_of(plain := re.sub(r"[^0-9A-Z]", "", hit)) is not None
    }
    return found.pop() if len(found) == 1 else ""


def squeezed(text: str) -> str:
    return "".join(text.split()).upper()


def grouped(text: str) -> str:
    """In fours, as people read it: RF18 5390 0754 7034."""
    plain = squeezed(text)
    return " ".join(plain[start : start + 4] for start in range(0, len(plain), 4))


def _rest(text: str) -> int:
    """Letters count from A = 10 to Z = 35, then the whole number modulo 97."""
    return int("".join(str(int(letter, 36)) for letter in text)) % 97
