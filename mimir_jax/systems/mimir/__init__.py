# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir (arXiv 2412.03085): an LLM beside T5 conditions a video transformer."""
