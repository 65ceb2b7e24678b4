# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""LLaVA: images and text into one decoder (arXiv 2304.08485, 2310.03744)."""
