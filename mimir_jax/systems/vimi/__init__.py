# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VIMI (arXiv 2407.06304): videos grounded in retrieved and given images."""
