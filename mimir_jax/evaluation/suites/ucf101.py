# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""UCF101 zero-shot: FVD and Inception Score of clips of action classes.

The protocol is that of Snap Video (arXiv 2402.14797): a descriptive prompt for each class, classes
in the proportion of the dataset, 10,000 clips of 16 frames. It leaves open the real windows (here
one of each video, from a random start), their rate and the crop, which the results state. The
networks are the user's, so scores compare with published ones only with equal weights and resizing.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mimir_jax import files, hashing, tables
from mimir_jax.encoders import onnx_file
from mimir_jax.errors import listed, require
from mimir_jax.evaluation import clip_suite, embedded_clips, generation, results
from mimir_jax.evaluation.config import UCF101EvalConfig
from mimir_jax.evaluation.extractors import opening
from mimir_jax.evaluation.metrics import inception

SIZES = {"square": (256, 256), "native": (240, 320)}
"""Height and width of clips by `crop`."""


def evaluate(
    config: UCF101EvalConfig, generator: generation.Generator, progress: generation.Progress
) -> results.Report:
    """Embeds the clips that the folder of results lacks; writes scores and their intervals.

    Raises:
        InputError: for files or folders that do not fit, too few clips, or results of another
            evaluation.
    """
    prompts, videos = files.expand_path(str(config.prompts)), files.expand_path(str(config.videos))
    listing = None if config.video_list is None else files.expand_path(config.video_list)
    real = find_videos(videos, listing)
    texts = read_prompts(prompts, real)
    counts = share_out(config.clips, {name: len(found) for name, found in real.items()})
    samples = plan_samples(texts, counts, config.seed)
    samples = generation.with_documents(samples, config.retrieve, generator)
    embedded_clips.require_frames(generator, config.clip_frames)
    paths = {path: videos / path for found in real.values() for path in found}
    settings = {
        "prompts": hashing.sha256_file(prompts)[:12],
        "real": hashing.sha256("\n".join(paths))[:12],
        "clips": config.clips,
        "size": list(SIZES[config.crop]),
        "retrieve": config.retrieve,
        "reference_fps": config.reference_fps,
    }
    return clip_suite.evaluate(
        "ucf101",
        config,
        generator,
        progress,
        samples=samples,
        measures=Measures(config, counts, paths),
        settings=settings,
        subject=f"{config.clip_frames} frames, {len(counts)} classes",
    )


def find_videos(folder: pathlib.Path, listing: pathlib.Path | None) -> dict[str, list[str]]:
    """Returns the paths of real videos below a folder, by the folder of their class.

    Args:
        folder: The data set.
        listing: File of the paths to take, the first word of each line; None takes all.

    Raises:
        InputError: for a path that is missing, or a video in no folder of a class.
    """
    found = embedded_clips.list_videos(folder)
    paths = list(found)
    if listing is not None:
        words = [line.split()[0] for _, line in files.read_lines(listing, "list of videos")]
        known = {files.plain_name(path): path for path in found}
        missing = [word for word in words if files.plain_name(word) not in known]
        require(
            bool(words) and not missing,
            f"--video_list {listing} must hold paths below {folder}, got "
            f"{listed(missing) or 'none'}; check both",
        )
        paths = [known[files.plain_name(word)] for word in words]
    classes: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        name = pathlib.PurePosixPath(path).parent.name
        require(
            bool(name),
            f"video {path} must be in a folder of its class below {folder}; move it",
        )
        classes.setdefault(name, []).append(path)
    return dict(sorted(classes.items()))


def read_prompts(path: pathlib.Path, classes: Mapping[str, Any]) -> dict[str, str]:
    """Returns the prompt of each class.

    Raises:
        InputError: for classes without a prompt or the other way round.
    """
    raw = files.read_json(path, "prompts of classes")
    for name, odd in (("a prompt", classes.keys() - raw), ("videos", raw.keys() - classes.keys())):
        require(
            not odd,
            f"prompts of classes {path} must be of the classes of --videos, {len(odd)} have no "
            f"{name.removeprefix('a ')}: {listed(sorted(odd))}; correct one",
        )
    wrong = [name for name, text in raw.items() if not isinstance(text, str)]
    require(
        not wrong,
        f"prompts of classes {path} must be texts, that of {listed(wrong)} is none; correct it",
    )
    return {name: files.clean_text(raw[name], f"prompt of {name}") for name in classes}


