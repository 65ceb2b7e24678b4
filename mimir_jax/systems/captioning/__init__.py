# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captioning of images, which joins an image tower with an LLM (LLaVA, arXiv 2310.03744)."""
