# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates a checkpoint or compares results: the command `mimir-jax evaluate`."""

from mimir_jax.cli import main

if __name__ == "__main__":
    main.script()
