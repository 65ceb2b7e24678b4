# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The embedded dataset: scenes of coloured shapes with exact captions."""
