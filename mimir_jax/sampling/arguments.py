# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Arguments of a pipeline's call: what they stand for, and contradictions between them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args, get_type_hints

import jax

from mimir_jax.config import SamplerConfig
from mimir_jax.diffusion import samplers
from mimir_jax.errors import require
from mimir_jax.systems import base

Shape = tuple[int, ...]


class Text(NamedTuple):
    """A prompt, as words or as features.

    Attributes:
        words: One text, which stands for all prompts, or one per prompt.
        features: What `Pipeline.encode_prompt` returns.
    """

    words: str | Sequence[str] | None
    features: Any

    def listed(self, prompts: int, default: str | None = "") -> list[str | None]:
        """Returns one text per prompt, `default` where there are none."""
        if self.words is None:
            return [default] * prompts
        return [self.words] * prompts if isinstance(self.words, str) else list(self.words)

    def shape(self, system: base.DiffusionSystem, prompts: int) -> Shape | list[Shape]:
        """Returns the shape of its features; one text stands for all `prompts`."""
        if self.features is not None:
            return _shape(self.features)
        rows = prompts if self.words is None or isinstance(self.words, str) else len(self.words)
        return _shape(system.feature_spec(rows))


def count_prompts(system: base.DiffusionSystem, text: Text, negative: Text | None) -> int:
    """Returns the number of prompts.

    Args:
        system: Says what features look like.
        text: The prompt.
        negative: The negative prompt; None without guidance, which ignores it.

    Raises:
        InputError: for words and features that contradict each other.
    """
    require(
        (text.words is None) != (text.features is None),
        "one of prompt and prompt_embeds must be given, got "
        f"{'neither' if text.words is None else 'both'}; pass one",
    )
    shape = text.shape(system, 1)
    rows = _rows(shape)
    require(
        rows > 0 and _matches(shape, _shape(system.feature_spec(1))),
        f"prompts must be at least one, as states {_describe(system)}, got shape {shape}; pass a "
        "text or what encode_prompt returns",
    )
    if negative is not None:
        require(
            negative.words is None or negative.features is None,
            "one of negative_prompt and negative_prompt_embeds must be left out, got both; pass "
            "one",
        )
        other = negative.shape(system, rows)
        require(
            other == shape,
            f"the negative prompt must have the shape {shape} of the prompt, got {other}; pass as "
            "many negative prompts as prompts, or states that encode_prompt returns",
        )
    return rows


def check_choices(num_videos_per_prompt: int, output: str) -> None:
    """Raises `InputError` for values that are none of the choices."""
    require(
        num_videos_per_prompt >= 1,
        f"num_videos_per_prompt must be at least 1, got {num_videos_per_prompt}; raise it",
    )
    require(
        output in ("video", "latent"),
        f"output must be 'video' or 'latent', got {output!r}; choose one",
    )


def guidance(cfg: SamplerConfig, scale: float | None, dynamic: str | None) -> SamplerConfig:
    """Returns `cfg` with one scale and its dynamics; up to scale 1 nothing is guided."""
    known = get_args(get_type_hints(SamplerConfig)["dynamic_guidance"])
    require(
        dynamic is None or dynamic in known,
        f"dynamic_guidance must be one of {', '.join(known)}, got {dynamic!r}; choose one",
    )
    scale = cfg.guidance_scale if scale is None else float(scale)
    dynamic = cfg.dynamic_guidance if dynamic is None else dynamic
    if scale <= 1.0:
        scale, dynamic = 1.0, "off"
    one = {"guidance_scale": scale, "image_guidance_scale": None}
    return dataclasses.replace(cfg, **one, dynamic_guidance=dynamic)


def with_steps(sampler: samplers.Sampler, num_steps: int | None) -> samplers.Sampler:
    """Returns the sampler with another number of steps.

    Raises:
        InputError: for a number that its schedule or its other options forbid.
    """
    if num_steps is None:
        return sampler
    most = sampler.schedule.config.max_steps
    require(
        1 <= num_steps <= most,
        f"num_inference_steps must be within 1..{most}, got {num_steps}; choose another",
    )
    sampler = dataclasses.replace(sampler, num_steps=num_steps)
    sampler.coefficients()
    return sampler


