# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts objects out of clips: the command `mimir-jax cutouts`."""

from mimir_jax.cli import main

if __name__ == "__main__":
    main.script()
