# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention of the video and text transformers, and the kernels that compute it."""
