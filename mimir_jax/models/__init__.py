# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Pure networks; nothing in here reads files, devices or clocks."""
