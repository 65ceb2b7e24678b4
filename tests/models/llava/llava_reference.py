# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Random torch LLaVAs, batches of prompts with images, and what transformers makes of them."""

import dataclasses

import numpy as np
import pytest

from mimir_jax.config import LlavaConfig, LLMConfig, ViTConfig
from tests.models import llm_reference, test_vit

IMAGE_TOKEN = 57
CFG = LlavaConfig(
    vit=ViTConfig(image_size=8, patch=4, width=18, num_layers=3, num_heads=3, mlp_dim=20),
    llm=LLMConfig(
        vocab_size=60,
        width=24,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=6,
        mlp_dim=28,
        norm_eps=1e-5,
    ),
    image_token=IMAGE_TOKEN,
)


def change(cfg, **changes):
    """`cfg` with other fields, those of its decoder under `llm`, those of its tower under `vit`."""
    parts = {
        name: dataclasses.replace(getattr(cfg, name), **changes.pop(name, {}))
        for name in ("vit", "llm")
    }
    return dataclasses.replace(cfg, **parts, **changes)


def build(layout, cfg, seed=0):
    """A random torch model of `cfg` with a decoder in the layout phi3, llama or mistral."""
    torch = pytest.importorskip("torch")
    import transformers

    layers = list(cfg.vision_layers)
    torch.manual_seed(seed)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**test_vit.torch_config(cfg.vit)),
        text_config=llm_reference.config_of(layout, cfg.llm),
        image_token_index=cfg.image_token,
        image_seq_length=cfg.tokens_per_image,
        vision_feature_layer=layers if len(layers) > 1 else layers[0],
        vision_feature_select_strategy="full" if cfg.class_token else "default",
        multimodal_projector_bias=cfg.projector_bias,
    )
    model = transformers.LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn_like(p) * (0.3 if "norm" in name else 0.15))
    return model


def batch(cfg, images, side="right", seed=0):
    """Prompts with so many images in each row: ids, mask and pixel values (n, h, w, 3)."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in images:
        row = list(rng.integers(3, 50, 2))
        for _ in range(number):
            row += [cfg.image_token] * cfg.tokens_per_image + list(rng.integers(3, 50, 3))
        rows.append(row)
    length = max(map(len, rows)) + 1
    ids, mask = np.zeros((len(rows), length), int), np.zeros((len(rows), length), bool)
    for i, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
        ids[i, where], mask[i, where] = row, True
    size = cfg.vit.image_size
    pixels = rng.normal(size=(sum(images), size, size, 3)).astype(np.float32)
    return ids, mask, pixels


def forward(model, ids, mask, pixels):
    """All hidden states and the logits of a torch model."""
    import torch

    with torch.no_grad():
        out = model(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask.astype(int)),
            pixel_values=torch.tensor(pixels).permute(0, 3, 1, 2) if len(pixels) else None,
            output_hidden_states=True,
        )
    return np.stack([h.numpy() for h in out.hidden_states]), out.logits.numpy()
