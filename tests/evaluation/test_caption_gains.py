# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The captions suite: losses with captions in each wording and without any."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import systems
from mimir_jax.config import bridge
from mimir_jax.data.toyworld import renderer, sampling, wording
from mimir_jax.errors import InputError
from mimir_jax.evaluation import checkpoints
from mimir_jax.evaluation.config import WORDINGS, CaptionsEvalConfig
from mimir_jax.evaluation.suites import captions
from tests import runs


def test_gains_are_paired_by_clip():
    base = np.array([1.0, 2.0, 3.0, 4.0])
    told = captions.measure_gains({"narrow": base - 0.5, "wide": base + 0.1, captions.NULL: base})
    assert set(told) == {"narrow", "wide"}
    assert told["narrow"] == pytest.approx({"gain": 0.5, "low": 0.5, "high": 0.5})
    assert told["wide"]["gain"] == pytest.approx(-0.1)
    losses = {"narrow": {"t0": 0.25, "t1": 0.5}, captions.NULL: {"t0": 0.5, "t1": 1.0}}
    lines = captions.format_table(losses, {"narrow": told["narrow"]}).splitlines()
    assert lines[1].split()[:5] == ["narrow", "0.2500", "0.5000", "0.3750", "0.5000"]
    assert lines[2].split() == ["none", "0.5000", "1.0000", "0.7500", "-"]


def test_losses_are_those_of_the_system(mimir_run, tmp_path, monkeypatch):
    """Also with two scenes, which the devices of a mesh do not divide."""
    (tmp_path / "config.json").write_text(bridge.to_json(mimir_run))
    system = systems.make_system(mimir_run)
    leaves, tree = jax.tree.flatten(system.model.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, drawn)
    monkeypatch.setattr(checkpoints, "load_params", lambda *args: params)
    config = CaptionsEvalConfig(checkpoint=str(tmp_path), start=True, scenes=2, frames=9)
    report = captions.evaluate(config)
    found = json.loads((report.folder / "results.json").read_text())
    assert set(found["told"]) == set(WORDINGS)

    scenes = [sampling.sample(0, "heldout", n, "varied") for n in range(2)]
    videos = np.stack([renderer.render(scene, 9, 32, 32) for scene in scenes])
    encoder = systems.make_encoder(mimir_run, system)
    losses = {}
    for name in WORDINGS:
        texts = [wording.caption(scene, name, n).text for n, scene in enumerate(scenes)]
        batch = jax.device_put(encoder.encode_clips({"video": videos, "caption": texts}))
        losses[name] = [float(system.band_loss(params, batch, band)) for band in range(2)]
        assert [*found["losses"][name].values()] == pytest.approx(losses[name], rel=1e-4)
    assert losses["narrow"] != losses["wide"]
    nothing = jax.tree.map(jnp.zeros_like, batch.features)
    condition = system.condition(params, system.draw_features(nothing), jnp.ones(2, bool))
    other = system.condition(params, system.draw_features(batch.features), jnp.ones(2, bool))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), condition, other))
    null = system.band_errors(params, batch, 0, null=True)
    assert [*found["losses"][captions.NULL].values()][0] == pytest.approx(
        float(null.mean()), rel=1e-4
    )
    assert abs(null.mean() - losses["reserved"][0]) > 1e-6


def test_other_runs_are_one_line(tmp_path):
    (tmp_path / "config.json").write_text(bridge.to_json(runs.vae_run()))
    config = CaptionsEvalConfig(checkpoint=str(tmp_path), start=True, variety="single", scenes=1)
    with pytest.raises(InputError, match="--checkpoint must be a run that generates videos from "):
        captions.evaluate(config)
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        CaptionsEvalConfig(checkpoint="x", frames=0)
