# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""First phase of VIMI's aligner: tokens that match T5's states of captions, without video."""
