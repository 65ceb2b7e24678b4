# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The programs of a run that can be compiled ahead of time; free of JAX."""

from typing import Literal

Program = Literal["train", "sample", "decode"]
