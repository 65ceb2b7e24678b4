# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The video diffusion transformer of CogVideoX (arXiv 2408.06072), 1.0 and 1.5, text and image.

Text and video tokens form one sequence, text first, with full attention and shared weights; only
the adaptive norms tell the two apart. The sequence stays whole from the first block to the last:
each token selects the modulation of its kind, so no block slices or joins activations.

Start of training: modulation linears and the output projection are zero, so every block begins as
the identity and the model predicts zero; the learned position table of 5B-I2V begins as the sin-cos
table of the 2B model.
"""

import math

import einops
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import DiTConfig
from mimir_jax.errors import require
from mimir_jax.models import block_cache, functional, layers, rope
from mimir_jax.models import condition as conditioning
from mimir_jax.models.attention import kernels
from mimir_jax.models.attention import video as video_lib
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel import context

OFS = 2.0
"""The `ofs` value of every released 1.5 image-to-video sample, used when none is given."""


class AdaptiveNorm(nnx.Module):
    """LayerNorm with a shift and scale (and gate) for text tokens and for video tokens.

    The linear puts out `shift, scale, gate` of video, then of text, each as wide as the model.
    """

    def __init__(self, cfg: DiTConfig, *, rngs: Rngs):
        self.linear = layers.Linear(
            cfg.time_width,
            6 * cfg.width,
            axes=("embed", "mlp"),
            init=layers.zeros,
            rngs=rngs,
            dtype=cfg.dtype,
        )
        self.norm = layers.LayerNorm(cfg.width, eps=cfg.norm_eps, rngs=rngs)
        self.dtype = cfg.dtype

    def __call__(
        self, x: Float[Array, "b s d"], emb: Float[Array, "b e"], is_text: Bool[Array, " s"]
    ) -> tuple[Float[Array, "b s d"], Float[Array, "b s d"]]:
        """Returns the modulated norm of `x` and the gate of each token."""
        parts = self.linear(jax.nn.silu(emb)).astype(jnp.float32)
        video, text = einops.rearrange(parts, "b (n part d) -> n part b 1 d", n=2, part=3)
        shift, scale, gate = (
            jnp.where(is_text[None, :, None], *pair) for pair in zip(text, video, strict=True)
        )  # (b, s, d) each, fused into what reads them
        y = self.norm(x) * (1.0 + scale) + shift
        return y.astype(self.dtype), gate.astype(self.dtype)


class Block(nnx.Module):
    """Joint attention and feed-forward, each behind an adaptive norm and a gate."""

    def __init__(self, cfg: DiTConfig, *, rngs: Rngs):
        self.norm1 = AdaptiveNorm(cfg, rngs=rngs)
        self.attention = video_lib.JointAttention(cfg, rngs=rngs)
        self.norm2 = AdaptiveNorm(cfg, rngs=rngs)
        self.mlp = layers.Mlp(cfg.width, cfg.mlp_ratio * cfg.width, rngs=rngs, dtype=cfg.dtype)

    def __call__(
        self,
        x: Float[Array, "b s d"],
        emb: Float[Array, "b e"],
        is_text: Bool[Array, " s"],
        rotary: rope.Rotary | None,
        text_mask: kernels.TextMask | None,
        pad: int,
    ) -> Float[Array, "b s d"]:
        """Runs both residual sub-layers."""
        y, gate = self.norm1(x, emb, is_text)
        x = x + gate * self.attention(y, rotary, text_mask, pad)
        y, gate = self.norm2(x, emb, is_text)
        x = x + gate * self.mlp(y)
        return context.constrain(x, "act_batch", "act_length", "act_embed")


class Head(nnx.Module):
    """Two norms, the second modulated by the time embedding, and the output projection."""

    def __init__(self, cfg: DiTConfig, out_dim: int, *, rngs: Rngs):
        zero = {"init": layers.zeros, "rngs": rngs, "dtype": cfg.dtype}
        self.norm_final = layers.LayerNorm(cfg.width, eps=cfg.norm_eps, rngs=rngs)
        self.linear = layers.Linear(cfg.time_width, 2 * cfg.width, axes=("embed", "mlp"), **zero)
        self.norm = layers.LayerNorm(cfg.width, eps=cfg.norm_eps, rngs=rngs)
        self.proj = layers.Linear(cfg.width, out_dim, axes=("embed", None), **zero)

    def __call__(self, x: Float[Array, "b n d"], emb: Float[Array, "b e"]) -> Float[Array, "b n o"]:
        """Projects video tokens to patches."""
        parts = self.linear(jax.nn.silu(emb)).astype(jnp.float32)
        shift, scale = einops.rearrange(parts, "b (part d) -> part b 1 d", part=2)
        return self.proj(self.norm(self.norm_final(x)) * (1.0 + scale) + shift)


class DiT(nnx.Module):
    """CogVideoX transformer: noisy latents and text states in, velocity out."""

    def __init__(self, cfg: DiTConfig, *, rngs: Rngs):
        patch = cfg.patch**2 * (cfg.temporal_patch or 1)
        common = {"rngs": rngs, "dtype": cfg.dtype}
        in_dim = patch * cfg.in_channels
        self.patch = layers.Linear(in_dim, cfg.width, axes=(None, "embed"), **common)
        self.text = layers.Linear(cfg.text_width, cfg.width, axes=("embed", None), **common)
        self.time = layers.TimeEmbedding(cfg.width, cfg.time_width, rngs=rngs)
        self.ofs = (
            None
            if cfg.ofs_width is None
            else layers.TimeEmbedding(cfg.ofs_width, cfg.ofs_width, rngs=rngs)
        )
        self.positions = (
            _learned_positions(cfg, rngs=rngs) if cfg.position == "rope+learned" else None
        )
        self.blocks = functional.Stack(
            lambda *, rngs: Block(cfg, rngs=rngs),
            cfg.num_layers,
            cfg.remat,
            rngs=rngs,
            unroll=cfg.unroll,
        )
        self.head = Head(cfg, patch * cfg.out_channels, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self,
        latents: Float[Array, "b t h w c"],
        text: Float[Array, "b l text_width"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        *,
        text_mask: Bool[Array, "b l"] | None = None,
        ofs: Float[Array, " b"] | None = None,
    ) -> Float[Array, "b t h w c_out"]:
        """Predicts the velocity of `latents`.

        Args:
            latents: Noisy latents, with the image latents behind them in the channels of an
                image-to-video model.
            text: Text states, of any length.
            timestep: Diffusion step of each sample, 0..999.
            text_mask: True at the text tokens to attend to; None attends to all, padding included,
                as CogVideoX was trained.
            ofs: Value of the `ofs` embedding of 1.5 image-to-video models, `OFS` when None.

        Raises:
            InputError: for sizes that the patches or the position code do not allow.
        """
        return self._predict(latents, text, timestep, text_mask, ofs)[0]

    def _predict(
        self,
        latents: Array,
        text: Array,
        timestep: Array,
        text_mask: Array | None,
        ofs: Array | None,
        cache: block_cache.BlockCache | None = None,
        reference_latents: Array | None = None,
    ) -> tuple[Float[Array, "b t h w c_out"], block_cache.BlockCache | None]:
        cfg = self.cfg
        grid = token_grid(cfg, latents.shape)
        length, whole, before = text.shape[1], grid, 0
        emb = self._embed_time(timestep, ofs)
        if reference_latents is not None:  # frames of negative positions
            before = token_grid(cfg, reference_latents.shape)[0]
            latents = jnp.concatenate([reference_latents.astype(latents.dtype), latents], axis=1)
            whole = (before + grid[0], *grid[1:])
        x = jnp.concatenate([self.text(text), self.patch(self._patchify(latents))], axis=1)
        x = self._add_positions(x, whole, length, before)  # (b, s, d)
        tokens = x.shape[1]
        pad = sequence_padding(tokens, context.num_shards("act_length"))
        x = jnp.pad(x, ((0, 0), (0, pad), (0, 0))) if pad else x
        x = context.constrain(x, "act_batch", "act_length", "act_embed")
        is_text = jnp.arange(x.shape[1]) < length
        rotary = None
        if cfg.position != "sincos":
            rotary = _rotary(cfg, whole, (length, pad), before)

        def apply(block: Block, x: Array) -> Array:
            return block(x, emb, is_text, rotary, text_mask, pad)

        if cache is None:
            x, _ = self.blocks(lambda block, x, _: (apply(block, x), None), x)
        else:
            x, cache = block_cache.run(self.blocks, apply, x, cache, cfg.num_layers)
        start = length + before * math.prod(grid[1:])
        return self._unpatchify(self.head(x[:, start:tokens], emb), grid), cache

    def denoise(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
    ) -> Float[Array, "b t h w c_out"]:
        """Predicts the velocity of `xt`, with arguments in the order of samplers.

        Args:
            xt: Noisy latents.
            timestep: Diffusion step of each sample, 0..999.
            condition: Text tokens; for an image-to-video model, image latents and `ofs`; latents
                of reference images, as frames before the clip whose positions end at -1.
        """
        latents = with_image(xt, condition.image_latents, self.cfg)
        mask, references = self._mask(condition), condition.reference_latents
        rest = {"ofs": condition.ofs, "reference_latents": references}
        return self._predict(latents, condition.tokens, timestep, mask, **rest)[0]

    def _mask(self, condition: conditioning.Condition) -> Bool[Array, "b l"] | None:
        """Returns the tokens of text and reference images to attend to; None for all."""
        if condition.reference_latents is None:
            return condition.mask
        text = condition.mask
        if text is None:
            text = jnp.ones(condition.tokens.shape[:2], bool)
        each = math.prod(token_grid(self.cfg, condition.reference_latents.shape)[1:])
        return jnp.concatenate([text, jnp.repeat(condition.reference_mask, each, axis=1)], axis=1)

    def denoise_cached(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
        cache: block_cache.BlockCache,
    ) -> tuple[Float[Array, "b t h w c_out"], block_cache.BlockCache]:
        """Predicts as `denoise` does, but for blocks that the cache replaces.

        Args:
            xt: Noisy latents.
            timestep: Diffusion step of each sample, 0..999.
            condition: As in `denoise`.
            cache: What the evaluation before left, at first `block_cache.empty` for
                `sequence_length` tokens.
        """
        latents = with_image(xt, condition.image_latents, self.cfg)
        return self._predict(
            latents, condition.tokens, timestep, condition.mask, condition.ofs, cache
        )

    def _embed_time(self, timestep: Array, ofs: Array | None) -> Float[Array, "b e"]:
        emb = self.time(timestep)
        require(
            ofs is None or self.ofs is not None,
            "ofs needs a model with dit.ofs_width, got None; leave ofs out or set dit.ofs_width",
        )
        if self.ofs is None:
            return emb
        return emb + self.ofs(jnp.full(timestep.shape, OFS) if ofs is None else ofs)

    def _add_positions(
        self, x: Array, grid: rope.Grid, length: int, before: int
    ) -> Float[Array, "b s d"]:
        cfg = self.cfg
        if cfg.position == "sincos":
            table = _sincos(cfg, grid, before)
            table = jnp.pad(table, ((length, 0), (0, 0)))
        elif self.positions is not None:
            text, video = jnp.split(self.positions[...], [cfg.text_length])
            text = jnp.pad(text[:length], ((0, max(0, length - cfg.text_length)), (0, 0)))
            table = jnp.concatenate([text, video])
        else:
            return x
        return x + table[None].astype(x.dtype)

    def _patchify(self, latents: Array) -> Float[Array, "b n p"]:
        return einops.rearrange(
            latents,
            "b (t pt) (h ph) (w pw) c -> b (t h w) (c pt ph pw)",
            pt=self.cfg.temporal_patch or 1,
            ph=self.cfg.patch,
            pw=self.cfg.patch,
        )

    def _unpatchify(self, x: Array, grid: rope.Grid) -> Float[Array, "b t h w c"]:
        t, h, w = grid
        return einops.rearrange(
            x,
            "b (t h w) (c pt ph pw) -> b (t pt) (h ph) (w pw) c",
            t=t,
            h=h,
            w=w,
            pt=self.cfg.temporal_patch or 1,
            ph=self.cfg.patch,
            pw=self.cfg.patch,
        )


def token_grid(cfg: DiTConfig, shape: tuple[int, ...]) -> rope.Grid:
    """Returns the tokens along frames, rows and columns of latents of `shape` (b, t, h, w, c).

    Raises:
        InputError: for channels, or sizes that the patches or the position code do not allow.
    """
    _, *sizes, channels = shape
    require(
        channels == cfg.in_channels,
        f"latents must have dit.in_channels={cfg.in_channels} channels, got {channels}; "
        "image-to-video models take [noisy; image] channels",
    )
    patches = (cfg.temporal_patch or 1, cfg.patch, cfg.patch)
    remedies = ("pad with dit.pad_frames", "crop or resize", "crop or resize")
    for name, size, patch, remedy in zip(
        ("frames", "height", "width"), sizes, patches, remedies, strict=True
    ):
        require(
            size % patch == 0 and size > 0,
            f"latent {name} must be a positive multiple of the patch size {patch}, got {size}; "
            f"{remedy}",
        )
    native = (cfg.sample_frames, cfg.sample_height, cfg.sample_width)
    require(
        cfg.position != "rope+learned" or tuple(sizes) == native,
        f"latents must have the size {native} of the learned position table, got {tuple(sizes)}; "
        "crop or resize, or use a model without the table",
    )
    limit = native[1:]
    require(
        cfg.position == "sincos"
        or cfg.rope_grid == "crop"
        or all(size <= most for size, most in zip(sizes[1:], limit, strict=True)),
        f"latent height and width must be at most {limit} with integer rotary positions, got "
        f"{tuple(sizes[1:])}; raise dit.sample_height and dit.sample_width",
    )
    t, h, w = (size // patch for size, patch in zip(sizes, patches, strict=True))
    return t, h, w


def with_image(
    xt: Float[Array, "b t h w c"], image: Float[Array, "b t_image h w c"] | None, cfg: DiTConfig
) -> Float[Array, "b t h w c2"]:
    """Joins noisy latents with those of an image, as image-to-video models read them.

    The image has its place at the first frames of what the model sees. For 1.5 models that is the
    padding: sampling drops these frames, and training has copies of the first frame there.

    Args:
        xt: Noisy latents, padded.
        image: Latents of the image, of up to as many frames; zeros follow. None has zeros alone,
            the condition of a model that was trained with the image dropped.
        cfg: The model; one that reads no image gets `xt` itself.
    """
    if image is None:
        if cfg.in_channels != 2 * xt.shape[-1]:
            return xt
        image = jnp.zeros_like(xt[:, :0])
    after = xt.shape[1] - image.shape[1]
    image = jnp.pad(image.astype(xt.dtype), ((0, 0), (0, after), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([xt, image], axis=-1)


def sequence_length(cfg: DiTConfig, shape: tuple[int, ...], length: int) -> int:
    """Returns the tokens of `length` text tokens and latents of `shape`, padding included."""
    patches = (cfg.temporal_patch or 1, cfg.patch, cfg.patch)
    tokens = length + math.prod(n // p for n, p in zip(shape[1:4], patches, strict=True))
    return tokens + sequence_padding(tokens, context.num_shards("act_length"))


def padded_frames(frames: int, cfg: DiTConfig) -> int:
    """Returns `frames`, rounded up to what the temporal patches of `cfg` divide (1.5 models)."""
    return frames + -frames % (cfg.temporal_patch or 1)


def pad_frames(latents: Float[Array, "b t h w c"], cfg: DiTConfig) -> Float[Array, "b t2 h w c"]:
    """Prepends copies of the first latent frame up to `padded_frames`, as 1.5 models are trained.

    Pad clean latents, then draw noise of their new size. Sampling starts from the padded size and
    drops as many leading frames before decoding.
    """
    extra = padded_frames(latents.shape[1], cfg) - latents.shape[1]
    return jnp.concatenate([latents[:, :1]] * extra + [latents], axis=1)


def sequence_padding(tokens: int, num_shards: int) -> int:
    """Returns the padding that splits a sequence into `num_shards` equal parts of whole tiles.

    A TPU tile holds 16 rows of 16-bit numbers. The TPU compiler fails on parts that end within a
    tile (`bitcast` of 4,445 rows, libtpu 0.0.42). Short parts, as in tests, skip the tile rule.
    """
    rows = 16 if num_shards > 1 and tokens >= 128 * num_shards else 1
    return -tokens % (num_shards * rows)


def _rotary(cfg: DiTConfig, grid: rope.Grid, around: tuple[int, int], before: int) -> rope.Rotary:
    crop = None
    if cfg.rope_grid == "crop":
        crop = (cfg.sample_height // cfg.patch, cfg.sample_width // cfg.patch)
    options = {"crop": crop, "theta": cfg.rope_theta, "around": around, "first": -before}
    return rope.rotary_3d(grid, cfg.head_dim, **options)


def _sincos(cfg: DiTConfig, grid: rope.Grid, before: int = 0) -> Float[Array, "n d"]:
    return rope.sincos_3d(
        grid,
        cfg.width,
        spatial_scale=cfg.spatial_interpolation,
        temporal_scale=cfg.temporal_interpolation,
        first=-before,
    )


def _learned_positions(cfg: DiTConfig, *, rngs: Rngs) -> nnx.Param:
    """Returns the position table of 5B-I2V: text rows, then video rows at the native size."""
    grid = (
        cfg.sample_frames // (cfg.temporal_patch or 1),
        cfg.sample_height // cfg.patch,
        cfg.sample_width // cfg.patch,
    )

    def init(key: Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike) -> Array:
        table = jnp.pad(_sincos(cfg, grid), ((cfg.text_length, 0), (0, 0)))
        return table.astype(dtype)

    rows = cfg.text_length + grid[0] * grid[1] * grid[2]
    return layers.param((rows, cfg.width), (None, "embed"), init, rngs=rngs)
