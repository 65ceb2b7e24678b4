# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Both towers of CLIP (arXiv 2103.00020)."""
