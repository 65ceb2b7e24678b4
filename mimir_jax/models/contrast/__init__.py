# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP's objective on a vision transformer and a frozen text encoder."""
