# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature Divot: tokenizer and de-tokenizer on the shipped base, then the shipped LLM."""

from mimir_jax.systems.recipes import export, prepare, train

_FEATURES = "--config.data.features={out}/features"
_CLIPS = "--config.system.clip_tokenizer_path={out}/runs/detokenizer"

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
        "runs/clips", "divot:tiny", 1200, "--config.init_from={out}/runs/stills", _FEATURES,
        scenes=4096,
    ),
    train(
        "runs/detokenizer", "divot:tiny/detokenizer", 200,
        "--config.init_from={out}/runs/clips", _FEATURES, scenes=4096,
    ),
    prepare("tokens", "divot_llm:tiny", 4096, _CLIPS),
    train(
        "runs/llm", "divot_llm:tiny", 1000, _CLIPS, "--config.data.features={out}/tokens",
        scenes=4096,
    ),
    prepare("stories", "divot_llm:tiny-story", 1024, _CLIPS),
    train(
        "runs/story", "divot_llm:tiny-story", 300, _CLIPS, "--config.data.features={out}/stories",
        "--config.init_from={out}/runs/llm", scenes=1024,
    ),
    export("divot", "runs/story", to="run"),
)  # fmt: skip
