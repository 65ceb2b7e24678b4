# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The error of bad input. Commands print it as one line; any other exception is a bug of ours."""

import unicodedata
from collections.abc import Collection

_LISTED = 10  # names that a message lists
_REASON = 300  # characters of an exception of another library in a message
_OVERRIDES = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder a line


class InputError(ValueError):
    """Input that cannot work: a flag, a config field, a file, a prompt.

    The message is one line: subject, rule, value, remedy. Names from files are part of many, so
    characters that would steer a terminal, newlines among them, are written as escapes.
    """

    def __init__(self, message: str = ""):
        super().__init__(printable(message))


class DivergenceError(InputError, FloatingPointError):
    """A loss, gradient or sample that is no longer finite."""


def require(condition: bool, message: str) -> None:
    """Raises `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def printable(text: str) -> str:
    """Returns `text` with control characters, lone surrogates and overrides of order as escapes."""
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else ascii(c)[1:-1] for c in text)


def listed(names: Collection[str]) -> str:
    """Returns the names joined by commas, the first ten and a count if there are more."""
    shown = ", ".join(list(names)[:_LISTED])
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def reason(error: BaseException) -> str:
    """Returns kind and message of an exception in one short line.

    Its `repr` may hold the whole file that could not be read.
    """
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    return text if len(text) <= _REASON else text[:_REASON] + " ..."


def _is_harmless(character: str) -> bool:
    if character in _OVERRIDES:
        return False
    return unicodedata.category(character) not in ("Cc", "Cs")
