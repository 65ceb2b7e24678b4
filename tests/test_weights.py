# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.models import functional, t5

CONFIG = c.T5Config(vocab_size=8, width=4, num_layers=1, num_heads=1, head_dim=4, mlp_dim=4)


@pytest.fixture(scope="module")
def params():
    return jax.jit(functional.build(t5.T5Encoder, CONFIG).init)(jax.random.key(0))


@pytest.mark.parametrize("dtype, atol", [("float32", 0), ("float16", 1e-2)])
def test_save_and_load_round_trip(params, tmp_path, dtype, atol):
    weights.save(tmp_path / "w", "t5", CONFIG, params, dtype=dtype, files={"note.txt": b"hi"})
    config, loaded = weights.load(str(tmp_path / "w"), kind="t5")
    assert config == CONFIG and (tmp_path / "w" / "note.txt").read_text() == "hi"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), loaded, params)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(loaded))


def test_save_is_complete_or_absent(params, tmp_path, monkeypatch):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match="must not exist"):
        weights.save(tmp_path / "taken", "t5", CONFIG, params, dtype="float32")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(tmp_path / "w", "t5", CONFIG, params, dtype="float32")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_load_refuses_what_it_cannot_read(params, tmp_path):
    with pytest.raises(ValueError, match="nowhere must exist"):
        weights.load("nowhere")
    weights.save(tmp_path / "w", "t5", CONFIG, params, dtype="float32")
    with pytest.raises(ValueError, match="must hold a vae, got a t5"):
        weights.load(str(tmp_path / "w"), kind="vae")
    (tmp_path / "w" / "params.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="must hold config.json and params.safetensors"):
        weights.load(str(tmp_path / "w"))
    (tmp_path / "w" / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ValueError, match="names format None"):
        weights.load(str(tmp_path / "w"))


def test_overlay_reports_fresh_and_refuses_strangers(params):
    part = {"norm": {"scale": np.full(4, 2.0, np.float32)}}
    merged, fresh = weights.overlay(params, part, source="base")
    np.testing.assert_array_equal(merged["norm"]["scale"], part["norm"]["scale"])
    assert "embed/table" in fresh and "norm/scale" not in fresh
    with pytest.raises(ValueError, match=r"base must fit the model: 1 parameters do not.*wings"):
        weights.overlay(params, {"wings": np.zeros(2)}, source="base")
    with pytest.raises(ValueError, match=r"norm/scale \(5,\)"):
        weights.overlay(params, {"norm": {"scale": np.zeros(5)}}, source="base")


@pytest.mark.parametrize("kind", ["t5", "llm", "vae", "mimir"])
def test_shipped_weights_fit_their_presets(kind):
    folder = {"mimir": "base"}.get(kind, kind)
    config, params = weights.load(f"package:tiny/{folder}", kind=kind)
    expected = {"t5": c.TINY_T5, "llm": c.TINY_LLM, "vae": c.TINY_VAE}
    if kind == "mimir":
        assert config.dit == c.TINY_DIT and set(params) == {"dit"}
    else:
        assert config == expected[kind]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))
