# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of a run: data, text, task, optimizer, mesh and loop."""

import dataclasses
import re
import typing
from typing import Any, Literal

from mimir_jax.config.models import (
    ABLATIONS,
    DiffusionConfig,
    LLMConfig,
    LoraConfig,
    MimirConfig,
    T5Config,
    VAEConfig,
    require,
    require_within,
)

Ablation = Literal[
    "baseline", "decoder_only", "norm", "norm_ss", "zeroconv", "zeroconv_ss", "mimir"
]
assert set(typing.get_args(Ablation)) == set(ABLATIONS)

INSTRUCTIONS = (
    "List every object in the video and how many there are.",
    "Describe the colour and the attributes of every object.",
    "Describe where the objects are in relation to each other.",
    "Describe the actions in order and how the light changes over time.",
)
"""The four instruction prompts of the semantic stabilizer (M-U12)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where clips come from, and their geometry.

    Attributes:
        source: `toyworld` is embedded and needs no files; `folder` reads the videos and captions
            under `path`; `tfds` reads dataset `name` in ArrayRecord format under `path`.
        num_scenes: Training scenes of Toyworld; a finite pool lets frozen features be reused.
        caption_style: Toyworld captions: short, long, coarse, paraphrase, or mixed (all but
            coarse); wide, in other words; or both, mixed and wide by turns of chance.
        fps: Frames a second of a record, picked by time stamp; Toyworld has 8.
        scenery: Of Toyworld: `varied` backgrounds, light and camera; `plain`, objects alone;
            `single`, one kind of object alone, mostly large, in few places, doing one thing.
        source_fps: Frame rate of the stored videos of a tfds dataset, which has no time stamps.
        start: Window of a longer clip: `random` for every pass, or the `first` frames.
        short: Videos too short for a record: `skip` them, or `repeat` their last frame.
        num_workers: Decoding processes; 0 decodes on threads of the training process.
        features: Folder that launch/prepare.py wrote for this source; training then reads latents
            and text features from it. None runs the frozen networks as it goes.
    """

    source: Literal["toyworld", "folder", "tfds"] = "toyworld"
    path: str | None = None
    name: str | None = None
    video_key: str = "video"
    caption_key: str = "caption"
    frames: int = 17
    height: int = 64
    width: int = 64
    fps: float = 8.0
    num_scenes: int = 1 << 30
    caption_style: Literal["short", "long", "coarse", "paraphrase", "mixed", "wide", "both"] = (
        "mixed"
    )
    scenery: Literal["varied", "plain", "single"] = "varied"
    source_fps: float | None = None
    start: Literal["random", "first"] = "random"
    short: Literal["skip", "repeat"] = "skip"
    num_workers: int = 0
    features: str | None = None

    def __post_init__(self):
        for name in ("frames", "height", "width", "num_scenes"):
            require_within(f"data.{name}", getattr(self, name), 1)
        require_within("data.fps", self.fps, 0, above=True)
        require_within("data.num_workers", self.num_workers, 0)
        nearest = max(1, round((self.frames - 1) / 8)) * 8 + 1
        require(
            self.frames % 8 == 1,
            f"data.frames must be 8N+1 so that the VAE returns as many frames as it reads, got "
            f"{self.frames}; the nearest is {nearest}, set it with --config.data.frames",
        )
        require(
            self.source != "toyworld" or self.fps == 8,
            f"data.fps must be 8 for Toyworld, whose scenes move at that rate, got {self.fps}; "
            "leave it out",
        )
        require(
            self.source == "toyworld" or self.path is not None,
            f"data.path must name a folder when data.source is {self.source!r}, got None; "
            "set it with --config.data.path",
        )
        require(
            self.source != "tfds" or self.name is not None,
            "data.name must name the dataset when data.source is 'tfds', got None; "
            "set it with --config.data.name",
        )
        require(
            self.features is None or self.source == "toyworld" or self.start == "first",
            f"data.start must be 'first' for prepared features, which hold one window of a clip, "
            f"got {self.start!r}; set it with --config.data.start=first",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Caption to features: the frozen encoders and what is read from them.

    Attributes:
        t5_path, llm_path: Folders with weights, config and tokenizer; `package:NAME` is a folder
            that ships with mimir_jax. Their widths must be those of the fuser.
        length: Positions of both feature sequences, padded or truncated on the right (M-U4).
        llm_layer: Hidden state read from the LLM, -1 is the last after its norm (M-U2).
        llm_tokens: LLM states that enter the sum: of the prompt, of sampled answers, or the prompt
            followed by an answer (M-U3).
        num_answers: Sampled answers kept per caption; training draws one each step (M-U3).
        answer_length: New tokens per answer; None fills what the prompt leaves of `length`.
        answer_temperature, answer_top_p: Decoding of answers (M-U28).
        system: System turn before the caption's and the instructions' turns; None has none (M-U27).
        instructions: One instruction per stabilizer token (M-U12).
        instruction_length: Tokens of an instruction turn; its caption is cut on the right (M-U4).
        instruction_prompt: Whether the caption accompanies each instruction (M-U13).
        null: Text of the unconditional branch: zeros, or the features of an empty caption (M-U17).
    """

    t5_path: str | None = None
    llm_path: str | None = None
    length: int = 226
    llm_layer: int = -1
    llm_tokens: Literal["query", "answer", "query+answer"] = "query+answer"
    num_answers: int = 4
    answer_length: int | None = None
    answer_temperature: float = 0.8
    answer_top_p: float = 0.9
    system: str | None = None
    instructions: tuple[str, ...] = INSTRUCTIONS
    instruction_prompt: Literal["caption+instruction", "instruction"] = "caption+instruction"
    instruction_length: int = 320
    null: Literal["zero", "empty"] = "zero"

    def __post_init__(self):
        for name in ("num_answers", "length", "instruction_length", "answer_length"):
            require_within(f"task.text.{name}", getattr(self, name), 1)
        require_within("task.text.answer_temperature", self.answer_temperature, 0)
        require_within("task.text.answer_top_p", self.answer_top_p, 0, 1, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Sampling from noise (M-U24).

    Attributes:
        dynamic: How guidance changes over the steps: `off` keeps it.
        previous: Where a step leads: one stride down, as in the `reference`, or to the next point
            of the `grid` of visited timesteps.
    """

    name: Literal["ddim", "dpm"] = "dpm"
    steps: int = 50
    guidance: float = 6.0
    dynamic: Literal["off", "reference", "smooth"] = "smooth"
    previous: Literal["reference", "grid"] = "reference"

    def __post_init__(self):
        require_within("task.sampler.steps", self.steps, 1, 1000)
        require_within("task.sampler.guidance", self.guidance, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextToVideoConfig:
    """Train a video diffusion model on text: Mimir, its ablation rows, or the bare base.

    Attributes:
        ablation: Row of Mimir's Table 3, which switches off parts of `model`; None takes `model` as
            it is.
        lora: Adapters in place of the DiT's own parameters; fuser and stabilizer train whole.
        caption_dropout: Share of samples trained without text, all parts together (M-U18).
        heldout_clips: Clips of the fixed-noise held-out loss.
        sample_prompts: Held-out prompts drawn on every sample sheet; 0 draws none.
    """

    kind: Literal["text_to_video"] = "text_to_video"
    model: MimirConfig = MimirConfig()
    ablation: Ablation | None = "mimir"
    lora: LoraConfig = LoraConfig()
    vae: VAEConfig = VAEConfig()
    vae_path: str | None = None
    text: TextConfig = TextConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    sampler: SamplerConfig = SamplerConfig()
    caption_dropout: float = 0.1
    heldout_clips: int = 32
    loss_bands: int = 5
    sample_prompts: int = 8

    def __post_init__(self):
        model = self.model
        pairs = (
            ("dit.in_channels", model.dit.in_channels, "vae.latent_channels",
             self.vae.latent_channels),
            ("stabilizer.num_tokens", model.stabilizer.num_tokens, "len(text.instructions)",
             len(self.text.instructions)),
        )  # fmt: skip
        for name, value, other, expected in pairs:
            require(
                value == expected,
                f"{name} must equal {other}, got {value} and {expected}; "
                "set either with --config.task.*",
            )
        for name, least in (("heldout_clips", 1), ("loss_bands", 1), ("sample_prompts", 0)):
            require_within(f"task.{name}", getattr(self, name), least)
        require_within("task.caption_dropout", self.caption_dropout, 0, 1)
        _ = self.network  # raises where row and model contradict each other

    def with_dit(self, **fields: Any) -> "TextToVideoConfig":
        """Returns this task with other `fields` of its video transformer."""
        return dataclasses.replace(self, model=self.model.with_dit(**fields))

    @property
    def network(self) -> MimirConfig:
        """The model of the chosen ablation row."""
        return self.model if self.ablation is None else self.model.with_ablation(self.ablation)

    def check_geometry(self, data: DataConfig) -> None:
        """Raises `ValueError` unless the model can make clips of the size of `data`."""
        step = self.vae.spatial_compression * self.model.dit.patch
        for name in ("height", "width"):
            size = getattr(data, name)
            require(
                size % step == 0,
                f"data.{name} must be a multiple of {step} (VAE compression x patch), got {size}; "
                f"the nearest is {max(1, round(size / step)) * step}, "
                f"set it with --config.data.{name}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAETaskConfig:
    """Train the causal VAE: L1 and squared error, L1 of image gradients, and KL.

    The base adds LPIPS and a 3D GAN loss, whose networks cannot be had offline.

    Attributes:
        chroma_weight: Weight of colour errors (what the mean over RGB leaves) against brightness;
            colour is learned late without it, as most pixels are muted.
        crop_size, crop_frames: Train on random crops of this height and width and this many
            frames, cheaper and more varied; None trains on whole clips.
    """

    kind: Literal["vae"] = "vae"
    model: VAEConfig = VAEConfig()
    mse_weight: float = 2.0
    chroma_weight: float = 3.0
    gradient_weight: float = 0.5
    kl_weight: float = 1e-6
    crop_size: int | None = None
    crop_frames: int | None = None
    heldout_clips: int = 8

    def __post_init__(self):
        require_within("task.heldout_clips", self.heldout_clips, 1)

    def check_geometry(self, data: DataConfig) -> None:
        """Raises `ValueError` unless the VAE can encode clips of the size of `data`."""
        step = self.model.spatial_compression
        for name in ("height", "width"):
            size = getattr(data, name)
            require(
                size % step == 0,
                f"data.{name} must be a multiple of the VAE compression {step}, got {size}; "
                f"set it with --config.data.{name}",
            )
            crop = self.crop_size or step
            require(
                crop % step == 0 and crop <= size,
                f"task.crop_size must be a multiple of {step} within data.{name}={size}, got "
                f"{crop}; set it with --config.task.crop_size",
            )
        frames = self.crop_frames or 1
        require(
            frames % 8 == 1 and frames <= data.frames,
            f"task.crop_frames must be 8N+1 within data.frames={data.frames}, got {frames}; "
            "set it with --config.task.crop_frames",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageTaskConfig:
    """Train a small text model on the texts of Toyworld.

    `t5` learns to fill masked caption tokens; `llm` learns chat turns: caption to elaboration, and
    caption with one of `INSTRUCTIONS` to its answer.
    """

    kind: Literal["t5", "llm"] = "t5"
    model: T5Config | LLMConfig = T5Config()
    tokenizer_path: str = "package:tiny/t5"
    length: int = 64
    mask_rate: float = 0.25
    heldout_texts: int = 128

    def __post_init__(self):
        require_within("task.heldout_texts", self.heldout_texts, 1)
        require_within("task.length", self.length, 1)
        require_within("task.mask_rate", self.mask_rate, 0, 1)

    def check_geometry(self, data: DataConfig) -> None:
        """Text has no geometry."""


TaskConfig = TextToVideoConfig | VAETaskConfig | LanguageTaskConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer with clipping, groups and EMA (M-U20).

    Attributes:
        name: `adamw`; `adafactor`, whose second moment of a matrix is a row and a column; or
            `muon`, which makes the momentum of the blocks' matrices orthogonal (AdamW elsewhere).
        b2: Decay of the second moment; Adafactor starts lower and rises to it.
        momentum_dtype: Of the first moment. Adafactor keeps none with `b1` 0.
        offload: Keep the moments in host memory and bring them in for every step.
        schedule: `constant` after warm-up, or `cosine` down to `end_fraction`.
        lr_scale: Pairs of a regular expression on the `/`-joined parameter path and a factor of the
            learning rate; the first match counts.
        freeze: Regular expressions of parameter paths that do not train (M-U19).
        clip_norm: Global gradient norm limit over the trained parameters.
        accumulate: Micro-batches per step.
        ema_decay: Decay of the parameter average; 0 keeps none.
    """

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 100
    end_fraction: float = 0.05
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 1e-4
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    offload: bool = False
    clip_norm: float = 1.0
    accumulate: int = 1
    lr_scale: tuple[tuple[str, float], ...] = ()
    freeze: tuple[str, ...] = ()
    ema_decay: float = 0.0

    def __post_init__(self):
        for name in ("learning_rate", "eps", "clip_norm"):
            require_within(f"optimizer.{name}", getattr(self, name), 0, above=True)
        for name in ("warmup_steps", "weight_decay"):
            require_within(f"optimizer.{name}", getattr(self, name), 0)
        for name in ("b1", "b2", "ema_decay"):
            require_within(f"optimizer.{name}", getattr(self, name), 0, 1, below=True)
        require_within("optimizer.end_fraction", self.end_fraction, 0, 1)
        require_within("optimizer.accumulate", self.accumulate, 1)
        patterns = {"freeze": self.freeze, "lr_scale": [pattern for pattern, _ in self.lr_scale]}
        for name, pattern in ((name, p) for name, several in patterns.items() for p in several):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"optimizer.{name} must hold regular expressions, got {pattern!r} ({error}); "
                    f"set it with --config.optimizer.{name}"
                ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Sizes of the mesh axes (one may be -1) and the sharding table of `parallel.rules`.

    Attributes:
        sequence: How attention deals with a sequence split over `context`: `ulysses` gives each
            device the whole sequence for some heads, `ring` passes keys and values around.
        shard_frozen: Split the frozen T5 and LLM over the devices of each process, which keeps
            them whole on its first device otherwise.
    """

    data: int = -1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    strategy: Literal["fsdp", "replicated"] = "fsdp"
    sequence: Literal["ulysses", "ring"] = "ulysses"
    shard_frozen: bool = False

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Sizes in the order of `parallel.mesh.AXES`."""
        return self.data, self.fsdp, self.context, self.tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Attributes:
        batch_size: Clips (or texts) of one step over all processes.
        init_from: Folder of parameters to start from; parameters it lacks start fresh.
        resume_from: Work directory of another run whose newest checkpoint to continue.
        eval_every, sample_every, checkpoint_every: Steps between; 0 means at the end only.
    """

    task: TaskConfig = TextToVideoConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    steps: int = 1000
    batch_size: int = 8
    log_every: int = 10
    eval_every: int = 0
    sample_every: int = 0
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    init_from: str | None = None
    resume_from: str | None = None

    def __post_init__(self):
        for name in ("steps", "batch_size", "log_every", "keep_checkpoints"):
            require_within(name, getattr(self, name), 1)
        for name in ("eval_every", "sample_every", "checkpoint_every"):
            require_within(name, getattr(self, name), 0)
        accumulate = self.optimizer.accumulate
        require(
            self.batch_size % accumulate == 0,
            f"batch_size must be a multiple of optimizer.accumulate, got {self.batch_size} and "
            f"{accumulate}; set either with --config.*",
        )
        kernel = self.task.model.dit.attention if self.task.kind == "text_to_video" else "xla"
        require(
            self.mesh.sequence != "ring" or kernel == "xla",
            f"mesh.sequence=ring computes attention itself and needs dit.attention=xla, got "
            f"{kernel}; set it with --config.task.model.dit.attention, or mesh.sequence=ulysses",
        )
        require(
            self.data.features is None or self.task.kind == "text_to_video",
            f"data.features must be None for a task that trains on clips or texts, got "
            f"{self.data.features!r} and task.kind {self.task.kind!r}; leave it out",
        )
        self.task.check_geometry(self.data)
