# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The error of bad input. Commands print it as one line; any other exception is a bug of ours."""


class InputError(ValueError):
    """Input that cannot work: a flag, a config field, a file, a prompt.

    The message is one line: subject, rule, value, remedy.
    """


class DivergenceError(InputError, FloatingPointError):
    """A loss, gradient or sample that is no longer finite."""


def require(condition: bool, message: str) -> None:
    """Raises `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
