# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Needs of a run, known before it starts: memory, traffic, compilation for other hardware."""
