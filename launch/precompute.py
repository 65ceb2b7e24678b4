# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Precomputes features: the command `mimir-jax precompute`."""

from mimir_jax.cli import main

if __name__ == "__main__":
    main.script(config="configs/mimir.py")
