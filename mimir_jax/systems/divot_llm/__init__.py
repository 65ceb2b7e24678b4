# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's LLM (arXiv 2412.04432): comprehension and generation of clips by one network."""
