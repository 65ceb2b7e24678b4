# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of Mimir: frozen VAE, T5 and LLM."""

from jax.sharding import Mesh

from mimir_jax.config import TrainConfig, flag
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError
from mimir_jax.systems import base, diffusion, video_encoder
from mimir_jax.systems.mimir import system as system_lib

make_evaluators = diffusion.make_evaluators


class MimirEncoder(video_encoder.VideoEncoder):
    """`VideoEncoder` that knows which features condition each row of Table 3."""

    def truncated_text(self, request: base.Request) -> str:
        """Returns the longest end of the prompt that a used part of the condition leaves out."""
        network = self._system.config.network
        used = {
            "t5": True,
            "llm": network.fuser.use_llm,
            "instructions": network.stabilizer.enabled and network.stabilizer.use_instructions,
        }
        ends = self.text.truncated(request.prompt)
        return max((ends[name] for name, reads in used.items() if reads), key=len)

    def answers(self, prompt: str) -> list[str]:
        """Returns the LLM's answers where they enter the fuser, else none."""
        return self.text.answers(prompt) if self._system.config.network.fuser.use_llm else []


def make_encoder(
    config: TrainConfig, system: system_lib.MimirSystem, mesh: Mesh | None = None
) -> MimirEncoder:
    """Loads the frozen networks of a run of Mimir.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process that would split parameters; None keeps the encoders whole
            unless the run splits them.

    Raises:
        InputError: for a network that is missing, or of another width than the fuser expects.
    """
    _, codec_params = system.frozen["vae"].load()
    text = text_lib.TextEncoder(
        config.system.text,
        use_llm=system.uses_llm,
        seed=config.seed,
        mesh=video_encoder.text_mesh(config, mesh),
    )
    _check_widths(config, text)
    return MimirEncoder(config, system, text, codec_params)


def _check_widths(config: TrainConfig, text: text_lib.TextEncoder) -> None:
    """Raises `InputError` unless the encoders have the widths that the fuser was built for."""
    fuser, paths = config.system.network.fuser, config.system.text
    widths = [("t5_width", fuser.t5_width, text.t5_width, paths.t5_path)]
    if text.llm_width is not None:
        widths.append(("llm_width", fuser.llm_width, text.llm_width, paths.llm_path))
    for name, stated, width, path in widths:
        if stated != width:
            raise InputError(
                f"fuser.{name} must be the width {width} of {path}, got {stated}; "
                f"set it with {flag(f'system.model.fuser.{name}')}"
            )
