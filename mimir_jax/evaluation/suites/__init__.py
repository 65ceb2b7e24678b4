# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What launch/evaluate.py runs: each suite turns a checkpoint into a folder of results."""
