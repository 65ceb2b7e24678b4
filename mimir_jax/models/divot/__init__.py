# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot (arXiv 2412.04432): an LLM that reads and writes the continuous tokens of clips."""
