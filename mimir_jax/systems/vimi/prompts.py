# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The prompts of training: documents, tasks, wordings and images drawn for each clip.

A prompt is a function of run, record and number, so that its states can be computed once.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from mimir_jax import files, hashing, weights
from mimir_jax.config import TrainConfig
from mimir_jax.data import buckets, sources
from mimir_jax.data import cutouts as cutouts_lib
from mimir_jax.data.toyworld import invented, subject_captions, vocabulary
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.encoders import interleaved
from mimir_jax.errors import InputError
from mimir_jax.retrieval import documents as documents_lib
from mimir_jax.retrieval import index as index_lib
from mimir_jax.retrieval import memory as memory_lib
from mimir_jax.retrieval import retriever as retriever_lib
from mimir_jax.systems.vimi.config import PromptsConfig


class Retrieval(NamedTuple):
    """A memory and what finds its documents."""

    memory: memory_lib.Memory
    search: retriever_lib.Retriever

    def with_image(self, found: documents_lib.Document | None) -> interleaved.Document | None:
        """Reads the image of a document."""
        return found and interleaved.Document(found.text, self.memory.read_image(found))


def open_retrieval(config: PromptsConfig, seed: int) -> Retrieval | None:
    """Opens the memory of a run; None for one without.

    Args:
        config: The section `system` of the run.
        seed: Names the draws of documents.

    Raises:
        InputError: for a folder that holds none, or one without an index of its documents.
    """
    if config.memory_path is None:
        return None
    store = memory_lib.open_memory(weights.resolve(config.memory_path, "memory"))
    index = index_lib.Index(store, config.bm25)
    return Retrieval(store, retriever_lib.Retriever(index, config.retrieval, seed=seed))


def open_cutouts(config: PromptsConfig) -> cutouts_lib.CutoutFolder | None:
    """Opens the cut-outs that a run names; None for one without.

    Raises:
        InputError: for a folder that holds none.
    """
    if config.stage != "instruct" or not config.tasks.subject or config.subjects_path is None:
        return None
    return cutouts_lib.CutoutFolder(files.expand_path(config.subjects_path))


