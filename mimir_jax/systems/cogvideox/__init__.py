# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CogVideoX (arXiv 2408.06072): T5 conditions a video transformer."""
