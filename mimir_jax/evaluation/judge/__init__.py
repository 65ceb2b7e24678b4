# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The exact judge of Toyworld clips: frames to objects, to what happened, against a prompt."""
