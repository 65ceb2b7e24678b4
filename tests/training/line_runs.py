# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs of a system that compiles in no time, and what runs leave behind."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from mimir_jax import systems
from mimir_jax.models import functional, layers
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.systems import base
from mimir_jax.training import checkpoint, compiled_step


class Line(nnx.Module):
    """A product with four numbers."""

    def __init__(self, config, *, rngs):
        del config
        self.slope = layers.param((4, 1), ("embed", "mlp"), layers.ones, rngs=rngs)

    def __call__(self, x):
        return x @ self.slope[...]


class Points:
    """Records of four numbers."""

    def __len__(self):
        return 64

    def __repr__(self):
        return "Points()"

    def __getitem__(self, index):
        return {"x": np.random.default_rng(index).normal(size=4).astype(np.float32)}


class LineSystem(base.Defaults):
    """A system that compiles in no time."""

    def __init__(self, config):
        self.config = config.system
        self.model = functional.build(Line, None)
        self.buckets = (base.Bucket(1, 1, 1, config.batch_size),)

    def batch_spec(self, bucket):
        return jax.ShapeDtypeStruct((bucket.batch, 4), np.float32)

    def loss(self, params, batch, key):
        error = self.model.apply(params, batch) - batch.sum(1, keepdims=True) ** 2
        return (error**2).mean(), {}


class LineEncoder:
    """Also the evaluator."""

    def source(self, split):
        return Points()

    def encode(self, records):
        return records["x"]

    def read(self):
        pass

    def evaluate(self, params):
        return {"loss": 0.0}

    def make_examples(self, params):
        return base.Examples()


@pytest.fixture
def line_run(vae_run, replace, monkeypatch):
    """Returns the config of a run of four steps of `LineSystem`."""
    monkeypatch.setattr(systems, "make_system", LineSystem)
    monkeypatch.setattr(systems, "make_encoder", lambda *_: LineEncoder())
    monkeypatch.setattr(systems, "make_evaluators", lambda config, system, encoder: [encoder])
    return replace(vae_run, steps=4)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return {r["step"]: r["loss"] for r in records(folder) if "loss" in r}


def final_state(config, folder):
    """Reads the newest checkpoint of a run onto one device."""
    one = mesh_lib.make_mesh(devices=jax.devices()[:1])
    step = compiled_step.make(config, systems.make_system(config), one)
    return jax.device_get(checkpoint.Checkpointer(folder, keep=2).restore(step.state))
