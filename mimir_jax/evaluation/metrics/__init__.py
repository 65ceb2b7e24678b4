# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of features that networks extract from clips: pure functions of arrays."""
