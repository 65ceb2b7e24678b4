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

from absl import flags

from mimir_jax.cli import command, dataclass_flags, host, shared_flags
from mimir_jax.sampling.config import SHIPPED, SampleConfig

WORDS = ""
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    _define_checkpoint(values)
    _define_prompts(values)
    _define_videos(values)
    _define_clips(values)
    _define_output(values)
    dataclass_flags.define(values, SampleConfig, skip=("instructions",))
    flags.DEFINE_string(
        "instructions", None,
        "File with one LLM instruction per line, instead of those used in training.", values,
    )  # fmt: skip
    flags.DEFINE_bool("show_answers", False, "Print the LLM's answers to each prompt.", values)
    shared_flags.define_mesh(values)
    shared_flags.define_processes(values)


def main(args: command.Arguments) -> None:
    """Samples and writes, or describes."""
    host.prepare_host()
    from mimir_jax.parallel import distributed

    launch = distributed.Launch(**shared_flags.processes(args.flags))
    with distributed.session(launch, args.shared()):
        from mimir_jax.cli import sample_run

        if args.flags.describe or args.flags.question is not None:
            sample_run.describe(args.flags)
        else:
            sample_run.sample(args.flags)


def _define_checkpoint(values: flags.FlagValues) -> None:
    """Defines the flags of the checkpoint to sample."""
    flags.DEFINE_string(
        "checkpoint", SHIPPED,
        "Run, or folder of a published pipeline; by default the miniature that ships with the "
        "package.", values,
    )  # fmt: skip
    _define_integer(values, "step", None, "Kept step of the run; by default the newest.", least=0)
    flags.DEFINE_bool("start", False, "Sample with the initial parameters of the run.", values)


def _define_prompts(values: flags.FlagValues) -> None:
    """Defines the flags of prompts, and images and documents in them."""
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


def _define_videos(values: flags.FlagValues) -> None:
    """Defines the flags of videos to edit or continue, and long videos."""
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
    text = "Last frames of --extend that the new clip repeats, 8N+1."
    _define_integer(values, "extend_frames", 9, text, least=1)
    text = "Frames of a video longer than --frames, 8N+1, by overlapping windows."
    _define_integer(values, "length", None, text, least=1)
    flags.DEFINE_float(
        "window_overlap", 0.5, "Share of a window of a long video that overlaps with the next.",
        lower_bound=0.0, upper_bound=0.99, flag_values=values,
    )  # fmt: skip


def _define_clips(values: flags.FlagValues) -> None:
    """Defines the flags of clips to reconstruct or describe, and stories."""
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
    _define_integer(values, "pages", 3, "Maximum number of clips of a story.", least=1)
    flags.DEFINE_string(
        "detokenizer", None,
        "Run of divot that decodes the clip tokens of a run of divot_llm; by default the one that "
        "it was trained with.", values,
    )  # fmt: skip


def _define_output(values: flags.FlagValues) -> None:
    """Defines the flags of networks, and the videos to write."""
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
    _define_integer(values, "seed", 0, "Seed of the first video of each prompt.", least=0)
    _define_integer(
        values, "videos_per_prompt", 1, "Videos per prompt, of successive seeds.", least=1
    )
    text = "Videos at a time; by default enough to keep all devices busy."
    _define_integer(values, "batch_size", None, text, least=1)


def _define_integer(
    values: flags.FlagValues, name: str, default: int | None, text: str, *, least: int
) -> None:
    flags.DEFINE_integer(name, default, text, lower_bound=least, flag_values=values)