class PromptMaker:
    """Draws the prompts of clips.

    Args:
        config: The section `system` of the run.
        source: The clips; those of Toyworld have scenes.
        seed: Names the draws.
        retrieval: Finds documents; None for runs without.
    """

    def __init__(
        self,
        config: PromptsConfig,
        source: Any,
        seed: int,
        retrieval: Retrieval | None,
    ):
        if isinstance(source, buckets.BucketSource):
            source = source.source
        self._config, self._source, self._seed = config, source, seed
        self._retrieval = retrieval
        self._cutouts = open_cutouts(config)

    def draw(
        self, record: Mapping[str, Any], number: int, *, task: str | None = None
    ) -> interleaved.Prompt:
        """Returns prompt `number` of a clip.

        Args:
            record: A record of the source: video, caption, index. Without a video, that of the
                source is read where a prompt shows its first frame.
            number: Which of the clip's prompts.
            task: A task of the second stage; None draws it.
        """
        cfg, index = self._config, int(record["index"])
        key = hashing.content_key("prompt", str(self._seed), str(index), str(number))
        rng = np.random.default_rng(list(key))
        shares = cfg.shares
        drawn = _pick(shares, rng)
        task = task or drawn
        if not self.has_task(index, task):
            others = {name: share for name, share in shares.items() if name != "subject"}
            task = _pick(others or {"retrieval": 1.0}, rng)
        wording, share = int(rng.integers(1 << 16)), rng.random()
        if task == "caption":
            return interleaved.retrieved(cfg.multimodal, record["caption"], None)
        if task != "retrieval":
            prompt = self._with_images(record, task, wording, rng)
            if share >= cfg.image_dropout:
                return prompt
            return prompt.with_text_alone(prompt.caption)
        if cfg.invented_names and rng.random() < cfg.invented_names:
            return self._named(int(record["index"]), wording, rng)
        caption, document = record["caption"], None
        if self._retrieval is not None and share >= cfg.document_dropout:
            search = self._retrieval.search
            choose = search.draw_any if cfg.documents == "random" else search.draw
            found = choose(caption, number, exclude=self._own(index))
            document = self._retrieval.with_image(found)
        return with_document(cfg, caption, document, wording)

    def has_task(self, index: int, task: str) -> bool:
        """Whether a clip has prompts of a task: real clips without cut-outs show no subjects."""
        return task != "subject" or self._cutouts is None or self._found(index) is not None

    def require_cutouts(self) -> None:
        """Raises `InputError` if there are cut-outs, and they are of none of the clips."""
        count = len(self._source)
        if self._cutouts is not None and all(self._found(index) is None for index in range(count)):
            raise InputError(
                f"system.subjects_path {self._config.subjects_path} must hold cut-outs of the "
                f"clips that train, got none of {count}, such as {self._source.name(0)}; make them "
                "with mimir-jax cutouts from the folder of these clips"
            )

    def _with_images(
        self, record: Mapping[str, Any], task: str, wording: int, rng: np.random.Generator
    ) -> interleaved.Prompt:
        """Returns a prompt of one of the two tasks with images."""
        if task == "subject":
            return self._subjects(int(record["index"]), wording, rng)
        shown = record if "video" in record else self._source[int(record["index"])]
        first = np.asarray(shown["video"])[0]
        return interleaved.prediction(self._config.multimodal, record["caption"], first, wording)

    def _subjects(self, index: int, wording: int, rng: np.random.Generator) -> interleaved.Prompt:
        """Returns a subject-driven prompt with at most `max_images` images."""
        if (found := self._found(index)) is not None:
            return self._cut(found, wording, rng)
        tasks, scene = self._config.tasks, self._source.scene(index)
        objects = rng.permutation(len(scene.groups)).tolist()
        objects = objects[: 1 + int(rng.integers(len(objects)))]
        place = bool(rng.random() < tasks.place)
        size = {"height": self._source.height, "width": self._source.width}
        while True:
            found = subject_captions.caption(
                scene, objects, mark=interleaved.MARK, place=place, **size
            )
            if len(found.images) <= tasks.max_images or not (place or objects[1:]):
                break
            place, objects = False, objects if place else objects[:-1]
        prompt = interleaved.subjects(self._config.multimodal, found.text, found.images, wording)
        return dataclasses.replace(prompt, words=found.words)

    def _found(self, index: int) -> cutouts_lib.Subjects | None:
        """Returns the cut-outs of a real clip, if it has any.

        A caption that holds a mark has none: it would stand for an image that is not there.
        """
        if self._cutouts is None:
            return None
        found = self._cutouts.find(self._source.name(index))
        return None if found is not None and interleaved.MARK in found.caption else found

    def _cut(
        self, found: cutouts_lib.Subjects, wording: int, rng: np.random.Generator
    ) -> interleaved.Prompt:
        """Returns a subject-driven prompt of a real clip: its subject, perhaps other things."""
        assert self._cutouts is not None
        cutouts, tasks = self._cutouts, self._config.tasks
        others = rng.permutation(len(found.things) - 1) + 1
        count = int(rng.integers(min(len(found.things), tasks.max_images)))
        things = [found.things[i] for i in (0, *others[:count].tolist())]
        place = found.place
        if place is not None and place.words is not None and rng.random() < tasks.place:
            things = [*things[: tasks.max_images - 1], place]
        shown = [str(rng.choice(thing.images)) for thing in things]
        beside = rng.random() < tasks.text_beside
        text, names = cutouts_lib.replace_words(
            found.caption, things, shown, interleaved.MARK, beside=beside
        )
        images = []
        for name in names:
            image = cutouts.read(name)
            if place is not None and name in place.images:
                images.append(np.ascontiguousarray(image[..., :3]))
            elif tasks.augment:
                keep = tasks.keep_background
                images.append(cutouts_lib.augment(image, rng, keep_background=keep))
            else:
                images.append(cutouts_lib.plain(image))
        prompt = interleaved.subjects(self._config.multimodal, text, images, wording)
        return dataclasses.replace(prompt, words=found.caption)

    def _named(self, index: int, wording: int, rng: np.random.Generator) -> interleaved.Prompt:
        """Returns a prompt whose document explains an invented name; a random one does not."""
        scene = self._source.scene(index)
        name, look = str(rng.choice(invented.NAMES["train"])), int(rng.integers(1 << 32))
        group, shown = int(rng.integers(len(scene.groups))), None
        if self._config.documents == "random":
            shown = str(rng.choice(list(vocabulary.SHAPES)))
        found = invented.explain(
            scene,
            name,
            look,
            group=group,
            shown=shown,
            height=self._source.height,
            width=self._source.width,
        )
        document = interleaved.Document(found.explanation, found.image)
        prompt = with_document(self._config, found.text, document, wording)
        told = shown is None and self._config.documents != "text"
        return dataclasses.replace(prompt, words=found.words) if told else prompt

    def _own(self, index: int) -> Collection[str]:
        """Returns the names of a record, whose own document it must not get."""
        if isinstance(self._source, ToyworldSource):
            return [documents_lib.scene_id(self._source, index)]
        name = getattr(self._source, "name", None)
        return [] if name is None else [name(index)]


