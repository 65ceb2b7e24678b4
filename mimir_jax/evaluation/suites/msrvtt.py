# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""MSR-VTT zero-shot: CLIPSIM and FVD of a clip for one random caption of each test video.

CLIPSIM is the mean over frames and clips of the cosine between frame and caption. Clips have 16
frames of 256 x 256, as Divot (arXiv 2412.04432) reports. A real clip is a window of its video from
a random start.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mimir_jax import files, hashing, tables
from mimir_jax.errors import InputError, listed, require
from mimir_jax.evaluation import clip_suite, confidence, embedded_clips, generation, results
from mimir_jax.evaluation.config import MSRVTTEvalConfig
from mimir_jax.evaluation.extractors import opening
from mimir_jax.evaluation.metrics import similarity

SIZE = (256, 256)
"""Height and width of clips."""


class Captioned(NamedTuple):
    """A test video with the caption that was drawn."""

    video: str
    caption: str


def evaluate(
    config: MSRVTTEvalConfig, generator: generation.Generator, progress: generation.Progress
) -> results.Report:
    """Embeds the clips that the folder of results lacks; writes scores and their intervals.

    Raises:
        InputError: for files or folders that do not fit, too few clips, or results of another
            evaluation.
    """
    path = files.expand_path(str(config.captions))
    drawn = draw_captions(read_captions(path), config.clips, config.seed)
    real = {} if config.videos is None else _find_videos(drawn, files.expand_path(config.videos))
    samples = [
        generation.EvalSample(f"{number:05d}-{_stem(one.video)}", one.caption, config.seed + number)
        for number, one in enumerate(drawn)
    ]
    embedded_clips.require_frames(generator, config.clip_frames)
    settings = {
        "captions": hashing.sha256(json.dumps(drawn))[:12],
        "clips": len(drawn),
        "size": list(SIZE),
        "reference_fps": config.reference_fps,
    }
    return clip_suite.evaluate(
        "msrvtt",
        config,
        generator,
        progress,
        samples=samples,
        measures=Measures(config, real),
        settings=settings,
        subject=f"{config.clip_frames} frames",
    )


def read_captions(path: pathlib.Path) -> dict[str, list[str]]:
    """Reads the captions of each test video, in the order of the file.

    Of MSR-VTT's own JSON, videos of the split `test` are taken.

    Raises:
        InputError: for a file of another form, or without a caption.
    """
    text = files.read_text(path, "file of captions")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    try:
        if isinstance(whole, dict) and "sentences" in whole:
            pairs = _sentences(whole)
        else:
            pairs = _lines(path)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"file of captions {path} must be MSR-VTT's JSON, or an object with video and caption "
            f"per line: {type(error).__name__} {error}; correct it"
        ) from None
    captions: dict[str, list[str]] = {}
    for video, caption in pairs:
        captions.setdefault(video, []).append(files.clean_text(caption, f"caption of {video}"))
    require(
        bool(captions), f"file of captions {path} must hold a caption of a test video, got none"
    )
    return captions


def draw_captions(
    captions: Mapping[str, Sequence[str]], number: int | None, seed: int
) -> list[Captioned]:
    """Draws a caption of each of the first videos; a draw depends on seed and video alone.

    Raises:
        InputError: for fewer videos than asked for.
    """
    videos = list(captions)
    require(
        number is None or number <= len(videos),
        f"--clips must be at most the {len(videos)} test videos, got {number}",
    )
    drawn = []
    for video in videos[:number]:
        rng = _rng(seed, video)
        drawn.append(Captioned(video, captions[video][int(rng.integers(len(captions[video])))]))
    return drawn


