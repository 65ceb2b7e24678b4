# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature Divot: tokenizer and de-tokenizer on the shipped base, then the shipped LLM."""

from mimir_jax.systems.recipes import export, prepare, train

_FEATURES = "--config.data.features={out}/features"
_CLIPS = "--config.system.clip_tokenizer_path={out}/runs/detokenizer"

STAGES = (
    prepare("stills", "divot:tiny/stills", 8192),
    train(
        "runs/stills", "divot:tiny/stills", 2000, "--config.data.features={out}/stills",
        scenes=8192,
    ),
    prepare("features", "divot:tiny", 6144),
    train(
        "runs/clips", "divot:tiny", 1400, "--config.init_from={out}/runs/stills", _FEATURES,
        scenes=6144,
    ),
    train(
        "runs/detokenizer", "divot:tiny/detokenizer", 3000,
        "--config.init_from={out}/runs/clips", _FEATURES, scenes=6144,
    ),
    prepare("tokens", "divot_llm:tiny", 16384, _CLIPS),
    train(
        "runs/writing", "divot_llm:tiny-writing", 1500, _CLIPS,
        "--config.data.features={out}/tokens", scenes=16384,
    ),
    train(
        "runs/llm", "divot_llm:tiny", 2000, _CLIPS, "--config.data.features={out}/tokens",
        "--config.init_from={out}/runs/writing", "--config.optimizer.learning_rate=1e-3",
        scenes=16384,
    ),
    prepare("stories", "divot_llm:tiny-story", 1024, _CLIPS),
    train(
        "runs/story", "divot_llm:tiny-story", 300, _CLIPS, "--config.data.features={out}/stories",
        "--config.init_from={out}/runs/llm", scenes=1024,
    ),
    export("divot", "runs/story", to="run"),
)  # fmt: skip
