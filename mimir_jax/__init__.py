# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir, VIMI and Divot in JAX: video diffusion conditioned by language models."""

__version__ = "0.1.0"
