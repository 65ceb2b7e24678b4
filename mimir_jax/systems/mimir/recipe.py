# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature Mimir from nothing: text models, base, then the default run. The VAE is shipped."""

from mimir_jax.systems.recipes import export, prepare, train

_T5 = "--config.system.text.t5_path={out}/t5"
_TEXT = (_T5, "--config.system.text.llm_path={out}/llm")

STAGES = (
    train("runs/t5", "language:t5", 2000),
    export("t5", "runs/t5"),
    train("runs/llm", "language:llm", 6000),
    export("llm", "runs/llm"),
    prepare("features/images", "cogvideox:tiny-images", 14336, _T5),
    train(
        "runs/base-images", "cogvideox:tiny-images", 5000, _T5,
        "--config.data.features={out}/features/images", scenes=14336,
    ),
    prepare("features/clips", "cogvideox:tiny", 16384, _T5),
    train(
        "runs/base", "cogvideox:tiny", 6000, _T5, "--config.init_from={out}/runs/base-images",
        "--config.data.features={out}/features/clips", scenes=16384,
    ),
    export("base", "runs/base"),
    prepare("features/mimir", "mimir:tiny", 2048, *_TEXT),
    train(
        "runs/mimir", "mimir:tiny", 750, *_TEXT, "--config.init_from={out}/base",
        "--config.data.features={out}/features/mimir", scenes=2048,
    ),
    export("mimir", "runs/mimir", to="run"),
)  # fmt: skip
