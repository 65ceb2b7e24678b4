# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts to videos: `launch/sample.py --checkpoint runs/mimir --prompt "a red ball moves left"`.

The checkpoint is a run of launch/train.py or a CogVideoX pipeline as published. DIR receives an mp4
and a record for each video, a contact sheet, and `index.html` that plays them.
"""

import contextlib
import pathlib
import sys
import time
from typing import Any

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files
from mimir_jax.cli import flags as flags_lib
from mimir_jax.errors import InputError

_PROCESSES = flags_lib.define_processes()
_MESH = flags_lib.define_mesh()
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Run, or folder of a pipeline.")
_PROMPT = flags.DEFINE_multi_string("prompt", [], "What to show; may be given several times.")
_PROMPTS = flags.DEFINE_string("prompts", None, "File with a prompt a line, as text or JSONL.")
_OUT = flags.DEFINE_string("out", "samples", "Folder to write; must not exist.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the first video of each prompt.", lower_bound=0)
_VIDEOS = flags.DEFINE_integer("videos_per_prompt", 1, "Videos of each prompt.", lower_bound=1)
_BATCH = flags.DEFINE_integer(
    "batch_size", None, "Videos at a time; by default what keeps all devices busy.", lower_bound=1
)
_SAMPLER = flags.DEFINE_enum("sampler", None, ["ddim", "dpm"], "Default: the checkpoint's.")
_STEPS = flags.DEFINE_integer("steps", None, "Sampling steps.")
_GUIDANCE = flags.DEFINE_float("guidance", None, "Guidance scale.")
_DYNAMIC = flags.DEFINE_enum(
    "dynamic_cfg", None, ["off", "reference", "smooth"], "How the scale varies over the steps."
)
_FRAMES = flags.DEFINE_integer("frames", None, "Frames of a video, 8N+1.")
_HEIGHT = flags.DEFINE_integer("height", None, "Pixel rows.")
_WIDTH = flags.DEFINE_integer("width", None, "Pixel columns.")
_TILED = flags.DEFINE_bool("tiled", False, "Decode in blended tiles, with less memory.")
_INSTRUCTIONS = flags.DEFINE_string(
    "instructions", None, "File with an instruction a line, asked in place of the trained ones."
)
_TEMPERATURE = flags.DEFINE_float("answer_temperature", None, "How freely the LLM answers.")
_ANSWER_SEED = flags.DEFINE_integer("answer_seed", None, "Draws other answers of the LLM.")
_SHOW_ANSWERS = flags.DEFINE_bool(
    "show_answers", False, "Print what the LLM answered to each prompt."
)


def main(argv) -> None:
    """Samples and writes."""
    if len(argv) > 1:
        raise InputError(f"sample takes flags alone, got {argv[1]!r}; quote prompts")
    if _CHECKPOINT.value is None:
        raise InputError("--checkpoint must name a run or the folder of a pipeline, got none")
    flags_lib.prepare_host()
    from mimir_jax.parallel import distributed

    with distributed.session(distributed.Launch(**_PROCESSES()), flags_lib.shared()):
        _sample()


def _sample() -> None:
    from mimir_jax.parallel import distributed
    from mimir_jax.sampling import gallery, generator, prompts

    file = _PROMPTS.value
    texts = [*_PROMPT.value, *(prompts.read(pathlib.Path(file)) if file else [])]
    texts, options = prompts.check(texts), _options()
    asked = [(text, _SEED.value + i) for text in texts for i in range(_VIDEOS.value)]
    first = distributed.is_first()
    console = rich_console.Console(quiet=not first)
    out = files.expand_path(_OUT.value)
    with files.atomic_directory(out) if first else contextlib.nullcontext() as folder:
        maker = generator.open_generator(_CHECKPOINT.value, options)
        for number, text in enumerate(texts, 1):
            if (rest := maker.unread(text)) and first:
                print(f"prompt {number} is too long, cut: {rest!r}", file=sys.stderr)
        samples = []
        size = _BATCH.value or maker.ways
        start = time.monotonic()
        columns = [*rich_progress.Progress.get_default_columns()]
        with rich_progress.Progress(*columns, console=console) as bar:
            task = bar.add_task("sampling", total=len(asked))
            for row in range(0, len(asked), size):
                batch = asked[row : row + size]
                words, seeds = zip(*batch, strict=True)
                videos = maker.generate(words, seeds, batch_size=size)
                made = zip(batch, videos, maker.answers(words), strict=True)
                for (text, seed), frames, said in made:
                    record = {"prompt": text, "seed": seed, **maker.settings, "batch_size": size}
                    record |= {"answer": said[0] if said else None, "other_answers": said[1:]}
                    samples.append(gallery.Sample(frames, record))
                bar.advance(task, len(batch))
        if first:
            gallery.write(folder, samples, fps=maker.fps)
    if _SHOW_ANSWERS.value:
        _print_answers(console, [sample.record for sample in samples])
    if first:
        print(f"{len(samples)} videos in {time.monotonic() - start:.1f} s")
        print(f"sheet: {_OUT.value}/sheet.png")
        print(f"gallery: {_OUT.value}/index.html")


def _options():
    from mimir_jax.parallel import mesh
    from mimir_jax.sampling import generator, prompts

    instructions = None
    if _INSTRUCTIONS.value is not None:
        lines = prompts.read(pathlib.Path(_INSTRUCTIONS.value), "instruction")
        instructions = tuple(prompts.check(lines, "instruction"))
    return generator.Options(
        sampler=_SAMPLER.value,
        steps=_STEPS.value,
        guidance=_GUIDANCE.value,
        dynamic_cfg=_DYNAMIC.value,
        frames=_FRAMES.value,
        height=_HEIGHT.value,
        width=_WIDTH.value,
        tiled=_TILED.value,
        instructions=instructions,
        answer_temperature=_TEMPERATURE.value,
        answer_seed=_ANSWER_SEED.value,
        mesh=mesh.parse_sizes(_MESH()),
    )


def _print_answers(console: rich_console.Console, records: list[dict[str, Any]]) -> None:
    for record in {record["prompt"]: record for record in records}.values():
        console.out(record["prompt"], highlight=False)
        if record["answer"] is None:
            console.out("  (no answer of an LLM conditions this video)", highlight=False)
            continue
        console.out(f"  > {record['answer']}", highlight=False)
        for answer in record["other_answers"]:
            console.out(f"  not used: {answer}", highlight=False)


if __name__ == "__main__":
    flags_lib.run(main)
