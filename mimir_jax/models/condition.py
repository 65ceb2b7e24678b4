# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The one door through which anything conditions the video transformer.

    frozen encoders -> features -> conditioner -> Condition -> DiT text input

A conditioner turns the features of frozen encoders into a `Condition`: tokens that join the
sequence of the DiT, which of them may be attended to, and, by its null rule, what stands in for
them in the unconditional branch. Mimir's fuser and stabilizer are two conditioners, put one after
the other by `concatenate`; multimodal LLM tokens and clip tokens need nothing else to come in.
"""

import dataclasses
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Leaf = jax.Array | np.ndarray | jax.ShapeDtypeStruct
"""What a feature may be: a device array, a host array of the data loader, or the spec of one."""

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
    """What the frozen text encoders make of a batch of captions.

    Both sequences are padded or truncated on the right to the same length, because the fuser adds
    them position by position (M-U4). A model without an LLM leaves the last three fields None.

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
class Condition:
    """Tokens that condition the DiT.

    Attributes:
        tokens: Rows for the text input of the DiT, of width `dit.text_width`.
        mask: True where the DiT may attend. None means everywhere, the rule of CogVideoX: say so
            with None rather than an array of True, and attention is compiled without a mask.
    """

    tokens: Float[Leaf, "b l d"]
    mask: Bool[Leaf, "b l"] | None = None


class Conditioner(Protocol):
    """Any module that maps features to a `Condition`.

    Contract:

    1. Shapes depend on the features' shapes only, so conditional and null rows share one batch.
    2. A row with `drop` True gets the null condition of the conditioner. It depends on parameters
       and shapes alone, never on the features of that row; `drop=None` drops no row.
    3. Null is part of the model, not of the data. The other convention, in which the empty caption
       is encoded and nothing is dropped, needs no code here: pass the features of "".
    """

    def __call__(self, features: Any, drop: Bool[Array, " b"] | None = None) -> Condition:
        """Returns the condition of every row, or its null condition where `drop` is True."""
        ...


def zero_rows(x: Float[Array, "b l d"], drop: Bool[Array, " b"] | None) -> Float[Array, "b l d"]:
    """Sets the rows of `x` with `drop` True to exact zeros, whatever they hold."""
    return x if drop is None else jnp.where(drop[:, None, None], jnp.zeros_like(x), x)


def concatenate(*conditions: Condition) -> Condition:
    """Joins conditions along tokens, in the order given."""
    tokens = jnp.concatenate([c.tokens for c in conditions], axis=1)  # (b, l, d)
    if all(c.mask is None for c in conditions):
        return Condition(tokens=tokens)
    masks = [jnp.ones(c.tokens.shape[:2], bool) if c.mask is None else c.mask for c in conditions]
    return Condition(tokens=tokens, mask=jnp.concatenate(masks, axis=1))
