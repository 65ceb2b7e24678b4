# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of Divot's LLM in miniature: a random tokenizer of clips, the shipped one of text."""

import dataclasses

import jax
import numpy as np

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.config import bridge
from mimir_jax.models import functional
from mimir_jax.models.divot import tokenizer
from mimir_jax.weights import native, runs, tensors

TOKENIZER = c.DivotTokenizerConfig(
    frame_size=16,
    pool=2,
    vit=c.ViTConfig(
        image_size=16, patch=4, width=16, num_layers=1, num_heads=2, mlp_dim=16,
        activation="gelu", post_norm=False,
    ),
    temporal=c.TemporalConfig(width=16, num_layers=1, num_heads=2, mlp_dim=16),
    space_time=c.SpaceTimeConfig(width=16, num_layers=1, num_heads=2, mlp_dim=16),
    resampler=c.ResamplerConfig(
        in_width=16, out_width=6, num_queries=4, width=16, num_layers=1, num_heads=2, head_dim=8,
        mlp_dim=16,
    ),
)  # fmt: skip

MODEL = c.AgentConfig(
    llm=c.LLMConfig(
        vocab_size=2432 + 6 + 4,
        width=20,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=24,
        query_block=4,
    ),
    token_width=6,
    num_components=2,
    denoiser_width=16,
    denoiser_layers=1,
)


def write_tokenizer(folder):
    """Writes a tokenizer of clips whose tokens depend on the clip."""
    params = jax.jit(functional.build(tokenizer.DivotTokenizer, TOKENIZER).init)(jax.random.key(0))
    rng = np.random.default_rng(0)  # at the start, the temporal transformer returns zeros
    params = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype("f"), params)
    weights.save(folder, "divot_tokenizer", TOKENIZER, params)
    return folder


def run(tokenizer_folder, *, model=None, **system):
    """Returns the config of a run of six steps."""
    fields = dict(
        model=dataclasses.replace(MODEL, **(model or {})),
        tokenizer_path="package:tiny/llm",
        clip_tokenizer_path=str(tokenizer_folder),
        clip_frames=9,
        max_length=64,
        comprehension=1.0,
        heldout_clips=4,
        examples=2,
        answer_length=8,
    )
    return c.TrainConfig(
        system=c.DivotLLMSystemConfig(**{**fields, **system}),
        data=c.DataConfig(
            toyworld=c.ToyworldConfig(num_scenes=32, caption_style="short", variety="single"),
            frames=9,
            height=16,
            width=16,
        ),
        optimizer=c.OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        steps=6,
        batch_size=8,
        log_every=1,
    )


def prefer(params, token):
    """Returns parameters whose LLM likes a token best after any other."""
    llm = params["llm"]
    kernel = llm["head"]["kernel"].at[:, token].set(llm["norm"]["scale"])
    table = llm["embed"]["table"] + 1.0  # so that states have a common part
    return {**params, "llm": {**llm, "embed": {"table": table}, "head": {"kernel": kernel}}}


def write_run(folder, config, params):
    """Writes a run as one that was released: its config and weights."""
    (folder / runs.WEIGHTS).mkdir(parents=True)
    (folder / runs.CONFIG_FILE).write_text(bridge.to_json(config))
    flat = {path: tensors.of_array(np.asarray(x)) for path, x in weights.flatten(params).items()}
    kind, model = config.system.kind, config.system.model
    native.write(folder / runs.WEIGHTS, kind, model, flat, manifest=lambda: {"step": 3})
    return folder
