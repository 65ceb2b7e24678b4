# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of the suites: one dataclass per sub-command of `evaluate`, free of JAX.

Fields are the flags of the sub-command; messages call them so.
"""

import dataclasses
from typing import Literal

from mimir_jax.errors import InputError
from mimir_jax.sampling.config import SHIPPED

STYLES = ("short", "paraphrase", "coarse", "long")
"""Styles of narrow Toyworld captions: `data.toyworld.captions.STYLES` in the order of reports."""

DEMOS = ("names", "subjects", "first_frames")
"""Demonstrations of the suite `grounding`."""

WORDINGS = ("narrow", "wide", "reserved")
"""Wordings of Toyworld captions, `data.toyworld.language.WORDINGS`; narrow ones mix the styles."""

Variety = Literal["varied", "plain", "single"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """The checkpoint that a suite evaluates.

    Attributes:
        checkpoint: Run, or folder of a published pipeline; by default the miniature that ships with
            the package.
        step: Kept step of the run; by default the newest.
        start: Evaluate the initial parameters of the run.
        out: Results folder; by default RUN/evaluation/SUITE-STEP.
    """

    checkpoint: str = SHIPPED
    step: int | None = None
    start: bool = False
    out: str | None = None

    def __post_init__(self):
        if not self.checkpoint:
            raise InputError("--checkpoint must name a run or the folder of a pipeline, got ''")
        _require_at_least(self, "step", 0)
        if self.start and self.step is not None:
            raise InputError(f"--start excludes --step, got --step {self.step}; leave one out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig(CheckpointConfig):
    """A checkpoint and the videos that a suite generates with it.

    Attributes:
        seed: Seed of the first video of each prompt.
        batch_size: Videos at a time; by default enough to keep all devices busy.
    """

    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.seed < 2**64:
            raise InputError(
                f"--seed must be within 0..{2**64 - 1}, got {self.seed}; choose another"
            )
        _require_at_least(self, "batch_size", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScenesConfig(CheckpointConfig):
    """A checkpoint and the held-out scenes of Toyworld that a suite judges it by.

    Attributes:
        split: Scenes: `heldout` combinations, which training never shows, or `validation`.
        variety: Variety of the scenes; by default that of the run's training.
        scenes: Number of scenes.
    """

    split: Literal["heldout", "validation"] = "heldout"
    variety: Variety | None = None
    scenes: int

    def __post_init__(self):
        super().__post_init__()
        _require_at_least(self, "scenes", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyworldEvalConfig(ScenesConfig, GenerationConfig):
    """Generate videos for Toyworld prompts and judge them exactly.

    Attributes:
        scenes: Minimum number of scenes per category, where the split has enough.
        styles: Styles of narrow captions, or wordings; every scene has a prompt in each.
        seeds: Videos per prompt.
    """

    scenes: int = 16
    styles: tuple[str, ...] = STYLES
    seeds: int = 1

    def __post_init__(self):
        super().__post_init__()
        _require_at_least(self, "seeds", 1)
        _require_among(self, "styles", (*STYLES, *WORDINGS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionEvalConfig(ScenesConfig, GenerationConfig):
    """Reconstruct held-out clips of Toyworld from their tokens, and judge them exactly.

    Each reconstruction is compared with the round trip of its clip through the VAE, the ceiling,
    and with a video sampled from the tokens of a mid-grey clip, the chance level.

    Attributes:
        checkpoint: Run of `divot`.
        seed: Seed of the first video.
    """

    scenes: int = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroundingEvalConfig(GenerationConfig):
    """Generate videos from images and documents of Toyworld, and judge what these brought.

    Every held-out scene is asked for with the image or document, without it and in words.

    Attributes:
        checkpoint: Run of the second stage of `vimi`.
        demos: `names`: shapes with invented names that a document explains; `subjects`: objects
            given by images; `first_frames`: videos that continue a frame.
        variety: Variety of the scenes; by default that of the run's training.
        scenes: Number of scenes of each.
        seed: Seed of the first video.
    """

    demos: tuple[str, ...] = DEMOS
    variety: Variety | None = None
    scenes: int = 200

    def __post_init__(self):
        super().__post_init__()
        _require_at_least(self, "scenes", 1)
        _require_among(self, "demos", DEMOS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComprehensionEvalConfig(ScenesConfig):
    """Describe held-out Toyworld clips with Divot's LLM, and judge the texts exactly.

    Attributes:
        checkpoint: Run of `divot_llm`.
    """

    scenes: int = 300

    def __post_init__(self):
        super().__post_init__()
        _require_no_start(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionsEvalConfig(CheckpointConfig):
    """Answer a file of questions about videos with Divot's LLM, and score the answers.

    Questions with candidates are multiple-choice, as those of MVBench; others are open-ended, as
    those of MSVD-QA and ActivityNet-QA. The replies are exported for a judge of your own.

    Attributes:
        checkpoint: Run of `divot_llm` with `form=instruct`.
        questions: File of questions, JSON or JSON lines.
        answers: File of their answers by `question_id`, where the questions have none.
        videos: Folder of the videos.
    """

    questions: str | None = None
    answers: str | None = None
    videos: str | None = None

    def __post_init__(self):
        super().__post_init__()
        _require_no_start(self)
        _require_named(self, questions="the file of questions", videos="their folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoriesEvalConfig(CheckpointConfig):
    """Generate held-out Toyworld stories with Divot's LLM, and judge texts and clips exactly.

    Attributes:
        checkpoint: Run of `divot_llm` that was tuned on stories.
        variety: Variety of the scenes; by default that of the run's training.
        stories: Number of stories.
        pages: Clips of a story, at least 3.
        seed: Seed of the first story.
    """

    variety: Variety | None = None
    stories: int = 50
    pages: int = 3
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        _require_no_start(self)
        for name, least in (("stories", 1), ("pages", 3), ("seed", 0)):
            _require_at_least(self, name, least)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariancesEvalConfig(ScenesConfig, GenerationConfig):
    """Sweep the variance with which Divot's LLM draws clip tokens, and measure their likelihood.

    Clips of held-out Toyworld prompts are drawn with variances times 0, 0.1, 0.3 and 1, and judged
    exactly. The negative log-likelihood of true clips is per dimension of their tokens.

    Attributes:
        checkpoint: Run of `divot_llm` with a mixture head.
        scenes: Minimum number of scenes per category, where the split has enough.
    """

    scenes: int = 16

    def __post_init__(self):
        super().__post_init__()
        _require_no_start(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossEvalConfig(CheckpointConfig):
    """Measure the held-out loss of a run.

    Attributes:
        checkpoint: Run.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsEvalConfig(ScenesConfig):
    """Measure how much captions in each wording tell a run: the loss with them and without any.

    Attributes:
        checkpoint: Run that generates videos from text alone.
        scenes: Number of scenes, each with a caption in every wording.
        frames: Frames of the clips; by default those of the run's training.
    """

    scenes: int = 48
    frames: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.frames is not None:
            _require_at_least(self, "frames", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeEvalConfig(ScenesConfig):
    """Read attributes of Toyworld scenes from the tokens of their clips by linear classifiers.

    Attributes:
        checkpoint: Run of `divot` or `clip_captioning`, or weights with a tokenizer of clips.
        variety: Variety of the scenes.
        scenes: Number of scenes to score.
        fit_scenes: Number of training scenes that the classifiers are fitted to.
    """

    variety: Variety = "single"
    scenes: int = 500
    fit_scenes: int = 1000

    def __post_init__(self):
        super().__post_init__()
        _require_at_least(self, "fit_scenes", 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignerEvalConfig(ScenesConfig):
    """Measure which shape and colour the tokens of VIMI's aligner tell, without any video.

    Held-out scenes with one kind of object are asked for in words, with an image in place of shape
    and colour, and with an invented name that a document explains.

    Attributes:
        checkpoint: Run of `aligner`, or of `vimi` with an aligner.
        scenes: Number of scenes; those with several kinds of objects are left out.
    """

    scenes: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class VBenchEvalConfig(GenerationConfig):
    """Generate videos for VBench's prompts, named as VBench expects.

    Attributes:
        prompts: VBench's `VBench_full_info.json`, or a text file with one prompt per line.
        enhanced: Text file with a longer version of each prompt, line by line; the model reads
            these, and the files keep the names of the short prompts.
        videos_per_prompt: Videos per prompt.
    """

    prompts: str | None = None
    enhanced: str | None = None
    videos_per_prompt: int = 5

    def __post_init__(self):
        super().__post_init__()
        _require_named(self, prompts="VBench's file of prompts")
        _require_at_least(self, "videos_per_prompt", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesEvalConfig(CheckpointConfig):
    """Plot the features of Mimir's two text encoders and of their fusion.

    Attributes:
        checkpoint: Run of a Mimir that reads an LLM.
        prompts: File with one prompt per line; by default 50 held-out captions of Toyworld.
        runs: Sampled answers to the first prompt.
    """

    prompts: str | None = None
    runs: int = 50

    def __post_init__(self):
        super().__post_init__()
        _require_at_least(self, "runs", 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UCF101EvalConfig(GenerationConfig):
    """Generate clips of action classes, and score them as UCF101 zero-shot: FVD and IS.

    The share of clips per class is that of the real videos. FVD compares with one random window of
    each real video. IS is over 10 splits.

    Attributes:
        prompts: JSON object with a descriptive prompt per class name.
        videos: Folder of the real videos, with one folder per class.
        video_list: Text file with the real videos to use, a path below `--videos` per line, such
            as `trainlist01.txt`; by default all.
        extractor: Folder of the feature network for FVD, such as I3D; without it there is no FVD.
        classifier: Folder of the classifier for IS, such as C3D; without it there is no IS.
        clips: Number of generated clips.
        clip_frames: Frames of a clip.
        crop: Size of generated and real clips: `square`, 256 x 256, or `native`, 320 x 240.
        retrieve: Memory of `mimir-jax index`; each prompt gets its best document. It must not hold
            frames of UCF101. By default there is none.
        reference_fps: Rate of the real windows; by default every stored frame.
        seed: Seed of the first video, and of the windows.
    """

    prompts: str | None = None
    videos: str | None = None
    video_list: str | None = None
    extractor: str | None = None
    classifier: str | None = None
    clips: int = 10_000
    clip_frames: int = 16
    crop: Literal["square", "native"] = "square"
    retrieve: str | None = None
    reference_fps: float | None = None

    def __post_init__(self):
        super().__post_init__()
        _require_named(self, prompts="the prompts of classes", videos="the folder of real videos")
        _require_one(self, "extractor", "classifier")
        _require_read(self, "reference_fps", "extractor")
        for name in ("clips", "clip_frames"):
            _require_at_least(self, name, 1)
        _require_above_zero(self, "reference_fps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MSRVTTEvalConfig(GenerationConfig):
    """Generate a clip for a random caption of each test video, and score CLIPSIM and FVD.

    Attributes:
        captions: MSR-VTT's JSON of videos and sentences, or an object with `video` and `caption`
            (or `captions`) per line.
        clip: Folder of the CLIP for CLIPSIM; without it there is no CLIPSIM.
        extractor: Folder of the feature network for FVD; without it there is no FVD.
        videos: Folder of the real videos, for FVD.
        clips: Number of videos, the first ones; by default all.
        clip_frames: Frames of a clip.
        reference_fps: Rate of the real windows; by default every stored frame.
        seed: Seed of the first video, of the captions and of the windows.
    """

    captions: str | None = None
    clip: str | None = None
    extractor: str | None = None
    videos: str | None = None
    clips: int | None = None
    clip_frames: int = 16
    reference_fps: float | None = None

    def __post_init__(self):
        super().__post_init__()
        _require_named(self, captions="the file of captions")
        _require_one(self, "clip", "extractor")
        if self.extractor and not self.videos:
            raise InputError("--videos must name the folder of real videos for FVD, got none")
        for name in ("videos", "reference_fps"):
            _require_read(self, name, "extractor")
        for name in ("clips", "clip_frames"):
            _require_at_least(self, name, 1)
        _require_above_zero(self, "reference_fps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubjectsEvalConfig(GenerationConfig):
    """Generate clips of given subjects, and score fidelity, text and motion as in DreamBench.

    The model gets the first image of each subject by name; fidelity is measured against all of
    them.

    Attributes:
        checkpoint: Run of the second stage of `vimi`, which reads images.
        prompts: A JSON object per line: `prompt` with a mark `<img>` for each subject, `caption`
            with words in their place, and the list `subjects` of their folders.
        images: Folder with one folder of images per subject.
        clip: Folder of the CLIP for CLIP-I and CLIP-T; without it there is neither.
        dino: Folder of the DINO network; without it there is no DINO score.
        samples_per_prompt: Clips per prompt.
        clip_frames: Frames of a clip.
        seed: Seed of the first clip of each prompt.
    """

    prompts: str | None = None
    images: str | None = None
    clip: str | None = None
    dino: str | None = None
    samples_per_prompt: int = 4
    clip_frames: int = 16

    def __post_init__(self):
        super().__post_init__()
        _require_named(self, prompts="the file of prompts", images="the folder of subjects")
        _require_one(self, "clip", "dino")
        for name in ("samples_per_prompt", "clip_frames"):
            _require_at_least(self, name, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare the results of several runs, given as arguments.

    Attributes:
        suite: Suite of the results.
        out: Folder for the comparison; by default it is only printed.
    """

    suite: Literal["toyworld", "loss", "probe"] = "toyworld"
    out: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VBenchScoresConfig:
    """Print VBench's result files, given as arguments, next to the published scores.

    Attributes:
        name: Name of the row.
    """

    name: str = "ours"


def _require_no_start(config: CheckpointConfig) -> None:
    if config.start:
        raise InputError("--start must be left out for an LLM of clips; name a trained run")


def _require_at_least(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if value is not None and value < least:
        raise InputError(f"--{name} must be at least {least}, got {value}")


def _require_among(config: object, name: str, known: tuple[str, ...]) -> None:
    values = getattr(config, name)
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        got = unknown[0] if unknown else "none"
        raise InputError(f"--{name} must be of {', '.join(known)}, got {got}")


def _require_named(config: object, **what: str) -> None:
    for name, meaning in what.items():
        if not getattr(config, name):
            raise InputError(f"--{name} must name {meaning}, got none")


def _require_one(config: object, *names: str) -> None:
    if not any(getattr(config, name) for name in names):
        flags = " or ".join(f"--{name}" for name in names)
        raise InputError(f"{flags} must name the folder of a network that measures, got none")


def _require_read(config: object, name: str, reader: str) -> None:
    if getattr(config, name) is not None and not getattr(config, reader):
        raise InputError(
            f"--{name} must be left out without --{reader}, which alone reads it, got "
            f"{getattr(config, name)}"
        )


def _require_above_zero(config: object, name: str) -> None:
    value = getattr(config, name)
    if value is not None and not 0 < value < float("inf"):
        raise InputError(f"--{name} must be above 0, got {value}")
