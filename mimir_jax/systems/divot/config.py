# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of Divot's tokenizer and de-tokenizer."""

import dataclasses
from typing import Any, ClassVar, Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DiTConfig
from mimir_jax.models.divot.config import DivotConfig, UNetDetokenizerConfig
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.models.vae.config import ImageVAEConfig, VAEConfig
from mimir_jax.systems.diffusion_config import DiffusionSystemConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivotSystemConfig(DiffusionSystemConfig):
    """Train a clip tokenizer with the de-tokenizer that decodes its tokens to clips.

    `optimizer.freeze` selects frozen parts: `^tokenizer/vit/` for a pretrained ViT, `^tokenizer/`
    for the whole tokenizer, as in the last phase. `caption_dropout` replaces tokens by those of a
    mid-grey clip.

    Attributes:
        model: Tokenizer and de-tokenizer. The latter is a video transformer with `dit`, or the
            U-Net of the published weights with `unet`, whose parameters train alike.
        vae: Config of the frozen VAE, the causal one of videos or one of images, frame by frame.
        agent_path: Run of `divot_llm` that writes the tokens of each clip from its caption, so
            that the de-tokenizer adapts to the LLM. None takes the tokens of the clip itself.
    """

    dit_field: ClassVar[str] = "model.detokenizer.dit"

    kind: Literal["divot"] = "divot"
    model: DivotConfig = DivotConfig()
    vae: VAEConfig | ImageVAEConfig = VAEConfig()
    agent_path: str | None = None

    def __post_init__(self):
        super().__post_init__()
        checks.check(
            self,
            not (self.has_unet and self.lora.rank),
            "{lora.rank} must be 0 where {model.detokenizer} has a U-Net, which trains whole",
            got=str(self.lora.rank),
            remedy="set {lora.rank}=0",
        )

    @property
    def has_unet(self) -> bool:
        """Whether a U-Net draws the clips, not a video transformer."""
        return isinstance(self.model.detokenizer, UNetDetokenizerConfig)

    @property
    def dit(self) -> DiTConfig:
        """The video transformer, which a U-Net has not."""
        return self.model.detokenizer.dit

    @property
    def denoiser(self) -> DiTConfig | UNetConfig:
        """The network that denoises."""
        return self.model.detokenizer.unet if self.has_unet else self.dit

    @property
    def denoiser_field(self) -> str:
        """Path of `denoiser` among the fields."""
        return "model.detokenizer.unet" if self.has_unet else self.dit_field

    @property
    def side_step(self) -> int:
        """Pixels that height and width of a clip are multiples of."""
        if self.has_unet:
            return self.vae.spatial_compression * self.denoiser.reduction
        return super().side_step

    @property
    def _side_rule(self) -> str:
        return "VAE compression x levels of the U-Net" if self.has_unet else super()._side_rule

    def _check_denoiser(self, run: Any) -> None:
        if not self.has_unet:
            super()._check_denoiser(run)
            return
        checks.check(
            run,
            run.mesh.context_parallel != "ring",
            "{mesh.context_parallel} must be ulysses for a U-Net, whose frames attend alone",
        )

    @property
    def network(self) -> DivotConfig:
        """Tokenizer and de-tokenizer."""
        return self.model

    def with_dit(self, **fields: Any) -> "DivotSystemConfig":
        """Returns this config with other `fields` of its video transformer, which it must have."""
        return dataclasses.replace(self, model=self.model.with_dit(**fields))
