# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Images of the objects of real clips, for subject-driven training (VIMI, V-U9)."""
