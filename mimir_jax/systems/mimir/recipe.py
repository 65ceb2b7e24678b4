# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The miniature Mimir from nothing: text models, base, then the default run. The VAE is shipped."""

from mimir_jax.systems.recipes import Stage


def _export(name: str, run: str, *, to: str = "native") -> Stage:
    kind = () if to == "native" else ("--to", to)
    command = ("convert", f"{{out}}/{run}", "--dtype", "float16", *kind)
    return Stage(name=name, command=command, into="")


def _prepared(name: str, config: str, scenes: int, *flags: str) -> Stage:
    count = (("config.data.toyworld.num_scenes", scenes),)
    return Stage(
        name=name, command=("precompute", "--config", config, *flags), into="--out=", scaled=count
    )


def _run(name: str, config: str, steps: int, *flags: str, scenes: int = 0) -> Stage:
    scaled = [("config.steps", steps)]
    if scenes:
        scaled.append(("config.data.toyworld.num_scenes", scenes))
    return Stage(name=name, command=("train", "--config", config, *flags), scaled=tuple(scaled))


_T5 = "--config.system.text.t5_path={out}/t5"
_TEXT = (_T5, "--config.system.text.llm_path={out}/llm")

STAGES = (
    _run("runs/t5", "language:t5", 2000),
    _export("t5", "runs/t5"),
    _run("runs/llm", "language:llm", 6000),
    _export("llm", "runs/llm"),
    _prepared("features/images", "cogvideox:tiny-images", 14336, _T5),
    _run(
        "runs/base-images", "cogvideox:tiny-images", 5000, _T5,
        "--config.data.features={out}/features/images", scenes=14336,
    ),
    _prepared("features/clips", "cogvideox:tiny", 16384, _T5),
    _run(
        "runs/base", "cogvideox:tiny", 6000, _T5, "--config.init_from={out}/runs/base-images",
        "--config.data.features={out}/features/clips", scenes=16384,
    ),
    _export("base", "runs/base"),
    _prepared("features/mimir", "mimir:tiny", 1024, *_TEXT),
    _run(
        "runs/mimir", "mimir:tiny", 600, *_TEXT, "--config.init_from={out}/base",
        "--config.data.features={out}/features/mimir", scenes=1024,
    ),
    _export("mimir", "runs/mimir", to="run"),
)  # fmt: skip
