# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of a perceiver resampler inside the checkpoints of Divot."""

from mimir_jax.weights.rules import BATCHED, Rule, in_blocks, linear, norm


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