def share_out(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Splits a number in the proportion of sizes, by largest remainders; ties go to the first."""
    whole = sum(sizes.values())
    counts = {name: total * size // whole for name, size in sizes.items()}
    rests = sorted(sizes, key=lambda name: -(total * sizes[name] % whole))  # stable
    for name in rests[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def plan_samples(
    prompts: Mapping[str, str], counts: Mapping[str, int], seed: int
) -> list[generation.EvalSample]:
    """Returns the clips to generate, class by class, each with a seed of its own."""
    named = [
        (f"{name}-{number:05d}", prompts[name])
        for name, count in counts.items()
        for number in range(count)
    ]
    return [
        generation.EvalSample(name, prompt, seed + index)
        for index, (name, prompt) in enumerate(named)
    ]


class Measures:
    """`clip_suite.Measures`: the Fréchet distance from real videos, and the Inception Score.

    Args:
        config: Settings of the suite, which name the networks.
        counts: Clips of each class.
        videos: The real videos by their path in the data set.
    """

    def __init__(
        self,
        config: UCF101EvalConfig,
        counts: Mapping[str, int],
        videos: Mapping[str, pathlib.Path],
    ):
        self._config, self._counts, self._videos = config, counts, videos
        self._extractor = self._classifier = None
        if config.extractor is not None:
            self._extractor = opening.open_clip_extractor(config.extractor, "--extractor")
        if config.classifier is not None:
            self._classifier = opening.open_classifier(config.classifier, "--classifier")
        self.settings = clip_suite.describe_networks(
            extractor=self._extractor, classifier=self._classifier
        )
        self._reference: list[embedded_clips.Line] = []

    def embed(
        self, batch: Sequence[generation.EvalSample], videos: embedded_clips.Clips
    ) -> dict[str, np.ndarray]:
        """Returns features and classes of generated videos."""
        del batch
        size = SIZES[self._config.crop]
        clips = embedded_clips.fit_clips(videos, self._config.clip_frames, size)
        networks = {"features": self._extractor, "classes": self._classifier}
        return {n: net.embed_clips(clips) for n, net in networks.items() if net is not None}

    def read_reference(self, folder: pathlib.Path, progress: generation.Progress) -> None:
        """Embeds a window of each real video."""
        places = {path: number for number, path in enumerate(self._videos)}
        self._reference = clip_suite.embed_windows(
            self._videos,
            self._extractor,
            self._config,
            folder,
            progress,
            size=SIZES[self._config.crop],
            make_rng=lambda name: np.random.default_rng((self._config.seed, places[name])),
        )

    def score(self, lines: Sequence[embedded_clips.Line]) -> dict[str, Any]:
        """Returns the scores of embedded clips, and the number of those of each class."""
        scores: dict[str, Any] = {"classes": self._counts}
        if self._extractor is not None:
            is_video = self._extractor.is_video
            scores |= embedded_clips.frechet_score(lines, self._reference, is_video=is_video)
        if self._classifier is not None:
            scores["inception_score"] = self._inception_score(self._classifier, lines)
        return scores

    def format_table(self, scores: Mapping[str, Any]) -> str:
        """Formats the scores: a row for each."""
        rows = [["score", "value", "95 % interval"]]
        rows += embedded_clips.frechet_rows(scores)
        if score := scores.get("inception_score"):
            low, high = score["interval"]
            mean = f"{score['mean']:.2f} ± {score['deviation']:.2f}"
            rows.append(["IS, 10 splits", mean, f"{low:.2f} to {high:.2f}"])
        return tables.align(rows)

    def _inception_score(
        self, classifier: onnx_file.OnnxExtractor, lines: Sequence[embedded_clips.Line]
    ) -> dict[str, Any]:
        rows = embedded_clips.stack(lines, "classes")
        if classifier.contract.values == "logits":
            rows = inception.to_probabilities(rows)
        score = inception.inception_score(rows, seed=self._config.seed)
        return {"mean": score.mean, "deviation": score.deviation, "interval": score.interval}
