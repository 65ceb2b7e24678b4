# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The interface through which features condition the video transformer.

    frozen encoders -> features -> conditioner -> Condition -> DiT.denoise

A conditioner turns the features of frozen encoders into a `Condition`: tokens that join the
sequence of the DiT, a mask of the tokens to attend to and, for image-to-video models, the latents
of the image. Its null rule defines the condition of the unconditional branch. Mimir's fuser and
stabilizer are two conditioners whose tokens `concatenate` joins.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mimir_jax.errors import require

Leaf = jax.Array | np.ndarray | jax.ShapeDtypeStruct
"""A device array, a host array of the data loader, or the shape and dtype of one."""

_T = TypeVar("_T", bound=type)


def _register(cls: _T) -> _T:
    """Makes a dataclass a pytree whose leaves may be anything (shardings, specs, None)."""
    names = [field.name for field in dataclasses.fields(cls)]

    def flatten_with_keys(node):
        return [(jax.tree_util.GetAttrKey(n), getattr(node, n)) for n in names], None

    def flatten(node):
        return [getattr(node, n) for n in names], None

    def unflatten(_, leaves):
        node = object.__new__(cls)  # past __init__, whose annotations the tests enforce
        for name, leaf in zip(names, leaves, strict=True):
            object.__setattr__(node, name, leaf)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


@_register
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TextFeatures:
    """Features of a batch of captions from the frozen text encoders.

    Both sequences are padded or truncated on the right to the same length, because the fuser adds
    them position by position (M-U4). The last three fields are None for a model without an LLM.

    Attributes:
        t5: T5 states; pads included, as the base model attends to them.
        t5_mask: True at caption tokens, False at pads.
        llm: LLM states of the caption, of its sampled answer, or both (M-U3).
        llm_mask: True at LLM tokens, False at pads; None where there are no pads.
        instructions: One LLM state per instruction prompt (M-U12, M-U13).
    """

    t5: Float[Leaf, "b n d_t5"]
    t5_mask: Bool[Leaf, "b n"]
    llm: Float[Leaf, "b n d_llm"] | None = None
    llm_mask: Bool[Leaf, "b n"] | None = None
    instructions: Float[Leaf, "b i d_llm"] | None = None


@_register
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PromptFeatures:
    """Features of a batch of prompts with images from a frozen multimodal LLM (VIMI).

    Attributes:
        states: States of all positions, zero at pads.
        mask: True at tokens of the prompt, images included; False at pads.
        t5: T5 states of the caption, pads included; None for a model that reads none.
        reference_latents: Scaled latents of the reference images, one frame each; None for a model
            that reads none.
        reference_mask: True at reference images, False where a prompt has fewer; None likewise.
        first_frame: Scaled latents of the first frame, zero where a prompt has none; None for a
            transformer that reads none behind the noisy latents.
    """

    states: Float[Leaf, "b l d"]
    mask: Bool[Leaf, "b l"]
    t5: Float[Leaf, "b n d_t5"] | None = None
    reference_latents: Float[Leaf, "b p h w c"] | None = None
    reference_mask: Bool[Leaf, "b p"] | None = None
    first_frame: Float[Leaf, "b 1 h w c"] | None = None


@_register
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Condition:
    """What conditions the DiT on each row.

    Attributes:
        tokens: Text input of the DiT, of width `dit.text_width`.
        mask: True where the DiT may attend. None means everywhere, the rule of CogVideoX; attention
            is then compiled without a mask, which it is not for an array of True.
        image_latents: Latents that follow the noisy ones along the channels, for image-to-video
            models (`dit.in_channels` counts both); those of the first frames alone may be given.
            None for text-to-video models, and where an image-to-video model gets no image.
        ofs: Value of the `ofs` embedding of 1.5 image-to-video models; None takes `dit.OFS`.
        reference_latents: Clean latents of reference images, which stand in the sequence as frames
            before the clip; None for none.
        reference_mask: True at those to attend to; given with `reference_latents`.
    """

    tokens: Float[Leaf, "b l d"]
    mask: Bool[Leaf, "b l"] | None = None
    image_latents: Float[Leaf, "b t h w c"] | None = None
    ofs: Float[Leaf, " b"] | None = None
    reference_latents: Float[Leaf, "b p h w c"] | None = None
    reference_mask: Bool[Leaf, "b p"] | None = None


class Conditioner(Protocol):
    """Any module that maps features to a `Condition`.

    Contract:

    1. Shapes depend on the features' shapes only, so conditional and null rows share one batch.
    2. A row with `drop` True gets the null condition of the conditioner, which depends on
       parameters and shapes alone, never on the features of that row; `drop=None` drops no row.
    3. The null condition is part of the model, not of the data. For the other convention, which
       encodes the empty caption, pass the features of "" and drop nothing.
    """

    def __call__(self, features: Any, drop: Bool[Array, " b"] | None = None) -> Condition:
        """Returns the condition of every row, or its null condition where `drop` is True."""
        ...


def zero_rows(x: Float[Array, "b l d"], drop: Bool[Array, " b"] | None) -> Float[Array, "b l d"]:
    """Sets the rows of `x` with `drop` True to exact zeros, NaNs included."""
    return x if drop is None else jnp.where(drop[:, None, None], jnp.zeros_like(x), x)


_SINGLE = ("image_latents", "ofs", "reference_latents", "reference_mask")


def concatenate(*conditions: Condition) -> Condition:
    """Joins the tokens of conditions in the order given.

    Raises:
        InputError: if more than one has image latents, an `ofs` or latents of reference images.
    """
    tokens = jnp.concatenate([c.tokens for c in conditions], axis=1)  # (b, l, d)
    mask = None
    if any(c.mask is not None for c in conditions):
        whole = [jnp.ones(c.tokens.shape[:2], bool) for c in conditions]
        masks = [a if c.mask is None else c.mask for a, c in zip(whole, conditions, strict=True)]
        mask = jnp.concatenate(masks, axis=1)
    one = {name: _only(name, conditions) for name in _SINGLE}
    return Condition(tokens=tokens, mask=mask, **one)


def _only(name: str, conditions: Sequence[Condition]) -> Any:
    """Returns the field `name` of the one condition that has it, or None."""
    found = [value for c in conditions if (value := getattr(c, name)) is not None]
    require(
        len(found) < 2,
        f"at most one of the conditions to join may have {name}, got {len(found)}; leave it out "
        "of the others",
    )
    return found[0] if found else None
