# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature VIMI on the shipped networks: multimodal LLM, memory, aligner, both stages."""

from mimir_jax.systems.recipes import Stage, export, prepare, train

_LLAVA = "--config.system.multimodal.path={out}/llava"
_PARTS = (_LLAVA, "--config.system.memory_path={out}/memory")


def _stage(name: str, steps: int, start: str) -> tuple[Stage, Stage]:
    """Returns how one of the two stages is prepared and trained."""
    config, features = f"vimi:tiny/{name}", f"features/{name}"
    return (
        prepare(features, config, 4096, *_PARTS),
        train(
            f"runs/{name}", config, steps, *_PARTS, f"--config.init_from={start}",
            f"--config.data.features={{out}}/{features}", scenes=4096,
        ),
    )  # fmt: skip


STAGES = (
    train("runs/vit", "divot:tiny/vit", 1000, scenes=16384),
    train(
        "runs/llava", "vimi:tiny/llava", 2000,
        "--config.init_from=package:tiny/llm,{out}/runs/vit", scenes=32768,
    ),
    export("llava", "runs/llava"),
    # Scenes that are no training data, so that every document is of another one.
    Stage(
        name="memory", command=("index", "--first_scene=1000000"), into="--out=",
        scaled=(("scenes", 4000),),
    ),
    train("runs/aligner", "vimi:tiny/aligner", 2000, _LLAVA, scenes=16384),
    train(
        "runs/aligner_images", "vimi:tiny/aligner_images", 4000, *_PARTS,
        "--config.init_from={out}/runs/aligner", scenes=16384,
    ),
    prepare("features/i2v", "cogvideox:tiny-i2v", 4096),
    train(
        "runs/i2v", "cogvideox:tiny-i2v", 1000,
        "--config.data.features={out}/features/i2v", scenes=4096,
    ),
    *_stage("stage1", 400, "{out}/runs/i2v,{out}/runs/aligner_images"),
    *_stage("stage2", 1200, "{out}/runs/stage1"),
    export("vimi", "runs/stage2", to="run"),
)  # fmt: skip
