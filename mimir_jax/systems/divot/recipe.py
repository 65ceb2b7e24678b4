# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature tokenizer and de-tokenizer of Divot on the shipped base: all phases in turn."""

from mimir_jax.systems.recipes import export, prepare, train

_FEATURES = "--config.data.features={out}/features"

STAGES = (
    train("runs/vit", "divot:tiny/vit", 1000, scenes=16384),
    train(
        "runs/stills", "divot:tiny/stills", 2500,
        "--config.init_from=package:tiny/base,{out}/runs/vit", scenes=4096,
    ),
    prepare("features", "divot:tiny", 4096),
    train(
        "runs/clips", "divot:tiny", 4000, "--config.init_from={out}/runs/stills", _FEATURES,
        scenes=4096,
    ),
    train(
        "runs/detokenizer", "divot:tiny/detokenizer", 500,
        "--config.init_from={out}/runs/clips", _FEATURES, scenes=4096,
    ),
    export("divot", "runs/detokenizer", to="run"),
)  # fmt: skip
