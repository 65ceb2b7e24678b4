# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts to videos: `launch/sample.py --checkpoint runs/mimir --prompt "a red ball moves left"`.

The checkpoint is a run of launch/train.py or a CogVideoX pipeline as published. --out receives an
mp4 and a record of each video as soon as it is made, at the end a contact sheet and `index.html`
that plays them. A stopped command keeps the videos it made; the same command makes the others.
"""

import contextlib
import functools
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
_OUT = flags.DEFINE_string(
    "out", "samples", "Folder to write; new, or left by the same command when it was stopped."
)
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
    from mimir_jax.sampling import gallery as gallery_lib
    from mimir_jax.sampling import generator, prompts

    file = _PROMPTS.value
    texts = [*_PROMPT.value, *(prompts.read(pathlib.Path(file)) if file else [])]
    texts, options = prompts.check(texts), _options()
    asked = [(text, _SEED.value + i) for text in texts for i in range(_VIDEOS.value)]
    first = distributed.is_first()
    with contextlib.ExitStack() as stack:
        if first:
            gallery = stack.enter_context(gallery_lib.Gallery(files.expand_path(_OUT.value)))
        maker = generator.open_generator(_CHECKPOINT.value, options)
        for number, text in enumerate(texts, 1):
            if (rest := maker.unread(text)) and first:
                print(f"prompt {number} is too long, cut: {rest!r}", file=sys.stderr)
        size = _BATCH.value or maker.ways
        videos = [{"prompt": text, "seed": seed} for text, seed in asked]
        settings = {**maker.settings, "batch_size": size}
        missing = distributed.from_first(lambda: gallery.begin(videos, settings))
        bar = stack.enter_context(_Bar(len(asked), len(asked) - len(missing)))
        start = time.monotonic()
        for row in range(0, len(missing), size):
            batch = missing[row : row + size]
            words, seeds = zip(*(asked[index] for index in batch), strict=True)
            frames, answers = maker.generate(words, seeds, batch_size=size), maker.answers(words)
            for index, video, said in zip(batch, frames, answers, strict=True) if first else ():
                record = gallery.add(index, video, fps=maker.fps, answers=said)
                if _SHOW_ANSWERS.value and record["seed"] == _SEED.value:
                    bar.print_answers(record)
            bar.advance(len(batch))
        if first:
            gallery.finish()
    if first:
        print(f"{len(missing)} videos in {time.monotonic() - start:.1f} s")
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


def _is_first() -> bool:
    from mimir_jax.parallel import distributed

    return distributed.is_first()


class _Bar:
    """Progress of a command on process 0; says what is left of a stopped one."""

    def __init__(self, total: int, done: int):
        console = rich_console.Console()
        columns = [*rich_progress.Progress.get_default_columns()]
        self._bar = rich_progress.Progress(*columns, console=console, disable=not _is_first())
        self._task = self._bar.add_task("sampling", total=total, completed=done)
        self._total, self._done = total, done

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._bar.stop()
        if error is not None and self._done and _is_first():
            print(
                f"{self._done} of {self._total} videos are in {_OUT.value}; the same command makes "
                "the others",
                file=sys.stderr,
            )

    def advance(self, videos: int) -> None:
        """Counts finished videos."""
        self._done += videos
        self._bar.advance(self._task, videos)

    def print_answers(self, record: dict[str, Any]) -> None:
        """Prints the answers of the LLM to a prompt."""
        out = functools.partial(self._bar.console.out, highlight=False)
        out(record["prompt"])
        if record["answer"] is None:
            out("  (no answer of an LLM conditions this video)")
            return
        out(f"  > {record['answer']}")
        for answer in record["other_answers"]:
            out(f"  not used: {answer}")


if __name__ == "__main__":
    flags_lib.run(main)
