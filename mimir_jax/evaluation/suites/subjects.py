# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Fidelity to given subjects, as in DreamBench (arXiv 2208.12242) and MultiBench (2401.13388).

Each prompt has several clips. A clip's CLIP-I and DINO are the mean cosine of its frames with the
real images of a subject, mean over subjects; CLIP-T that with the caption. A still copy of the
image scores high, so results also state the frame-to-frame change, and the similarity of real
images of a subject to each other as the ceiling.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimir_jax import files, hashing, image_files, tables
from mimir_jax.errors import InputError, require
from mimir_jax.evaluation import clip_suite, confidence, embedded_clips, generation, results
from mimir_jax.evaluation.config import SubjectsEvalConfig
from mimir_jax.evaluation.extractors import base, opening
from mimir_jax.evaluation.metrics import similarity

MARK = "<img>"
"""Where a prompt has the image of a subject."""

MEASURES = {"clip_i": "CLIP-I", "dino": "DINO", "clip_t": "CLIP-T", "change": "change, %"}
"""Measures of a clip and their titles."""


class Task(NamedTuple):
    """A prompt with its subjects."""

    prompt: str
    caption: str
    subjects: tuple[str, ...]


def evaluate(
    config: SubjectsEvalConfig, generator: generation.Generator, progress: generation.Progress
) -> results.Report:
    """Scores the clips that the folder of results lacks; writes means and their intervals.

    Raises:
        InputError: for files or folders that do not fit, a model that reads no images, or results
            of another evaluation.
    """
    path, images = files.expand_path(str(config.prompts)), files.expand_path(str(config.images))
    tasks = read_tasks(path)
    found = find_images(images, [name for task in tasks for name in task.subjects])
    given = {name: image_files.read(paths[0]) for name, paths in found.items()}
    samples, tasks_of = plan_samples(tasks, given, config.samples_per_prompt, config.seed)
    embedded_clips.require_frames(generator, config.clip_frames)
    listed = json.dumps({name: [hashing.sha256_file(p) for p in ps] for name, ps in found.items()})
    settings = {
        "prompts": hashing.sha256(json.dumps(tasks))[:12],
        "images": hashing.sha256(listed)[:12],
        "samples_per_prompt": config.samples_per_prompt,
    }
    return clip_suite.evaluate(
        "subjects",
        config,
        generator,
        progress,
        samples=samples,
        measures=Measures(config, found, tasks_of),
        settings=settings,
        subject=f"{len(tasks)} prompts, {len(found)} subjects",
    )


def read_tasks(path: pathlib.Path) -> list[Task]:
    """Reads prompts with their subjects, an object per line.

    Raises:
        InputError: for a line of another form, or a prompt whose marks are not as many as its
            subjects.
    """
    tasks = []
    for number, line in files.read_lines(path, "file of prompts"):
        place = f"file of prompts {path} line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} must be a JSON object: {error}; correct it") from None
        names = entry.get("subjects") if isinstance(entry, dict) else None
        fits = isinstance(names, list) and names and all(isinstance(n, str) and n for n in names)
        fits = fits and all(isinstance(entry.get(key), str) for key in ("prompt", "caption"))
        require(
            bool(fits),
            f"{place} must have prompt and caption, texts, and subjects, a list of folders, got "
            f"{line[:60]}; correct it",
        )
        prompt = files.clean_text(entry["prompt"], f"{place}: prompt")
        caption = files.clean_text(entry["caption"], f"{place}: caption")
        require(
            prompt.count(MARK) == len(names) and MARK not in caption,
            f"{place} must have a mark {MARK} in prompt for each subject and none in caption, got "
            f"{prompt.count(MARK)} for {len(names)} and {caption.count(MARK)}; correct it",
        )
        tasks.append(Task(prompt, caption, tuple(names)))
    require(bool(tasks), f"file of prompts {path} must hold a prompt, got none; name another")
    return tasks


def find_images(folder: pathlib.Path, names: Sequence[str]) -> dict[str, list[pathlib.Path]]:
    """Returns the images of each subject, sorted by name.

    Raises:
        InputError: for a subject without a folder of images.
    """
    found = {}
    for name in dict.fromkeys(names):
        place = folder / name
        inside = place.resolve().is_relative_to(folder.resolve()) and place.is_dir()
        images = sorted(
            p
            for p in (place.glob("[!.]*") if inside else ())
            if p.suffix.lower() in image_files.SUFFIXES
        )
        require(
            bool(images),
            f"--images {folder} must hold a folder {name!r} with images (jpg, png), found none; "
            "check subjects and path",
        )
        found[name] = images
    return found


def plan_samples(
    tasks: Sequence[Task], given: Mapping[str, image_files.RGBImage], number: int, seed: int
) -> tuple[list[generation.EvalSample], dict[str, Task]]:
    """Returns the clips to generate, and the task of each by its name."""
    samples, tasks_of = [], {}
    for place, task in enumerate(tasks):
        for repeat in range(number):
            name = f"{place:05d}-{repeat}"
            shown = tuple(given[subject] for subject in task.subjects)
            samples.append(generation.EvalSample(name, task.prompt, seed + repeat, images=shown))
            tasks_of[name] = task
    return samples, tasks_of


