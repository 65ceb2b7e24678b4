# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints in Divot's public layout, and what torch makes of them."""

import json

import numpy as np

from mimir_jax.config import LLMConfig, RopeConfig
from tests.models import llm_reference

LLM = LLMConfig(
    vocab_size=150,
    width=28,
    num_layers=2,
    num_heads=6,
    num_kv_heads=2,
    head_dim=6,
    mlp_dim=37,
    sliding_window=160,
    rope=RopeConfig(max_length=512, original_max_length=512),
)
WIDTH, COMPONENTS = 5, 3


def mlp(seed, *sizes):
    """A linear, an exact GELU and a linear of torch."""
    import torch

    torch.manual_seed(seed)
    first, middle, last = sizes
    return torch.nn.Sequential(
        torch.nn.Linear(first, middle), torch.nn.GELU(), torch.nn.Linear(middle, last)
    )


def build(cfg=LLM, width=WIDTH, components=COMPONENTS):
    """The torch modules: LLM, projector, head."""
    outputs = components * (2 * width + 1)
    return {
        "llm": llm_reference.build("mistral", cfg),
        "input_resampler.proj": mlp(1, width, cfg.width, cfg.width),
        "output_resampler.proj": mlp(2, cfg.width, outputs, outputs),
    }


def agent_tensors(modules):
    """Tensors of projector and head by their public names."""
    return {
        f"{part}.{name}": value.detach()
        for part, module in modules.items()
        if part != "llm"
        for name, value in module.state_dict().items()
    }


def write(folder, modules, *, agent=True, extra=None):
    """Writes a public folder, the LLM in several files."""
    import torch

    modules["llm"].save_pretrained(folder / "llm", max_shard_size="20KB")
    if agent:
        (folder / "agent").mkdir()
        torch.save({**agent_tensors(modules), **(extra or {})}, folder / "agent/pytorch_model.bin")
    return folder


def write_config(folder, modules):
    """Writes the config of the LLM alone."""
    (folder / "llm").mkdir(exist_ok=True)
    (folder / "llm/config.json").write_text(json.dumps(modules["llm"].config.to_dict()))


def pairs(roles, block=64, window=None):
    """Which pairs attend, by the rule of the reference: loops over positions."""
    rows, length = roles.shape
    allowed = np.tril(np.ones((length, length), bool))
    if window is not None:
        allowed &= ~np.tril(np.ones((length, length), bool), -window)
    out = np.repeat(allowed[None], rows, axis=0)
    for row in range(rows):
        places = np.flatnonzero(roles[row] == -1)
        for start in places[::block]:
            if start + block <= length:
                out[row, start : start + block, start : start + block] = True
        out[row] &= (roles[row] != 0)[None]
    return out[:, None]


def forward(modules, ids, roles, embeddings=None, block=64, window=None):
    """Final states and logits of torch."""
    seen = pairs(roles, block, window)
    states, logits = llm_reference.forward(
        modules["llm"], None if embeddings is not None else ids, seen, embeddings
    )
    return states[-1], logits


def apply(module, x):
    """What a torch module makes of an array."""
    import torch

    with torch.no_grad():
        return module(torch.tensor(np.asarray(x, np.float32))).numpy()