class RunPrompts:
    """The prompts of the splits of a run; what they are drawn from is opened when it is needed.

    Args:
        config: The run; its system has the fields of `PromptsConfig`.
    """

    def __init__(self, config: TrainConfig):
        self._config = config

    @functools.cached_property
    def retrieval(self) -> Retrieval | None:
        """The memory, which training alone reads: requests bring their documents."""
        return open_retrieval(self._config.system, self._config.seed)

    @functools.cached_property
    def training(self) -> PromptMaker:
        """Those of clips that train."""
        prompts = self._make("train")
        prompts.require_cutouts()
        return prompts

    @functools.cached_property
    def heldout(self) -> PromptMaker:
        """Those of held-out clips."""
        return self._make("heldout")

    def _make(self, split: sources.Split) -> PromptMaker:
        config = self._config
        source = sources.make_source(config.data, split, seed=config.seed)
        return PromptMaker(config.system, source, config.seed, self.retrieval)


def _pick(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    """Draws a task by its share; the shares need not add up to one."""
    total = sum(shares.values())
    return str(rng.choice(list(shares), p=[share / total for share in shares.values()]))


def with_document(
    config: PromptsConfig,
    caption: str,
    document: interleaved.Document | None,
    wording: int = 0,
) -> interleaved.Prompt:
    """Returns a caption with a document, if any, in the layout of the stage."""
    layouts = {"pretrain": interleaved.pretraining, "instruct": interleaved.retrieved}
    return layouts[config.stage](config.multimodal, caption, read_part(config, document), wording)


def read_part(
    config: PromptsConfig, document: interleaved.Document | None
) -> interleaved.Document | None:
    """Returns what a run reads of a document; None where that is nothing."""
    if document is None:
        return None
    text = "" if config.documents == "image" else document.text
    image = None if config.documents == "text" else document.image
    return interleaved.Document(text, image) if text or image is not None else None


def with_best(
    config: PromptsConfig, caption: str, retrieval: Retrieval | None
) -> interleaved.Prompt:
    """Returns the prompt of a held-out caption, with the best document there is, or any."""
    document = None
    if retrieval is not None:
        search = retrieval.search
        found = search.draw_any(caption) if config.documents == "random" else search.first(caption)
        document = retrieval.with_image(found)
    return with_document(config, caption, document)
