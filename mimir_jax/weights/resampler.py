# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of a perceiver resampler inside the checkpoints of Divot."""

from collections.abc import Mapping

from mimir_jax.config import ResamplerConfig
from mimir_jax.weights import family
from mimir_jax.weights.rules import BATCHED, Rule, in_blocks, linear, norm
from mimir_jax.weights.tensors import Tensor


def table(prefix: str = "") -> list[Rule]:
    """Returns the rules of a resampler whose tensors begin with `prefix`.

    Divot has one under `image_proj_model.down_sampler.` in its tokenizer, and one under
    `image_proj_model.` in its de-tokenizer.
    """
    attention, mlp = (f"{prefix}layers.{{i}}.{part}" for part in (0, 1))
    blocks = [
        *norm("attention/state_norm", f"{attention}.norm1", bias=True),
        *norm("attention/query_norm", f"{attention}.norm2", bias=True),
        *(r for n in ("q", "kv", "out") for r in linear(f"attention/{n}", f"{attention}.to_{n}")),
        *norm("mlp_norm", f"{mlp}.0", bias=True),
        *linear("up", f"{mlp}.1"),
        *linear("down", f"{mlp}.3"),
    ]
    return [
        Rule("queries", (f"{prefix}latents",), BATCHED),
        *linear("into", f"{prefix}proj_in", bias=True),
        *in_blocks(blocks),
        *linear("out", f"{prefix}proj_out", bias=True),
        *norm("norm", f"{prefix}norm_out", bias=True),
    ]


def infer(tensors: Mapping[str, Tensor], raw: family.Raw, prefix: str) -> ResamplerConfig:
    """Returns the config of a resampler whose tensors begin with `prefix`.

    Args:
        tensors: A checkpoint.
        raw: May state `num_heads`; otherwise heads are 64 wide where that fits, else 16 in number.
        prefix: Beginning of the names.

    Raises:
        InputError: if tensors are missing without which the sizes are unknown.
    """
    sizes, layer = family.Sizes(tensors, prefix), "layers.0"
    inner = sizes.of((f"{layer}.0.to_q.weight", 0), (f"{layer}.0.to_out.weight", 1))
    heads = raw.get("num_heads", inner // 64 if inner % 64 == 0 else 16)
    return ResamplerConfig(
        in_width=sizes.of(("proj_in.weight", 1)),
        out_width=sizes.of(("proj_out.weight", 0), ("proj_out.bias", 0)),
        num_queries=sizes.of(("latents", 1)),
        width=sizes.of(("latents", 2)),
        num_layers=1 + sizes.last("layers."),
        num_heads=heads,
        head_dim=inner // heads,
        mlp_dim=sizes.of((f"{layer}.1.1.weight", 0)),
    )