def summarise(scored: Sequence[tuple[Task, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Returns the mean of each measure with its interval, by number of subjects.

    The 95 % bootstrap interval is over subjects, or groups of subjects: clips of one are not
    independent.
    """
    summary: dict[str, dict[str, Any]] = {}
    for number in sorted({len(task.subjects) for task, _ in scored}):
        rows = [(task, line) for task, line in scored if len(task.subjects) == number]
        groups = [tuple(sorted(task.subjects)) for task, _ in rows]
        _, places = np.unique([json.dumps(group) for group in groups], return_inverse=True)
        sizes = np.bincount(places)
        cell: dict[str, Any] = {"clips": len(rows), "subjects": len(sizes)}
        for name in MEASURES:
            if name in rows[0][1]:
                values = np.array([line[name] for _, line in rows])
                interval = confidence.bootstrap_interval(np.bincount(places, values), sizes)
                cell[name] = {"value": float(values.mean()), "interval": interval}
        summary[str(number)] = cell
    return summary


class Measures:
    """`clip_suite.Measures`: agreement with images of the subjects, and with the caption.

    Args:
        config: Settings of the suite, which name the networks.
        found: Images of each subject.
        tasks: Task of each clip by its name.
    """

    def __init__(
        self,
        config: SubjectsEvalConfig,
        found: Mapping[str, Sequence[pathlib.Path]],
        tasks: Mapping[str, Task],
    ):
        self._frames, self._found, self._tasks = config.clip_frames, found, tasks
        self._clip = self._dino = None
        if config.clip is not None:
            self._clip = opening.open_pair_extractor(config.clip, "--clip")
        if config.dino is not None:
            self._dino = opening.open_image_extractor(config.dino, "--dino")
        networks: dict[str, base.ImageExtractor | None] = {"clip_i": self._clip, "dino": self._dino}
        self._networks = {name: net for name, net in networks.items() if net is not None}
        self.settings = clip_suite.describe_networks(clip=self._clip, dino=self._dino)
        self._real: dict[str, dict[str, np.ndarray]] = {}

    def read_reference(self, folder: pathlib.Path, progress: generation.Progress) -> None:
        """Does nothing: images of subjects are embedded when they are compared with."""
        del folder, progress

    def embed(
        self, batch: Sequence[generation.EvalSample], videos: embedded_clips.Clips
    ) -> dict[str, np.ndarray]:
        """Returns the measures of generated videos."""
        tasks = [self._tasks[sample.name] for sample in batch]
        clips = embedded_clips.fit_clips(videos, self._frames, None)
        scores = {"change": similarity.frame_change(clips)}
        for name, network in self._networks.items():
            frames = network.embed_images(clips.reshape(-1, *clips.shape[2:]))
            frames = frames.reshape(len(clips), -1, frames.shape[-1])
            real = self._real_features(name)
            scores[name] = np.array(
                [
                    similarity.subject_similarity(row, [real[s] for s in task.subjects])
                    for row, task in zip(frames, tasks, strict=True)
                ]
            )
            if name == "clip_i" and self._clip is not None:
                texts = self._clip.embed_texts([task.caption for task in tasks])
                scores["clip_t"] = similarity.text_similarity(frames, texts)
        return scores

    def score(self, lines: Sequence[embedded_clips.Line]) -> dict[str, Any]:
        """Returns the means of the measures by number of subjects, and those of real images."""
        groups = summarise([(self._tasks[line["name"]], line) for line in lines])
        return {"groups": groups, "real": self._real_agreement()}

    def format_table(self, scores: Mapping[str, Any]) -> str:
        """Formats the scores: a row for each number of subjects, and that of real images."""
        found = [n for n in MEASURES if any(n in cell for cell in scores["groups"].values())]
        rows = [["subjects in a clip", "clips", *(MEASURES[name] for name in found)]]
        for number, cell in scores["groups"].items():
            rows.append([number, str(cell["clips"])])
            for name in found:
                low, high = cell[name]["interval"]
                digits = 2 if name == "change" else 3
                shown = (f"{x:.{digits}f}" for x in (cell[name]["value"], low, high))
                rows[-1].append("{} ({} to {})".format(*shown))
        real = [scores["real"].get(name) for name in found]
        if any(value is not None for value in real):
            rows.append(["real images", "", *("-" if x is None else f"{x:.3f}" for x in real)])
        return tables.align(rows)

    def _real_agreement(self) -> dict[str, float]:
        """Returns the mean agreement of the real images of a subject with one another."""
        agreement = {}
        for name in self._networks:
            each = map(similarity.agreement_of_images, self._real_features(name).values())
            values = [value for value in each if value is not None]
            if values:
                agreement[name] = float(np.mean(values))
        return agreement

    def _real_features(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._real:
            network = self._networks[name]
            self._real[name] = {
                subject: np.concatenate(
                    [network.embed_images(image_files.read(path)[None]) for path in paths]
                )
                for subject, paths in self._found.items()
            }
        return self._real[name]
