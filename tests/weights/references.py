# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints of every kind in their published form, and how each is run."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mimir_jax.config import LLMConfig, RopeConfig, T5Config, VAEConfig
from tests.models import dit_reference, llm_reference, test_dit, test_t5, vae_reference

T5 = T5Config(vocab_size=50, width=24, num_layers=2, num_heads=3, head_dim=10, mlp_dim=40)
LLM = LLMConfig(
    vocab_size=50, width=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=10, mlp_dim=40
)
LONG = RopeConfig(
    kind="longrope",
    max_length=64,
    original_max_length=8,
    short_factor=(1.0, 1.1, 1.3),
    long_factor=(1.0, 2.0, 3.0),
)
VAE = VAEConfig(
    latent_channels=3,
    block_channels=(4, 8, 8),
    layers_per_block=1,
    norm_groups=2,
    sample_height=16,
    sample_width=24,
)
IDS = np.random.default_rng(0).integers(3, 50, (2, 11))
MASK = np.arange(11)[None] < np.array([[11], [7]])


@dataclasses.dataclass(frozen=True)
class Reference:
    """A published kind: builds the torch model, and runs it and ours on the same inputs."""

    build: Callable[[], Any]
    theirs: Callable[[Any], np.ndarray]
    ours: Callable[[Any, Any], Any]
    tolerance: float


def make_t5(cfg: T5Config) -> Reference:
    """Returns the encoder of T5 with the sizes of `cfg`."""
    return Reference(
        build=lambda: test_t5.reference(cfg),
        theirs=lambda model: _run_t5(model),
        ours=lambda model, params: model.apply(params, jnp.asarray(IDS), jnp.asarray(MASK)),
        tolerance=1e-5,
    )


def _run_t5(model) -> np.ndarray:
    import torch

    with torch.no_grad():
        out = model(torch.tensor(IDS), attention_mask=torch.tensor(MASK.astype(np.int64)))
    return out.last_hidden_state.numpy()


def make_llm(layout: str, **changes: Any) -> Reference:
    """Returns a decoder in a layout, with `changes` to its config."""
    cfg = dataclasses.replace(LLM, **changes)

    def ours(model, params):
        return model.apply(params, jnp.asarray(IDS), jnp.asarray(MASK)).logits * MASK[..., None]

    return Reference(
        build=lambda: llm_reference.build(layout, cfg),
        theirs=lambda model: llm_reference.forward(model, IDS, MASK)[1] * MASK[..., None],
        ours=ours,
        tolerance=1e-5,
    )


def _dit(variant: str, sizes: tuple[int, int, int]) -> Reference:
    cfg = test_dit.tiny(variant)
    arguments = test_dit.inputs(cfg, sizes)
    ofs = jnp.full((2,), 2.0) if cfg.ofs_width else None
    return Reference(
        build=lambda: dit_reference.make_reference(cfg),
        theirs=lambda model: dit_reference.run_reference(model, cfg, *arguments, ofs=ofs),
        ours=lambda model, params: jax.jit(model.apply)(params, *arguments),
        tolerance=5e-5,
    )


def _vae() -> Reference:
    video = np.random.default_rng(0).uniform(-1, 1, (1, 9, 16, 24, 3)).astype(np.float32)

    def theirs(model):
        import torch

        with torch.no_grad():
            mean = model.encode(torch.tensor(np.moveaxis(video, -1, 1))).latent_dist.mean
            out = model.decode(mean).sample
        return np.moveaxis(out.numpy(), 1, -1)

    return Reference(
        build=lambda: vae_reference.make_reference(VAE),
        theirs=theirs,
        ours=lambda model, params: jax.jit(
            lambda p: model.decode(p, model.encode(p, jnp.asarray(video)).mean)
        )(params),
        tolerance=5e-5,
    )


REFERENCES: dict[str, Reference] = {
    "t5-gated": make_t5(T5),
    "t5-relu": make_t5(dataclasses.replace(T5, activation="relu")),
    "phi3": make_llm("phi3", rope=LONG, head_dim=6),
    "llama": make_llm("llama", tie_embeddings=True),
    "mistral": make_llm("mistral", sliding_window=5),
    "qwen2": make_llm("qwen2", qkv_bias=True, tie_embeddings=True, head_dim=6),
    "qwen3": make_llm("qwen3", qk_norm=True),
    "2b": _dit("2b", (3, 8, 18)),
    "5b": _dit("5b", (5, 12, 10)),
    "5b-i2v": _dit("5b-i2v", (3, 12, 18)),
    "1.5-5b": _dit("1.5-5b", (4, 12, 18)),
    "1.5-5b-i2v": _dit("1.5-5b-i2v", (2, 12, 18)),
    "vae": _vae(),
}


def save(name: str, folder: pathlib.Path, **kwargs: Any) -> Any:
    """Writes the published checkpoint `name` to `folder`; returns the torch model."""
    model = REFERENCES[name].build()
    model.save_pretrained(str(folder), **kwargs)
    return model


def edit_config(folder: pathlib.Path, **changes: Any) -> None:
    """Changes keys of a `config.json`; None as value removes the key."""
    path = folder / "config.json"
    raw = json.loads(path.read_text()) | changes
    raw = {key: value for key, value in raw.items() if key not in changes or value is not None}
    path.write_text(json.dumps(raw))
