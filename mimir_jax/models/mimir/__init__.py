# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The networks of Mimir (arXiv 2412.03085): token fuser, semantic stabilizer, and their model."""
