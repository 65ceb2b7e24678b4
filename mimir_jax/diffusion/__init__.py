# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules, objectives, guidance and samplers; knows no model."""
