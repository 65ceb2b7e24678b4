# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The causal 3D VAE of CogVideoX (arXiv 2408.06072)."""
