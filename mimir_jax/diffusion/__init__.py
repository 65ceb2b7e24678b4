# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules, objectives, guidance and samplers; knows no model."""

from mimir_jax.diffusion.scheduler_config import load_scheduler, save_scheduler
