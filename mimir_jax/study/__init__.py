# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A blind study of videos by people, as in Table 2 of Mimir (arXiv 2412.03085)."""
