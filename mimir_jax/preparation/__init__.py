# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Work before training: raw footage to clips, cutouts, precomputed features, recipes."""
