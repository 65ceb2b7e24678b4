# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of Mimir."""

import dataclasses
from typing import Any, ClassVar, Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DiTConfig
from mimir_jax.models.mimir.config import ABLATIONS, Ablation, MimirConfig
from mimir_jax.systems.diffusion_config import TextToVideoSystemConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MimirSystemConfig(TextToVideoSystemConfig):
    """Train Mimir, or a row of its ablation.

    Attributes:
        model: Fuser, stabilizer and video transformer.
        ablation: Row of Mimir's Table 3, which switches off parts of `model`; None takes `model` as
            it is.
    """

    dit_field: ClassVar[str] = "model.dit"

    kind: Literal["mimir"] = "mimir"
    model: MimirConfig = MimirConfig()
    ablation: Ablation | None = "mimir"

    def __post_init__(self):
        super().__post_init__()
        tokens, instructions = self.model.stabilizer.num_tokens, self.text.instructions
        checks.check(
            self,
            tokens == len(instructions),
            "{model.stabilizer.num_tokens} must be the number of {text.instructions}",
            got=f"{tokens} and {len(instructions)}",
        )
        row = {} if self.ablation is None else dict(ABLATIONS[self.ablation])
        row["enabled"] = row.pop("stabilizer", False)
        for name, on in row.items():
            part = "stabilizer" if name == "enabled" else "fuser"
            checks.check(
                self,
                getattr(getattr(self.model, part), name) or not on,
                f"{{model.{part}.{name}}} must be True in row {{row}} of the ablation",
                remedy="{ablation}=None chooses the parts one by one",
                row=repr(self.ablation),
            )

    @property
    def dit(self) -> DiTConfig:
        """The video transformer."""
        return self.model.dit

    @property
    def network(self) -> MimirConfig:
        """The model of the chosen ablation row."""
        return self.model if self.ablation is None else self.model.with_ablation(self.ablation)

    def features_beside(self, other: "MimirSystemConfig") -> "MimirSystemConfig":
        """Returns `other` with the texts of this one, whose features hold those of every row."""
        if len(self.text.instructions) != len(other.text.instructions):
            return self
        return dataclasses.replace(other, text=self.text)

    def with_dit(self, **fields: Any) -> "MimirSystemConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, model=self.model.with_dit(**fields))
