# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips and captions: sources, video decoding, buckets, the loader, stored features."""
