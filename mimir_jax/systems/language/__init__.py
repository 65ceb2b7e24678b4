# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Small text models, which stand in for T5 and Phi-3.5 in the embedded default."""
