# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature tokenizer and de-tokenizer of Divot on the shipped base: all phases in turn."""

from mimir_jax.systems.recipes import export, prepare, train

_FEATURES = "--config.data.features={out}/features"

STAGES = (
    train("runs/vit", "divot:tiny/vit", 400, scenes=16384),
    train(
        "runs/start", "divot:tiny/stills", 200,
        "--config.init_from=package:tiny/base,{out}/runs/vit",
        "--config.system.diffusion.timestep_power=4", scenes=4096,
    ),
    train(
        "runs/stills", "divot:tiny/stills", 700, "--config.init_from={out}/runs/start", scenes=4096,
    ),
    prepare("features", "divot:tiny", 4096),
    train(
        "runs/clips", "divot:tiny", 1600, "--config.init_from={out}/runs/stills", _FEATURES,
        scenes=4096,
    ),
    train(
        "runs/detokenizer", "divot:tiny/detokenizer", 500,
        "--config.init_from={out}/runs/clips", _FEATURES, scenes=4096,
    ),
    export("divot", "runs/detokenizer", to="run"),
)  # fmt: skip
