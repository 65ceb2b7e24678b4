# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VIMI (arXiv 2407.06304): prompts with images, read by a frozen LLM, condition a DiT."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import multimodal
from mimir_jax.encoders import text as text_lib
from mimir_jax.models import condition as condition_lib
from mimir_jax.models import dit, functional, lora
from mimir_jax.models.vimi import model as model_lib
from mimir_jax.systems import base, diffusion


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DrawnPrompts:
    """States of the prompts drawn for each clip, of which training takes one at a time.

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves.

    Attributes:
        states: States of the multimodal LLM (b, prompts, l, d), zero at pads.
        states_mask: True at tokens, images included (b, prompts, l).
        t5: States of T5 of the captions of the prompts (b, prompts, n, d_t5), pads included; None
            for a network that reads none.
        reference_latents: Scaled latents of their reference images (b, prompts, p, h, w, c), zero
            where a prompt has fewer; None likewise.
        reference_mask: True at reference images (b, prompts, p); None likewise.
        first_frame: Scaled latents of their first frames (b, prompts, 1, h, w, c), zero where a
            prompt has none; None for a transformer that reads none.
    """

    states: Any
    states_mask: Any
    t5: Any = None
    reference_latents: Any = None
    reference_mask: Any = None
    first_frame: Any = None


class VimiSystem(diffusion.DiTDiffusion):
    """A video transformer behind an aligner, with T5 or without, or behind a projection."""

    @functools.cached_property
    def model(self) -> functional.Model:
        """The network, with the adapters of `lora` on its DiT."""
        network = functional.build(model_lib.Vimi, self.config.model)
        return lora.adapt(network, self.config.lora, base="dit")

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """VAE and multimodal LLM, and T5 where it is read."""
        cfg, split = self.config, self._run.mesh.shard_frozen
        llava = multimodal.frozen_network(cfg.multimodal, field="multimodal", split=split)
        t5 = text_lib.frozen_networks(cfg.text, use_llm=False, split=split) if cfg.reads_t5 else {}
        return {**super().frozen, "llava": llava, **t5}

    @property
    def request_fields(self) -> frozenset[str]:
        """Prompt and document; in the second stage also images and first frame."""
        images = {"images", "first_frame"} if self.config.stage == "instruct" else set()
        return super().request_fields | images | {"document"}

    def num_tokens(self, bucket: base.Bucket) -> int:
        """Returns the number of prompt and video tokens, those of reference images among them."""
        tokens, count = super().num_tokens(bucket), self.config.reference_latents
        if count:
            shape = self.codec.latent_shape(1, bucket.height, bucket.width)
            grid = dit.token_grid(self.backbone, (1, count, *shape[1:]))
            tokens += math.prod(grid)
        if self.config.model.route != "direct":
            return tokens
        return tokens - self.backbone.text_length + self.config.multimodal.length

    def feature_batch_spec(self, bucket: base.Bucket) -> DrawnPrompts:
        """Returns shape and dtype of the states of all prompts of the clips of `bucket`."""
        cfg = self.config
        rows, widths = (bucket.batch, cfg.prompts_per_clip), cfg.model.aligner
        shape = (*rows, cfg.multimodal.length)
        t5 = None
        if cfg.reads_t5:
            t5 = jax.ShapeDtypeStruct((*rows, cfg.text.length, widths.text_width), jnp.float32)
        references = mask = first_frame = None
        latent = self.codec.latent_shape(1, bucket.height, bucket.width)  # (1, h, w, c)
        if cfg.reference_latents:
            count = (*rows, cfg.reference_latents)
            references = jax.ShapeDtypeStruct((*count, *latent[1:]), jnp.float32)
            mask = jax.ShapeDtypeStruct(count, jnp.bool_)
        if cfg.reads_image:
            first_frame = jax.ShapeDtypeStruct((*rows, *latent), jnp.float32)
        return DrawnPrompts(
            states=jax.ShapeDtypeStruct((*shape, widths.llm_width), jnp.float32),
            states_mask=jax.ShapeDtypeStruct(shape, jnp.bool_),
            t5=t5,
            reference_latents=references,
            reference_mask=mask,
            first_frame=first_frame,
        )

    def draw_features(
        self, features: DrawnPrompts, key: jax.Array | None = None
    ) -> condition_lib.PromptFeatures:
        """Picks one of the prompts of each row: a random one with `key`, else the first."""
        rows, count = features.states_mask.shape[:2]
        picked = jnp.zeros(rows, int)
        if key is not None:
            picked = jax.random.randint(key, (rows,), 0, count)
        taken = jax.tree.map(
            lambda x: jnp.take_along_axis(x, jax.lax.expand_dims(picked, range(1, x.ndim)), axis=1)[
                :, 0
            ],
            features,
        )
        return condition_lib.PromptFeatures(
            states=taken.states,
            mask=taken.states_mask,
            t5=taken.t5,
            reference_latents=taken.reference_latents,
            reference_mask=taken.reference_mask,
            first_frame=taken.first_frame,
        )

    def condition(
        self,
        params: functional.Params,
        features: condition_lib.PromptFeatures,
        drop: Bool[Array, " b"] | None = None,
    ) -> condition_lib.Condition:
        """Returns the tokens of prompts; dropped rows get the null condition (V-U16)."""
        return self.model.condition(params, features, drop)


def make_system(config: TrainConfig) -> VimiSystem:
    """Returns the pure half of a run of VIMI."""
    return VimiSystem(config)
