# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of a LLaVA. The defaults are LLaVA-1.5-7B."""

import dataclasses

from mimir_jax.config import checks
from mimir_jax.models.config import DType, LLMConfig, ViTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlavaConfig:
    """Image tower, projector and text decoder (arXiv 2310.03744).

    Attributes:
        vit: Image tower.
        llm: Text decoder.
        image_token: Token id whose embeddings are replaced by projected features.
        vision_layers: Layers of the tower whose states are read side by side, counted as
            transformers counts `hidden_states`.
        class_token: Whether the state of the class token is read before those of the patches, as
            `vision_feature_select_strategy` `full` does.
        projector_bias: Whether the linears of the projector have biases.
    """

    vit: ViTConfig = ViTConfig()
    llm: LLMConfig = LLMConfig(width=4096, head_dim=128, mlp_dim=11008)
    image_token: int = 32000
    vision_layers: tuple[int, ...] = (-2,)
    class_token: bool = False
    projector_bias: bool = True

    def __post_init__(self):
        checks.within(self, "image_token", 0)
        checks.check(self, bool(self.vision_layers), "{vision_layers} must name a layer")
        last = self.vit.num_layers
        checks.check(
            self,
            all(-last - 1 <= layer <= last for layer in self.vision_layers),
            f"{{vision_layers}} must lie between {-last - 1} and {last}",
        )
        checks.check(
            self,
            self.vit.dtype == self.llm.dtype,
            "{vit.dtype} must equal {llm.dtype}, as their states are joined",
        )

    @property
    def dtype(self) -> DType:
        """Dtype of the computation."""
        return self.llm.dtype

    @property
    def vocab_size(self) -> int:
        """Tokens of the decoder."""
        return self.llm.vocab_size

    @property
    def tokens_per_image(self) -> int:
        """Positions of an image in the text."""
        return (self.vit.image_size // self.vit.patch) ** 2 + self.class_token
