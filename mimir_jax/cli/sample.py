# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Generate videos from prompts, reconstruct clips, describe videos or images, or tell stories.

The checkpoint is a run of `train`, or a published CogVideoX pipeline in a folder of diffusers. A
run of `divot` reads no prompts: it reconstructs each clip of --reconstruct from its tokens, next to
the clip as it was read. Files of another rate, size or length are resampled, which is reported.

--out receives an mp4 and a JSON record of each video as soon as it is generated, and at the end a
contact sheet, sheet.png, and a page that plays the videos, index.html. The same command resumes a
stopped one; a different command in the same folder is refused.

A run of vimi reads images: --image for each mark <img> of a prompt, as in "A <img> is sitting on
the <img>."; or the --first_frame to continue; or a captioned image that it retrieves from a memory
for each prompt (--retrieve).

A run of divot_llm writes clip tokens for prompts, which --detokenizer decodes, also those of
--reconstruct. It tells the --story as texts, each with a clip. It describes the videos and images
of --describe, or answers --question about each; then it prints the answers and writes no files.

A video depends on its prompt, its seed and the settings in its record, not on the other videos.
"""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files, remote
from mimir_jax.cli import command, dataclass_flags, host, shared_flags
from mimir_jax.errors import InputError
from mimir_jax.sampling.config import SHIPPED, SampleConfig

WORDS = ""
CONFIG = False

_NOT_OF_AGENTS = (
    "dtype", "lora", "quantize", "negative_prompt", "image", "first_frame", "retrieve", "video",
    "extend", "length",
)  # fmt: skip


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""

    def integer(name: str, default: int | None, text: str, least: int) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)

    flags.DEFINE_string(
        "checkpoint", SHIPPED,
        "Run, or folder of a published pipeline; by default the miniature that ships with the "
        "package.", values,
    )  # fmt: skip
    integer("step", None, "Kept step of the run; by default the newest.", 0)
    flags.DEFINE_bool("start", False, "Sample with the initial parameters of the run.", values)
    flags.DEFINE_multi_string(
        "prompt", [],
        "Prompt; may be given several times. With START-ENDs: TEXT, all prompts together describe "
        "one long video, each for its seconds.", values,
    )  # fmt: skip
    flags.DEFINE_string("prompts", None, "File with one prompt per line, as text or JSONL.", values)
    flags.DEFINE_string(
        "negative_prompt", None, "Negative prompt of guidance, for all prompts.", values
    )
    flags.DEFINE_multi_string(
        "image", [], "Image for a mark <img> in the prompts, in order, for runs of vimi.", values
    )
    flags.DEFINE_string(
        "first_frame",
        None,
        "Image that starts the videos, for image-to-video models and runs of vimi. --image_fit "
        "sets how other sizes are fitted.",
        values,
    )
    flags.DEFINE_string(
        "retrieve", None,
        "Memory of documents, from `mimir-jax index`; each prompt gets its best document.",
        values,
    )  # fmt: skip
    flags.DEFINE_string("video", None, "Video to edit, or heldout:INDEX.", values)
    flags.DEFINE_float(
        "strength", None,
        "Share of the sampling steps to run on --video; by default 0.8, and 1 with --mask.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "mask",
        None,
        "Image whose white pixels are regenerated in --video; the others are kept.",
        values,
    )
    flags.DEFINE_string("extend", None, "Video to continue, or heldout:INDEX.", values)
    integer("extend_frames", 9, "Last frames of --extend that the new clip repeats, 8N+1.", 1)
    integer(
        "length", None, "Frames of a video longer than --frames, 8N+1, by overlapping windows.", 1,
    )  # fmt: skip
    flags.DEFINE_float(
        "window_overlap", 0.5, "Share of a window of a long video that overlaps with the next.",
        lower_bound=0.0, upper_bound=0.99, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_multi_string(
        "reconstruct", [],
        "Video file, or heldout:INDEX, a held-out clip of the run; may be given several times.",
        values,
    )  # fmt: skip
    flags.DEFINE_multi_string(
        "describe", [],
        "Video or image to describe, with a run of divot_llm; may be given several times.", values,
    )  # fmt: skip
    flags.DEFINE_string("question", None, "Question about the files of --describe.", values)
    flags.DEFINE_string("story", None, "Request for a story, with a run of divot_llm.", values)
    integer("pages", 3, "Maximum number of clips of a story.", 1)
    flags.DEFINE_string(
        "detokenizer", None,
        "Run of divot that decodes the clip tokens of a run of divot_llm; by default the one that "
        "it was trained with.", values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "dtype", None, ["float32", "bfloat16", "float16"],
        "Dtype of all networks; by default that of the checkpoint.", values,
    )  # fmt: skip
    flags.DEFINE_multi_string(
        "lora", [],
        "Adapters to merge into the video transformer, FILE or FILE:SCALE; may be given several "
        "times.", values,
    )  # fmt: skip
    flags.DEFINE_string("out", "samples", "Output folder, or its remote URL.", values)
    integer("seed", 0, "Seed of the first video of each prompt.", 0)
    integer("videos_per_prompt", 1, "Videos per prompt, of successive seeds.", 1)
    integer("batch_size", None, "Videos at a time; by default enough to keep all devices busy.", 1)
    dataclass_flags.define(values, SampleConfig, skip=("instructions",))
    flags.DEFINE_string(
        "instructions", None,
        "File with one LLM instruction per line, instead of those used in training.", values,
    )  # fmt: skip
    flags.DEFINE_bool("show_answers", False, "Print the LLM's answers to each prompt.", values)
    shared_flags.define_mesh(values)
    shared_flags.define_processes(values)


def main(args: command.Arguments) -> None:
    """Samples and writes."""
    host.prepare_host()
    from mimir_jax.parallel import distributed

    launch = distributed.Launch(**shared_flags.processes(args.flags))
    with distributed.session(launch, args.shared()):
        if args.flags.describe or args.flags.question is not None:
            _describe(args.flags)
        else:
            _sample(args.flags)


def _describe(values: flags.FlagValues) -> None:
    """Prints what a run of divot_llm says of each video or image."""
    from mimir_jax.errors import require
    from mimir_jax.parallel import distributed
    from mimir_jax.parallel import mesh as mesh_lib
    from mimir_jax.sampling import description
    from mimir_jax.systems.divot_llm import writer

    require(bool(values.describe), "--question must be about a file, got none; pass --describe")
    others = ("prompt", "prompts", "image", "first_frame", "retrieve", "reconstruct", "quantize")
    given = [name for name in others if values[name].value]
    require(
        not given,
        f"--{(given or ['prompt'])[0]} must be left out with --describe, which reads files alone",
    )
    temperature = _config(values).answer_temperature
    settings = writer.Settings(temperature=temperature or 0.0)
    mesh = mesh_lib.own_mesh(mesh_lib.parse_sizes(values.mesh), setting="--mesh")
    whole = mesh is None or mesh.shape["fsdp"] * mesh.shape["tensor"] == 1
    split = None if whole else mesh
    agent = description.open_agent(values.checkpoint, settings, step=values.step, mesh=split)
    for path in values.describe:
        video, note = agent.read(path)
        answer = agent.describe(video, values.question, seed=values.seed)
        if distributed.is_first():
            if note:
                print(note, file=sys.stderr)
            print(f"{path}: {answer}")


def _sample(values: flags.FlagValues) -> None:
    from mimir_jax.parallel import distributed
    from mimir_jax.parallel import mesh as mesh_lib
    from mimir_jax.sampling import description, edit_files, gallery, long, open

    clips, config = _clips(values), _config(values)
    edits = edit_files.EditFiles(
        values.video, values.strength, values.mask, values.extend, values.extend_frames
    )
    requests = [] if clips or values.story is not None else _requests(values)
    mesh = mesh_lib.own_mesh(mesh_lib.parse_sizes(values.mesh), setting="--mesh")
    first = distributed.is_first()
    with contextlib.ExitStack() as stack:
        folder = None
        if first:
            folder = stack.enter_context(gallery.Gallery(_open_out(values.out, stack)))
        writes = values.story is not None or description.is_agent(values.checkpoint)
        if writes and clips:
            pipeline = _open_detokenizer(values, config, mesh)
        elif writes:
            _require_prompts_alone(values)
            requests, pipeline = _write(values, requests, config, mesh)
        else:
            pipeline = open.open_pipeline(
                values.checkpoint, config, mesh, step=values.step, start=values.start,
                dtype=values.dtype, lora=values.lora,
            )  # fmt: skip
        requests += _reconstructions(values, clips, pipeline, shown=first)
        requests = _with_first_frame(values, requests, pipeline, shown=first)
        requests = _retrieved(values, requests, pipeline, shown=first)
        requests, notes = edits.apply(requests, pipeline)
        requests = [long.with_length(r, pipeline, values.length) for r in requests]
        if first and notes:
            print("\n".join(notes), file=sys.stderr)
        pipeline.check(requests)
        if first and not clips and not writes:
            parts = [part for request in requests for part in long.parts(request)]
            for number, request in enumerate({r.prompt: r for r in parts}.values(), 1):
                if cut := pipeline.truncated_text(request):
                    print(f"prompt {number} is too long, cut: {cut!r}", file=sys.stderr)
        progress = stack.enter_context(_Progress(values, len(requests), shown=first))
        start = time.monotonic()
        made = gallery.make_videos(
            pipeline, requests, folder, batch_size=values.batch_size, report=progress.report
        )
    if first:
        print(f"{made} videos in {time.monotonic() - start:.1f} s")
        print(f"sheet: {values.out}/sheet.png")
        print(f"gallery: {values.out}/index.html")


def _open_out(out: str, stack: contextlib.ExitStack) -> pathlib.Path:
    """Returns the folder to write, a local copy of one in remote storage."""
    if not remote.is_address(out):
        return files.expand_path(out)
    from mimir_jax.training import mirror

    return stack.enter_context(mirror.mirrored(out, locked=False)).folder


def _write(
    values: flags.FlagValues, requests: Sequence[Any], config: SampleConfig, mesh: Any
) -> tuple[list[Any], Any]:
    """Returns the clips that a run of divot_llm writes, as requests, and what draws them."""
    from mimir_jax.errors import require
    from mimir_jax.parallel import distributed
    from mimir_jax.sampling import description
    from mimir_jax.systems.divot_llm import writer

    require(
        not values.start,
        "--start must be left out for a run of divot_llm; sample the run that --detokenizer names",
    )
    temperature = config.answer_temperature
    settings = writer.Settings(temperature=temperature or 0.0)
    config = dataclasses.replace(config, answer_temperature=None)
    agent = description.open_agent(values.checkpoint, settings, step=values.step)
    pipeline = agent.open_detokenizer(values.detokenizer, config, mesh)
    if values.story is None:
        return agent.write_clips(requests), pipeline
    texts, clips = agent.tell(values.story, pages=values.pages, seed=values.seed)
    require(
        bool(clips),
        f"--story must lead to a clip, the model wrote text alone: {' '.join(texts)[:80]!r}; train "
        "it on stories, or use --prompt",
    )
    if distributed.is_first():
        print("\n".join(texts))
    return clips, pipeline


def _require_prompts_alone(values: flags.FlagValues) -> None:
    """Raises `InputError` for what a run of divot_llm does not read; before it is opened."""
    for name in _NOT_OF_AGENTS:
        if given := values[name].value:
            shown = ", ".join(given) if isinstance(given, list) else given
            raise InputError(
                f"--{name} must be left out for a run of divot_llm, which writes clips of prompts "
                f"alone, got {shown}; leave it out, or use another run"
            )


def _open_detokenizer(values: flags.FlagValues, config: SampleConfig, mesh: Any) -> Any:
    """Returns what draws the clips of a run of divot_llm, without opening its LLM."""
    from mimir_jax import weights
    from mimir_jax.sampling import description

    run = description.read_run(weights.resolve(values.checkpoint))
    return description.open_detokenizer(run, values.detokenizer, config, mesh, generates=False)


def _clips(values: flags.FlagValues) -> Sequence[Any]:
    """Returns where the clips to reconstruct are."""
    from mimir_jax.errors import require
    from mimir_jax.sampling import reconstruction

    prompts = ("prompt", "prompts", "negative_prompt", "image", "first_frame", "retrieve")
    given = [name for name in prompts if values[name].value]
    require(
        not values.reconstruct or not given,
        f"--{(given or prompts)[0]} must be left out with --reconstruct, which reads clips alone",
    )
    return reconstruction.find(values.reconstruct)


def _reconstructions(
    values: flags.FlagValues, clips: Sequence[Any], pipeline: Any, *, shown: bool
) -> list[Any]:
    """Reads the clips, and prints how they were resampled."""
    from mimir_jax.errors import require
    from mimir_jax.sampling import reconstruction

    kind = pipeline.system.config.kind
    require(
        not clips or "clip" in pipeline.system.request_fields,
        f"--checkpoint must be a run of divot for --reconstruct, got one of {kind}; name another",
    )
    requests = []
    for clip in clips:
        request, note = reconstruction.make_request(clip, pipeline, seed=values.seed)
        if note and shown:
            print(note, file=sys.stderr)
        requests += [
            dataclasses.replace(request, seed=values.seed + number)
            for number in range(values.videos_per_prompt)
        ]
    return requests


def _retrieved(
    values: flags.FlagValues, requests: list[Any], pipeline: Any, *, shown: bool
) -> list[Any]:
    """Gives requests their documents, and prints which prompts have none."""
    from mimir_jax.sampling import retrieval

    if values.retrieve is None:
        return requests
    requests, without = retrieval.retrieve(values.retrieve, requests, pipeline.system)
    for prompt in without if shown else ():
        print(f"no document shares a word with {prompt!r}; made without one", file=sys.stderr)
    return requests


def _requests(values: flags.FlagValues) -> list[Any]:
    """Returns what to make, the videos of one prompt together."""
    from mimir_jax import image_files
    from mimir_jax.encoders import interleaved
    from mimir_jax.sampling import first_frames, prompts, request, scenes

    given = [name for name in ("image", "first_frame", "retrieve") if values[name].value]
    if len(given) > 1:
        raise InputError(
            f"prompts must have one of images, a first frame and a retrieved document, got "
            f"{' and '.join(f'--{name}' for name in given)}; leave one out"
        )
    texts = [*values.prompt, *(_read(values.prompts, "prompt") if values.prompts else ())]
    shared: dict[str, Any] = {"images": tuple(map(image_files.read, values.image))}
    if values.negative_prompt is not None:
        (shared["negative_prompt"],) = prompts.check([values.negative_prompt], "negative prompt")
    if values.first_frame is not None and not first_frames.is_heldout(values.first_frame):
        shared["first_frame"] = image_files.read(values.first_frame)
    texts = prompts.check(texts)
    for text in texts:
        if values.image or interleaved.MARK in text:
            interleaved.parse(text, shared["images"])  # as many marks as images
    if shown := scenes.parse(texts):
        shared["scenes"], texts = shown, ["; ".join(texts)]
    shared["window_overlap"] = values.window_overlap
    return [
        request.Request(text, seed=values.seed + number, **shared)
        for text in texts
        for number in range(values.videos_per_prompt)
    ]


def _with_first_frame(
    values: flags.FlagValues, requests: Sequence[Any], pipeline: Any, *, shown: bool
) -> list[Any]:
    """Returns requests with a held-out first frame where one is named; tells how it is fitted."""
    from mimir_jax.sampling import first_frames

    if values.first_frame is not None:
        first_frames.check_reads(pipeline.system)
    if "first_frame" not in pipeline.system.request_fields:
        return list(requests)
    requests = first_frames.read_heldout(values.first_frame, requests, pipeline)
    if shown and requests and values.extend is None:  # else it is the first of the repeated frames
        note = first_frames.describe(values.first_frame, requests[0].first_frame, pipeline)
        if note:
            print(note, file=sys.stderr)
    return requests


def _config(values: flags.FlagValues) -> SampleConfig:
    from mimir_jax.sampling import prompts

    instructions = None
    if values.instructions is not None:
        lines = _read(values.instructions, "instruction")
        instructions = tuple(prompts.check(lines, "instruction"))
    return dataclass_flags.read(values, SampleConfig, instructions=instructions)


def _read(path: str, kind: Any) -> list[str]:
    from mimir_jax.sampling import prompts

    return prompts.read(files.expand_path(path), kind)


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
