# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal 3D VAE of CogVideoX, and the VAE of Stable Diffusion for frames."""
