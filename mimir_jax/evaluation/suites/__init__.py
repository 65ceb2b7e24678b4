# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The sub-commands of `evaluate`, a module each: `evaluate` turns its config into a report."""