def latent_shape(
    system: base.DiffusionSystem,
    default: Sequence[int],
    rows: int,
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Shape:
    """Returns the shape (b, t, h, w, c) of the latents of videos of a size, without padding.

    Args:
        system: Makes them.
        default: Frames, height and width where one is not given.
        rows: Number of videos.
        num_frames: Frames of each.
        height: Pixel rows.
        width: Pixel columns.

    Raises:
        InputError: for a size that the networks cannot make.
    """
    given = (num_frames, height, width)
    size = [other if one is None else one for one, other in zip(given, default, strict=True)]
    system.check_size(*size, names=("num_frames", "height", "width"))
    return (rows, *system.codec.latent_shape(*size))


def latent_shape_of(
    system: base.DiffusionSystem,
    given: Shape,
    rows: int,
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Shape:
    """Returns the latent shape, without padding, of videos that start from noise of shape `given`.

    Args:
        system: Makes them.
        given: Shape of the noise (b, t, h, w, c), padding included.
        rows: Number of videos.
        num_frames: Frames of each, which says how much is padding. By default it is as little as
            leaves frames that the codec returns whole.
        height: Pixel rows, if they must agree.
        width: Pixel columns, likewise.

    Raises:
        InputError: for noise that does not fit the networks or the other sizes.
    """
    codec = system.codec
    require(
        len(given) == 5 and given[0] == rows,
        f"latents must have shape (b, t, h, w, c) with {rows} rows, one a video, got {given}; draw "
        "as many",
    )
    system.check_latents(given)
    for name, size, latent in (("height", height, given[2]), ("width", width, given[3])):
        implied = latent * codec.spatial_compression
        require(
            size in (None, implied),
            f"{name} must be the {implied} of latents {given}, got {size}; leave it out",
        )
    if num_frames is not None:
        codec.check_frames(num_frames, "num_frames")
        kept = codec.latent_shape(num_frames, 1, 1)[0]
        padded = system.padded_frames(kept)
        require(
            padded == given[1],
            f"latents must have {padded} frames for num_frames={num_frames}, got {given[1]}; "
            "leave num_frames out",
        )
    else:
        whole = codec.whole_latents(given[1])
        kept = whole if system.padded_frames(whole) == given[1] else given[1]
    return (rows, kept, *given[2:])


def check_noise(
    sampler: samplers.Sampler,
    shape: Shape,
    latents: Any | None,
    noise: Any | None,
    key: jax.Array | None,
) -> None:
    """Raises `InputError` for noise of another shape, or none where a key must draw it.

    Args:
        sampler: Takes the steps.
        shape: Shape of the latents, padding included.
        latents: Noise to start from.
        noise: Noise of every step.
        key: Draws what is not given.
    """
    expected = (len(sampler.times()), *shape)
    require(
        noise is None or sampler.stochastic,
        f"noise must be left out with {type(sampler).__name__}, which draws none; leave it out",
    )
    require(
        noise is None or noise.shape == expected,
        f"noise must have the shape {expected}, got {None if noise is None else noise.shape}; "
        "give it one clip per step",
    )
    drawn = latents is None or (sampler.stochastic and noise is None)
    require(
        key is not None or not drawn,
        "key must be a random key where noise is drawn, got None; pass jax.random.key(0)",
    )


def _shape(features: Any) -> Shape | list[Shape]:
    """Returns the shape of an array, or those of all arrays in a tree."""
    shapes = [tuple(x.shape) for x in jax.tree.leaves(features)]
    return shapes[0] if len(shapes) == 1 else shapes


def _rows(shape: Shape | list[Shape]) -> int:
    first = shape[0] if isinstance(shape, list) else shape
    return first[0] if first else 0


def _matches(shape: Shape | list[Shape], spec: Shape | list[Shape]) -> bool:
    """Whether features have the dimensions of `spec`; batch and length may differ."""
    shapes, specs = (x if isinstance(x, list) else [x] for x in (shape, spec))
    return len(shapes) == len(specs) and all(
        len(a) == len(b) and a[_fixed(b) :] == b[_fixed(b) :]
        for a, b in zip(shapes, specs, strict=True)
    )


def _fixed(shape: Shape) -> int:
    """Returns where the fixed dimensions of a feature begin: after batch and length, if any."""
    return min(2, len(shape) - 1)


def _describe(system: base.DiffusionSystem) -> str:
    shape = _shape(system.feature_spec(1))
    shapes = shape if isinstance(shape, list) else [shape]
    names = [", ".join(["b", "l"][: _fixed(x)] + [str(n) for n in x[_fixed(x) :]]) for x in shapes]
    return " and ".join(f"({name})" for name in names)
