# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Imports of transformers, of which tokenizers and tables of configs are used.

Where PyTorch is installed, transformers imports it too, which takes seconds. Programs that only
train and sample with us do without; others may need it for networks of transformers itself.
"""

import contextlib
import os
import sys
import types
from collections.abc import Iterator

_leaves_out_torch = False


def leave_out_torch() -> None:
    """Lets transformers take PyTorch as not installed in this process; we can import it still."""
    global _leaves_out_torch
    _leaves_out_torch = True


def transformers() -> types.ModuleType:
    """Returns the library; importing it takes seconds, so it is asked for where it is used."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # of PyTorch's absence
    with _without_torch() if _leaves_out_torch else contextlib.nullcontext():
        import transformers

        transformers.utils.is_torch_available()  # which it remembers
    return transformers


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # Python finds no such module then
    try:
        yield
    finally:
        del sys.modules["torch"]
