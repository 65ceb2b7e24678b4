# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Commands run in the process of the test, which saves starting Python and JAX."""

import contextlib
import io
import os
import sys
from unittest import mock

from mimir_jax import threads
from mimir_jax.cli import main


def call(verb, *args):
    """Runs `mimir-jax VERB ...`; returns exit code, stdout and stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, COLUMNS="200"),  # a command prepares its host
        mock.patch.object(threads, "leave", sys.exit),  # which would end the tests
    ):
        try:
            main.main([verb, *map(str, args)])
        except SystemExit as end:
            code = end.code or 0
            if isinstance(code, str):  # what Python prints
                code = print(code, file=err) or 1
    return code, out.getvalue(), err.getvalue()


def error_of(verb, *args):
    """Returns the one line with which a command refuses its input."""
    code, _, err = call(verb, *args)
    lines = err.splitlines()
    assert code == 1 and len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]
