# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Raw videos to clean clips with captions: the steps of Mimir's Fig. 9."""
