# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The one trainer: state, optimizer, step, loop, checkpoints, metrics."""
