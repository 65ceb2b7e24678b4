# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""One module per step: what it measures of a clip, and the rules that decide."""
