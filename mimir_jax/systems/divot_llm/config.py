# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of Divot's LLM."""

import dataclasses
from typing import Any, ClassVar, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.data.config import ClipWindowConfig, DataConfig
from mimir_jax.models.config import LoraConfig
from mimir_jax.models.divot.config import MAX_CLIPS, AgentConfig, ClipSequenceConfig

_AROUND_CLIPS = 4  # BOS, both delimiters of a video, EOS


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivotLLMSystemConfig(SystemConfig):
    """Train an LLM to describe clips and to write them.

    A frozen clip tokenizer encodes clips outside the step. `optimizer.freeze` selects frozen parts:
    `^head/` when tuning for comprehension, `^projector/` for generation.

    Attributes:
        model: The LLM with projector and head.
        lora: Adapters on the LLM; `lora.train` names what trains whole beside them.
        tokenizer_path: Folder of the tokenizer of text; `package:NAME` ships with mimir_jax. Where
            it lacks the delimiters and index tokens of clips, they take the last ids.
        clip_tokenizer_path: Folder of the tokenizer of clips: its weights, or a run of `divot`.
        clip_frames: Frames of a clip. A video has as many clips as fit in `data.frames`, and at
            least one.
        clip_windows: Where the clips of a stored video lie (D-U18). `cut` takes `data.frames`
            from where `data.window` says. `follow` and `fill` read the whole video: a long
            one in as many clips, spread over it; a shorter one in consecutive clips, the last one
            stretched (`follow`), or in as many as a long one, their frames closer together
            (`fill`). `data.short_clips` then has no effect.
        max_length: Tokens of a row.
        comprehension: Weight of rows that describe a video.
        generation: Weight of rows that write the first clip of a video.
        story: Weight of rows that tell a story up to one of its clips. Where `data.toyworld.pages`
            makes videos stories, the other rows have one of their clips.
        form: `pretrain` has captions alone; `instruct` has instructions and questions, and trains
            the answers and the begin and end tokens of clips.
        text_weight: Weight of the cross-entropy of text.
        clip_weight: Weight of the loss of clip tokens.
        heldout_clips: Videos of the held-out loss, each read and written.
        examples: Held-out videos that the examples describe.
        answer_length: Largest number of tokens of a description.
    """

    companions: ClassVar[tuple[str, ...]] = ("clip_tokenizer_path",)
    is_agent: ClassVar[bool] = True

    kind: Literal["divot_llm"] = "divot_llm"
    model: AgentConfig = AgentConfig()
    lora: LoraConfig = LoraConfig()
    tokenizer_path: str | None = None
    clip_tokenizer_path: str | None = None
    clip_frames: int = 16
    clip_windows: Literal["cut", "follow", "fill"] = "cut"
    max_length: int = 1400
    comprehension: float = 1.3
    generation: float = 1.0
    story: float = 0.0
    form: Literal["pretrain", "instruct"] = "pretrain"
    text_weight: float = 1.0
    clip_weight: float = 1.0
    heldout_clips: int = 32
    examples: int = 6
    answer_length: int = 64

    def __post_init__(self):
        for name in ("clip_frames", "max_length", "heldout_clips", "answer_length"):
            checks.within(self, name, 1)
        for name in ("comprehension", "generation", "story"):
            checks.within(self, name, 0)
        for name in ("text_weight", "clip_weight", "examples"):
            checks.within(self, name, 0)
        checks.check(
            self,
            self.comprehension + self.generation + self.story > 0,
            "{comprehension}, {generation} or {story} must be above 0",
        )
        checks.check(
            self,
            self.max_length <= self.model.llm.rope.max_length,
            "{max_length} must be at most {model.llm.rope.max_length}, the positions of the LLM",
        )
        checks.check(
            self,
            not self.story or self.form == "instruct",
            "{form} must be 'instruct' to tell stories, which are asked for",
        )

    @property
    def makes_videos(self) -> bool:
        """Whether it writes clips of prompts, which a de-tokenizer draws."""
        return self.generation > 0

    @property
    def feature_settings(self) -> dict[str, Any]:
        """What makes the tokens of clips."""
        return {
            "clips": self.clip_tokenizer_path,
            "frames": self.clip_frames,
            "windows": self.clip_windows,
        }

    @property
    def network(self) -> AgentConfig:
        """The LLM with projector and head."""
        return self.model

    def num_clips(self, frames: int) -> int:
        """Returns the number of clips of a video."""
        return max(1, frames // self.clip_frames)

    def windows(self, data: DataConfig) -> ClipWindowConfig | None:
        """Returns the windows that stored videos are read in; None where they are cut."""
        if self.clip_windows == "cut":
            return None
        return ClipWindowConfig(
            fps=data.fps,
            frames=self.clip_frames,
            stride=1,
            max_windows=self.num_clips(data.frames),
            short=self.clip_windows,
        )

    def sequence(self, frames: int) -> ClipSequenceConfig:
        """Returns the shape of the rows of videos of `frames` frames."""
        return ClipSequenceConfig(
            max_length=self.max_length,
            num_queries=self.model.num_queries,
            token_width=self.model.token_width,
            max_inputs=self.num_clips(frames),
        )

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the clips of the run's videos fit in a row."""
        clips = self.num_clips(run.data.frames)
        data = run.data
        pages = data.toyworld.pages if data.source == "toyworld" else 1
        checks.check(
            run,
            pages == clips if pages > 1 else not self.story,
            "{data.toyworld.pages} must be the clips of {system.clip_frames} frames in a video for "
            "stories",
        )
        checks.check(
            run,
            clips <= MAX_CLIPS,
            f"{{data.frames}} must hold at most {MAX_CLIPS} clips of {{system.clip_frames}} frames",
        )
        cut = self.clip_windows == "cut"
        checks.check(
            run,
            cut or data.source != "toyworld",
            "{system.clip_windows} must be 'cut' for Toyworld, which has no stored videos",
        )
        checks.check(
            run,
            cut or data.frames >= self.clip_frames,
            "{data.frames} must hold a clip of {system.clip_frames} frames where "
            "{system.clip_windows} is not 'cut'",
        )
        least = clips * (self.model.num_queries + 2) + _AROUND_CLIPS
        checks.check(
            run,
            self.max_length > least,
            f"{{system.max_length}} must be above {least}, the tokens of {clips} clips",
        )
