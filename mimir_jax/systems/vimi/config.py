# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of VIMI."""

import dataclasses
from typing import Any, ClassVar, Literal

from mimir_jax.config import checks
from mimir_jax.encoders.config import FirstFrameConfig, MultimodalConfig, TextConfig
from mimir_jax.models.config import DiTConfig
from mimir_jax.models.vimi.config import VimiConfig
from mimir_jax.retrieval.config import BM25Config, RetrievalConfig
from mimir_jax.systems.diffusion_config import DiffusionSystemConfig

TASKS = ("caption", "subject", "prediction", "retrieval")
"""Kinds of prompts, fields of `TasksConfig`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """Tasks of the second stage (V-U8, V-U9) and of the aligner's first phase.

    Attributes:
        caption: Weight of captions alone, without instruction.
        subject: Weight of subject-driven generation: images of objects instead of their words.
        prediction: Weight of video prediction: the caption and the first frame.
        retrieval: Weight of text-to-video with a retrieved document.
        max_images: Largest number of images in a subject-driven prompt; a repeated object repeats
            its image.
        place: Share of subject-driven prompts with an image of the background.
        text_beside: Share of cut-outs of real clips whose words stay beside their image.
        keep_background: Share of cut-outs of real clips that keep what is behind the object.
        augment: Whether cut-outs of real clips are mirrored, turned, cropped and so on at random.
    """

    caption: float = 0.0
    subject: float = 1.0
    prediction: float = 1.0
    retrieval: float = 1.0
    max_images: int = 3
    place: float = 0.5
    text_beside: float = 0.5
    keep_background: float = 0.5
    augment: bool = True

    def __post_init__(self):
        for name in TASKS:
            checks.within(self, name, 0)
        named = " or ".join(", ".join(f"{{{name}}}" for name in TASKS).rsplit(", ", 1))
        checks.check(self, self.total > 0, f"{named} must be above 0")
        checks.within(self, "max_images", 1)
        for name in ("place", "text_beside", "keep_background"):
            checks.within(self, name, 0, 1)

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return sum(getattr(self, name) for name in TASKS)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the prompts of each task that has any."""
        weights = {name: getattr(self, name) for name in TASKS}
        return {name: weight / self.total for name, weight in weights.items() if weight}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Prompts that a multimodal LLM reads in training: tasks, documents, images.

    Attributes:
        multimodal: The frozen multimodal LLM, from prompts with images to states.
        subjects_path: Folder of cut-outs of the clips' objects, made by `mimir-jax cutouts`;
            Toyworld makes its own. Clips without cut-outs have the other tasks; it is not read
            where `tasks.subject` is 0.
        memory_path: Folder of the memory of documents, made by `mimir-jax index`; None retrieves
            nothing.
        bm25: Constants of the index of that memory.
        retrieval: Choice of the document of a caption.
        documents: What prompts read of documents: `retrieved`, text and image; `text` or `image`
            alone; or `random`, in training a document that has nothing to do with the caption
            (V-U21).
        stage: `pretrain` puts a retrieved document before every caption; `instruct` mixes `tasks`,
            each with an instruction.
        tasks: Mixture of prompts in the stage `instruct`.
        prompts_per_clip: Prompts per clip, with different documents, tasks and wordings. They are
            encoded once, and training samples one of them each time.
        document_dropout: Share of prompts without their document (V-U7).
        invented_names: Share of the prompts with a document, of Toyworld, in which a shape has an
            invented name that the image of the document alone explains (V-U20).
        image_dropout: Share of subject-driven and prediction prompts reduced to their text,
            without images, marks and instruction, for guidance with two scales (V-U17); latents of
            a first frame are kept.
    """

    multimodal: MultimodalConfig = MultimodalConfig()
    subjects_path: str | None = None
    memory_path: str | None = None
    bm25: BM25Config = BM25Config()
    retrieval: RetrievalConfig = RetrievalConfig()
    documents: Literal["retrieved", "random", "text", "image"] = "retrieved"
    stage: Literal["pretrain", "instruct"] = "pretrain"
    tasks: TasksConfig = TasksConfig()
    prompts_per_clip: int = 2
    document_dropout: float = 0.1
    invented_names: float = 0.0
    image_dropout: float = 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Share of the prompts of each task; the first stage has documents alone."""
        return self.tasks.shares if self.stage == "instruct" else {"retrieval": 1.0}

    def check_prompts(self) -> None:
        """Raises `FieldError` for fields out of range or against each other."""
        checks.within(self, "prompts_per_clip", 1)
        for name in ("document_dropout", "invented_names", "image_dropout"):
            checks.within(self, name, 0, 1)
        checks.check(
            self,
            self.documents == "retrieved" or bool(self.memory_path or self.invented_names),
            "{documents} must be retrieved without documents to change: {memory_path} is None and "
            "{invented_names} is 0",
        )

    def check_prompts_of_run(self, run: Any) -> None:
        """Raises `FieldError` unless the data of a run, a `TrainConfig`, have what tasks need."""
        checks.check(
            run,
            self.stage == "pretrain"
            or not self.tasks.subject
            or (run.data.source == "toyworld") == (self.subjects_path is None),
            "{system.subjects_path} must name the cut-outs of mimir-jax cutouts where "
            "{system.tasks.subject} is above 0 and {data.source} is not toyworld, and only there",
        )
        checks.check(
            run,
            run.data.source != "toyworld" or run.data.toyworld.pages == 1,
            "{data.toyworld.pages} must be 1, as prompts with images are of single scenes",
        )
        checks.check(
            run,
            not self.invented_names or run.data.source == "toyworld",
            "{system.invented_names} must be 0 unless {data.source} is toyworld, whose shapes "
            "alone can be renamed",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VimiSystemConfig(DiffusionSystemConfig, PromptsConfig):
    """Train a video transformer on the states of a multimodal LLM.

    A transformer with twice the channels of the VAE, such as that of an image-to-video model, also
    reads the latents of a first frame, concatenated to the noisy ones; they are zeros in the first
    stage, which has no first frames (V-U19).

    Attributes:
        model: Aligner or projection, and video transformer.
        text: The frozen T5 of the captions, for the route `beside` only; only the fields of T5
            are read.
        reference_latents: Number of reference images: the first images of a prompt, whose latents
            also enter the sequence of the transformer, each as a frame before the clip (V-U18).
    """

    dit_field: ClassVar[str] = "model.dit"
    guides_images: ClassVar[bool] = True
    _twice: ClassVar[str] = ", or twice that for a transformer that reads a first frame"

    kind: Literal["vimi"] = "vimi"
    model: VimiConfig = VimiConfig()
    text: TextConfig = TextConfig()
    reference_latents: int = 0

    def __post_init__(self):
        super().__post_init__()
        self.check_prompts()
        checks.within(self, "reference_latents", 0)
        dit = self.model.dit
        checks.check(
            self,
            not self.reference_latents
            or (not dit.temporal_patch and dit.position != "rope+learned"),
            "{reference_latents} must be 0 with {model.dit.temporal_patch} or {model.dit.position} "
            "rope+learned, which have no place for a frame before the clip",
        )
        checks.check(
            self,
            not self.reads_image or dit.ofs_width is None,
            "{model.dit.in_channels} must equal {vae.latent_channels} with {model.dit.ofs_width}",
        )
        checks.check(
            self,
            not self.reads_t5 or self.text.length == self.model.dit.text_length,
            "{text.length} must equal {model.dit.text_length} where {model.route} is beside",
        )

    @property
    def reads_t5(self) -> bool:
        """Whether the network reads T5's states of captions, beside those of prompts."""
        return self.model.route == "beside"

    @property
    def reads_image(self) -> bool:
        """Whether the transformer reads a first frame: it has twice the channels of the VAE."""
        return self.dit.in_channels == 2 * self.vae.latent_channels

    @property
    def feature_settings(self) -> dict[str, Any]:
        """What the states of prompts depend on."""
        fields = (
            "multimodal", "reference_latents", "subjects_path", "memory_path", "bm25", "retrieval",
            "documents", "stage", "tasks", "prompts_per_clip", "document_dropout", "invented_names",
            "image_dropout", *(["text"] if self.reads_t5 else []),
        )  # fmt: skip
        stored = dataclasses.asdict(self)
        return {name: stored[name] for name in fields} | {"reads_image": self.reads_image}

    @property
    def makes_videos(self) -> bool:
        """Whether the network samples videos for prompts: it does."""
        return True

    @property
    def dit(self) -> DiTConfig:
        """The video transformer."""
        return self.model.dit

    @property
    def first_frame(self) -> FirstFrameConfig:
        """How a first frame takes the size of the video before the LLM reads it."""
        return FirstFrameConfig()

    @property
    def network(self) -> VimiConfig:
        """The network that trains."""
        return self.model

    def with_dit(self, **fields: Any) -> "VimiSystemConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, model=self.model.with_dit(**fields))

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the data of the run have what the tasks need."""
        super().check_run(run)
        self.check_prompts_of_run(run)
