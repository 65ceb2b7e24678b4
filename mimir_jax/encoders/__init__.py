# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frozen networks as encoders: prompts, images and clips to features and latents."""
