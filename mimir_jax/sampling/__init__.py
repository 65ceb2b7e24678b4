# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos from requests, their files and gallery, and descriptions of videos."""
