# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot (arXiv 2412.04432): a tokenizer of clips and its de-tokenizer, trained by denoising."""
