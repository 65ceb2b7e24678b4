# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrast of frames and captions (CLIP, arXiv 2103.00020), which gives a tokenizer its ViT."""