class Measures:
    """`clip_suite.Measures`: CLIPSIM, and the Fréchet distance from real videos.

    Args:
        config: Settings of the suite, which name the networks.
        videos: The real videos by name.
    """

    def __init__(self, config: MSRVTTEvalConfig, videos: Mapping[str, pathlib.Path]):
        self._config, self._videos = config, videos
        self._clip = self._extractor = None
        if config.clip is not None:
            self._clip = opening.open_pair_extractor(config.clip, "--clip")
        if config.extractor is not None:
            self._extractor = opening.open_clip_extractor(config.extractor, "--extractor")
        self.settings = clip_suite.describe_networks(clip=self._clip, extractor=self._extractor)
        self._reference: list[embedded_clips.Line] = []

    def embed(
        self, batch: Sequence[generation.EvalSample], videos: embedded_clips.Clips
    ) -> dict[str, np.ndarray]:
        """Returns features and similarities of generated videos."""
        clips = embedded_clips.fit_clips(videos, self._config.clip_frames, SIZE)
        made: dict[str, np.ndarray] = {}
        if self._clip is not None:
            frames = self._clip.embed_images(clips.reshape(-1, *clips.shape[2:]))
            texts = self._clip.embed_texts([sample.prompt for sample in batch])
            frames = frames.reshape(len(clips), -1, frames.shape[-1])
            made["clipsim"] = similarity.text_similarity(frames, texts)
        if self._extractor is not None:
            made["features"] = self._extractor.embed_clips(clips)
        return made

    def read_reference(self, folder: pathlib.Path, progress: generation.Progress) -> None:
        """Embeds a window of each real video."""
        self._reference = clip_suite.embed_windows(
            self._videos,
            self._extractor,
            self._config,
            folder,
            progress,
            size=SIZE,
            make_rng=lambda name: _rng(self._config.seed, f"window of {name}"),
        )

    def score(self, lines: Sequence[embedded_clips.Line]) -> dict[str, Any]:
        """Returns the scores of embedded clips."""
        scores: dict[str, Any] = {}
        if self._clip is not None:
            values = np.array([line["clipsim"] for line in lines])
            ones = np.ones(len(values), int)
            interval = confidence.bootstrap_interval(values, ones)
            scores["clipsim"] = {"value": float(values.mean()), "interval": interval}
        if self._extractor is not None:
            is_video = self._extractor.is_video
            scores |= embedded_clips.frechet_score(lines, self._reference, is_video=is_video)
        return scores

    def format_table(self, scores: Mapping[str, Any]) -> str:
        """Formats the scores: a row for each."""
        rows = [["score", "value", "95 % interval"]]
        if score := scores.get("clipsim"):
            low, high = score["interval"]
            rows.append(["CLIPSIM", f"{score['value']:.4f}", f"{low:.4f} to {high:.4f}"])
        rows += embedded_clips.frechet_rows(scores)
        return tables.align(rows)


def _sentences(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    tested = {video["video_id"]: None for video in raw["videos"] if video["split"] == "test"}
    found: dict[str, list[str]] = {name: [] for name in tested}
    for sentence in raw["sentences"]:
        if sentence["video_id"] in found:
            found[sentence["video_id"]].append(_text(sentence["caption"]))
    return [(name, caption) for name, captions in found.items() for caption in captions]


def _lines(path: pathlib.Path) -> list[tuple[str, str]]:
    pairs = []
    for _, line in files.read_lines(path, "file of captions"):
        entry = json.loads(line)
        captions = entry["captions"] if "captions" in entry else [entry["caption"]]
        pairs += [(_text(entry["video"]), _text(caption)) for caption in captions]
    return pairs


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be a text, got {json.dumps(value)[:40]}")
    return value


def _find_videos(drawn: Sequence[Captioned], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the file of each video, named with or without its suffix."""
    listing = embedded_clips.list_videos(folder).items()
    found = {files.plain_name(name): path for name, path in listing}
    named = {pathlib.PurePosixPath(name).with_suffix("").as_posix(): p for name, p in found.items()}
    names = {one.video: files.plain_name(one.video) for one in drawn}
    paths = {video: found.get(name, named.get(name)) for video, name in names.items()}
    missing = [video for video, path in paths.items() if path is None]
    require(
        not missing,
        f"--videos {folder} must hold all videos of --captions, {len(missing)} are missing: "
        f"{listed(missing)}; check the path",
    )
    return {video: path for video, path in paths.items() if path is not None}


def _stem(video: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in pathlib.PurePosixPath(video).stem)[:80]


def _rng(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
