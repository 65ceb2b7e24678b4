# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Command-line flags of the launch scripts: bad input becomes one line, never a traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Runs `main` under absl; bad input ends it with one line and exit code 1."""

    def quietly(argv):
        if not flags.FLAGS["verbosity"].present:  # --verbosity=0 shows what libraries log
            logging.set_verbosity(logging.WARNING)
        return main(argv)

    app.run(_one_line(quietly), flags_parser=_one_line(app.parse_flags_with_usage))


def _one_line(call: Callable) -> Callable:
    def wrapped(argv):
        try:
            return call(argv)
        except (ValueError, AttributeError, KeyError, flags.Error, OSError) as error:
            if "--debug" in sys.argv:
                raise
            text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            sys.exit(f"error: {' '.join(text.split())} (--debug shows where)")

    return wrapped
