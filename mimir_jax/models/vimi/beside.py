# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Route beside T5: tokens of the aligner are added to T5's states of the caption (VIMI, V-U11).

    T5 states (b, n, text_width) + zero linear(tokens of the aligner) -> tokens (b, n, text_width)

The linear layer starts at zero, as in Mimir's fuser (arXiv 2412.03085), so at step 0 the base reads
what it was trained with. Tokens are added, not appended: attention would give appended ones a share
of its weight even if they were zeros.
"""

from flax import nnx
from jaxtyping import Array, Bool, Float

from mimir_jax.config import AlignerConfig
from mimir_jax.errors import InputError
from mimir_jax.models import condition as conditioning
from mimir_jax.models import layers
from mimir_jax.models.rngs import Rngs


class Beside(nnx.Module):
    """Adds the tokens of prompts with images to T5's states of their captions."""

    def __init__(self, cfg: AlignerConfig, *, rngs: Rngs):
        width, axes = cfg.text_width, ("embed", "mlp")
        options = dict(axes=axes, init=layers.zeros, dtype=cfg.dtype, rngs=rngs)
        self.out = layers.Linear(width, width, **options)

    def __call__(
        self,
        tokens: Float[Array, "b n d"],
        features: conditioning.PromptFeatures,
        drop: Bool[Array, " b"] | None = None,
    ) -> conditioning.Condition:
        """Returns the sums; those of rows with `drop` are zeros, so that no bias leaks (V-U16).

        Args:
            tokens: What the aligner makes of `features`.
            features: States of the prompts, with those of T5.
            drop: Rows that get the null condition.

        Raises:
            InputError: for features without T5.
        """
        if features.t5 is None:
            raise InputError(
                "features.t5 must be given to a model with route 'beside', got None; encode the "
                "captions with T5 too"
            )
        added = self.out(tokens)
        fused = features.t5.astype(added.dtype) + added
        return conditioning.Condition(tokens=conditioning.zero_rows(fused, drop))
