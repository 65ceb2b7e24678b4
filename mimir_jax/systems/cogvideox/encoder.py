# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of CogVideoX: frozen VAE and T5."""

from jax.sharding import Mesh

from mimir_jax.config import TrainConfig, flag
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError
from mimir_jax.systems import diffusion, video_encoder
from mimir_jax.systems.cogvideox import system as system_lib

make_evaluators = diffusion.make_evaluators


def make_encoder(
    config: TrainConfig, system: system_lib.CogVideoXSystem, mesh: Mesh | None = None
) -> video_encoder.VideoEncoder:
    """Loads the frozen networks of a run of CogVideoX.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process that would split parameters; None keeps T5 whole unless the
            run splits it.

    Raises:
        InputError: for a network that is missing, or a T5 of another width than the DiT expects.
    """
    _, codec_params = system.frozen["vae"].load()
    text = text_lib.TextEncoder(
        config.system.text,
        use_llm=False,
        seed=config.seed,
        mesh=video_encoder.text_mesh(config, mesh),
    )
    stated, path = config.system.dit.text_width, config.system.text.t5_path
    if text.t5_width != stated:
        raise InputError(
            f"dit.text_width must be the width {text.t5_width} of {path}, got {stated}; "
            f"set it with {flag('system.dit.text_width')}"
        )
    return video_encoder.VideoEncoder(config, system, text, codec_params)
