# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The work of `sample`: opens a checkpoint, makes videos and writes them, or describes videos.

It imports JAX, so the host must have been prepared.
"""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from absl import flags
from jax.sharding import Mesh
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files, remote, weights
from mimir_jax.cli import sample_requests
from mimir_jax.errors import InputError, require
from mimir_jax.parallel import distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.sampling import agents, edit_files, gallery, long, written_videos
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request
from mimir_jax.training import mirror

_TEXT_LENGTH = 256  # tokens of a text that an agent writes, at most
_NOT_OF_AGENTS = (
    "dtype", "lora", "quantize", "negative_prompt", "image", "first_frame", "retrieve", "video",
    "extend", "length",
)  # fmt: skip


def describe(values: flags.FlagValues) -> None:
    """Prints what a run of divot_llm says of each video or image."""
    require(bool(values.describe), "--question must be about a file, got none; pass --describe")
    others = ("prompt", "prompts", "image", "first_frame", "retrieve", "reconstruct", "quantize")
    given = [name for name in others if values[name].value]
    require(
        not given,
        f"--{(given or ['prompt'])[0]} must be left out with --describe, which reads files alone",
    )
    settings = _text_settings(sample_requests.read_config(values))
    mesh = _own_mesh(values)
    whole = mesh is None or mesh.shape["fsdp"] * mesh.shape["tensor"] == 1
    split = None if whole else mesh
    agent = agents.open_agent(values.checkpoint, step=values.step, mesh=split, **settings)
    for path in values.describe:
        video, note = agent.read(path)
        answer = agent.describe(video, values.question, seed=values.seed)
        if distributed.is_first():
            if note:
                print(note, file=sys.stderr)
            print(f"{path}: {answer}")


def sample(values: flags.FlagValues) -> None:
    """Makes and writes the videos that the flags ask for."""
    clips, config = sample_requests.find_clips(values), sample_requests.read_config(values)
    edits = edit_files.EditFiles(
        values.video, values.strength, values.mask, values.extend, values.extend_frames
    )
    prompts = [] if clips or values.story is not None else sample_requests.read_prompts(values)
    mesh = _own_mesh(values)
    first = distributed.is_first()
    with contextlib.ExitStack() as stack:
        folder = None
        if first:
            folder = stack.enter_context(gallery.Gallery(_open_out(values.out, stack)))
        writes = values.story is not None or agents.is_agent(values.checkpoint)
        if writes and clips:
            requests, pipeline = [], _open_detokenizer(values, config, mesh)
        elif writes:
            _require_prompts_alone(values)
            requests, pipeline = _write(values, prompts, config, mesh)
        else:
            requests, pipeline = prompts, _open_pipeline(values, config, mesh)
        requests = sample_requests.complete(values, requests, clips, edits, pipeline, shown=first)
        if first and not clips and not writes:
            _warn_of_truncated_prompts(requests, pipeline)
        progress = stack.enter_context(_Progress(values, len(requests), shown=first))
        start = time.monotonic()
        made = gallery.make_videos(
            pipeline, requests, folder, batch_size=values.batch_size, report=progress.report
        )
    if first:
        print(f"{made} videos in {time.monotonic() - start:.1f} s")
        print(f"sheet: {values.out}/sheet.png")
        print(f"gallery: {values.out}/index.html")


def _own_mesh(values: flags.FlagValues) -> Mesh | None:
    return mesh_lib.own_mesh(mesh_lib.parse_sizes(values.mesh), setting="--mesh")


def _open_out(out: str, stack: contextlib.ExitStack) -> pathlib.Path:
    """Returns the folder to write, a local copy of one in remote storage."""
    if not remote.is_address(out):
        return files.expand_path(out)
    return stack.enter_context(mirror.mirrored(out, locked=False)).folder


def _open_pipeline(values: flags.FlagValues, config: SampleConfig, mesh: Mesh | None) -> Any:
    return open_lib.open_pipeline(
        values.checkpoint,
        config,
        mesh,
        step=values.step,
        start=values.start,
        dtype=values.dtype,
        lora=values.lora,
    )


def _write(
    values: flags.FlagValues, requests: Sequence[Request], config: SampleConfig, mesh: Mesh | None
) -> tuple[list[Request], Any]:
    """Returns the clips that a run of divot_llm writes, as requests, and what draws them."""
    require(
        not values.start,
        "--start must be left out for a run of divot_llm; sample the run that --detokenizer names",
    )
    agent = agents.open_agent(values.checkpoint, step=values.step, **_text_settings(config))
    config = dataclasses.replace(config, answer_temperature=None)
    pipeline = written_videos.open_detokenizer(agent.config, values.detokenizer, config, mesh)
    if values.story is None:
        return written_videos.write_clips(agent, requests), pipeline
    story = {"pages": values.pages, "seed": values.seed}
    texts, clips = written_videos.write_story(agent, values.story, **story)
    require(
        bool(clips),
        f"--story must lead to a clip, the model wrote text alone: {' '.join(texts)[:80]!r}; train "
        "it on stories, or use --prompt",
    )
    if distributed.is_first():
        print("\n".join(texts))
    return clips, pipeline


def _text_settings(config: SampleConfig) -> dict[str, Any]:
    """Returns how an agent decodes text."""
    return {"temperature": config.answer_temperature or 0.0, "text_length": _TEXT_LENGTH}


def _require_prompts_alone(values: flags.FlagValues) -> None:
    """Raises `InputError` for what a run of divot_llm does not read; before it is opened."""
    for name in _NOT_OF_AGENTS:
        if given := values[name].value:
            shown = ", ".join(given) if isinstance(given, list) else given
            raise InputError(
                f"--{name} must be left out for a run of divot_llm, which writes clips of prompts "
                f"alone, got {shown}; leave it out, or use another run"
            )


def _open_detokenizer(values: flags.FlagValues, config: SampleConfig, mesh: Mesh | None) -> Any:
    """Returns what draws the clips of a run of divot_llm, without opening its LLM."""
    run = agents.read_run(weights.resolve(values.checkpoint))
    return written_videos.open_detokenizer(run, values.detokenizer, config, mesh, generates=False)


def _warn_of_truncated_prompts(requests: Iterable[Request], pipeline: Any) -> None:
    """Prints the end of each prompt that is too long for the network."""
    parts = [part for request in requests for part in long.parts(request)]
    for number, request in enumerate({r.prompt: r for r in parts}.values(), 1):
        if cut := pipeline.truncated_text(request):
            print(f"prompt {number} is too long, cut: {cut!r}", file=sys.stderr)


class _Progress:
    """Shows the progress of the command, and says how much a stopped one has made."""

    def __init__(self, values: flags.FlagValues, total: int, *, shown: bool):
        self._values, self._total, self._shown, self._done = values, total, shown, 0
        console = rich_console.Console(quiet=not shown)
        columns = rich_progress.Progress.get_default_columns()
        self._bar = rich_progress.Progress(*columns, console=console)
        self._task = self._bar.add_task("sampling", total=total)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._bar.stop()
        if error is not None and self._done and self._shown:
            print(
                f"{self._done} of {self._total} videos are in {self._values.out}; the same command "
                "makes the others",
                file=sys.stderr,
            )

    def report(self, done: int, record: dict[str, Any] | None) -> None:
        """Shows the number of videos that exist, and the answers of the LLM to the last prompt."""
        self._done = done
        self._bar.update(self._task, completed=done)
        if record is None or not self._values.show_answers or record["seed"] != self._values.seed:
            return
        out = functools.partial(self._bar.console.out, highlight=False)
        out(record["prompt"])
        if record["answer"] is None:
            out("  (no answer of an LLM conditions this video)")
            return
        out(f"  > {record['answer']}")
        for answer in record["other_answers"]:
            out(f"  not used: {answer}")
