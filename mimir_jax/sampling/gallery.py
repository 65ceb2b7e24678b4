# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A folder of samples: an mp4 and a record per video, a contact sheet, and a page that plays them.

    NNN.mp4, NNN.json    a video and what made it, written as soon as the video exists
    NNN-clip.mp4         the clip that it reconstructs or edits, as the model read it
    NNN-first.png        the first frame that it was given, as the model read it
    NNN-NAME.png         images of its prompt: image-1, image-2, document
    sheet.png            a row of frames for each of the first videos
    index.html           all videos with their prompts

A folder that was stopped also holds `.unfinished/`: the plan, and the rows of the sheet. The same
command then makes the missing videos; in a finished folder it makes none.
"""

import base64
import json
import pathlib
import shutil
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mimir_jax import files, hashing
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed
from mimir_jax.sampling import edits, first_frames
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling.request import Request

SHEET_ROWS = 100
IMAGE_SIDE = 512
"""Larger images that a video was made from are kept at this size."""
EMBEDDED_BYTES = 64 * 2**20
"""The page holds the videos themselves up to this total; more are played from their files."""

_UNFINISHED = ".unfinished"
_PAGE = "index.html"
_FILES = ("video", "clip", "first_frame_image", "prompt_images")  # of a record
_MADE = (*_FILES, "answer", "other_answers")


class Gallery:
    """Writes samples into a folder, one by one; a context manager.

    Leaving the context before the first video is written removes the folder.

    Args:
        folder: Folder to write: new, or one that the same command left, finished or not.

    Raises:
        InputError: if `folder` is anything else, or cannot be written.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder, self._work = folder, folder / _UNFINISHED
        self._plan_file = self._work / "plan.json"
        self._plan: dict[str, Any] = {}
        exists = folder.exists() or folder.is_symlink()
        begun = self._plan_file.is_file() or self._holds_nothing_else()
        ends = (self._path(0, "json"), folder / _PAGE)
        self._finished = not begun and all(path.is_file() for path in ends)
        if exists and not begun and not self._finished:
            raise InputError(f"destination {folder} must not exist; delete it or choose another")

    def _holds_nothing_else(self) -> bool:
        """Whether a command was killed before it had a plan."""
        return self._work.is_dir() and list(self._folder.iterdir()) == [self._work]

    def __enter__(self) -> "Gallery":
        if self._finished:
            return self
        with files.writing(self._folder, "destination"):
            self._work.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        if not any(self._folder.glob("[0-9]*.json")):
            shutil.rmtree(self._folder, ignore_errors=True)

    def begin(self, videos: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[int]:
        """Sets what the folder is to hold; returns the indices of videos that it lacks.

        Args:
            videos: What differs between videos, as JSON values: prompt, seed.
            settings: What they share.

        Raises:
            InputError: if the folder holds videos of another plan.
        """
        self._plan = json.loads(json.dumps({"videos": list(videos), "settings": dict(settings)}))
        if self._finished:
            self._require_same(self._recorded())
            return []
        if self._plan_file.is_file():
            self._require_same(files.read_json(self._plan_file, "plan of samples"))
        files.write_json(self._plan_file, self._plan)
        return [i for i in range(len(videos)) if not self._path(i, "json").is_file()]

    def add(
        self,
        index: int,
        frames: UInt8[np.ndarray, "f h w 3"],
        *,
        fps: float,
        answers: Sequence[str] = (),
        clip: UInt8[np.ndarray, "f h w 3"] | None = None,
        first_frame: UInt8[np.ndarray, "h w 3"] | None = None,
        prompt_images: Mapping[str, UInt8[np.ndarray, "_ _ 3"]] = types.MappingProxyType({}),
    ) -> dict[str, Any]:
        """Writes a video and its record.

        Args:
            index: Place of the video in the plan.
            frames: Its pixels.
            fps: Frames per second.
            answers: Answers of an LLM to its prompt, first the one that conditioned the video.
            clip: The clip that it reconstructs, of the same size.
            first_frame: The first frame that it was given, of the same size.
            prompt_images: Images of its prompt, by name.

        Returns:
            The record.
        """
        first = self._path(index, "first")
        names = [f"{index:03d}-{name}.png" for name in prompt_images]
        record = {
            "video": f"{index:03d}.mp4",
            **({} if clip is None else {"clip": self._path(index, "clip").name}),
            **({} if first_frame is None else {"first_frame_image": first.name}),
            **({"prompt_images": names} if names else {}),
            **self._plan["videos"][index],
            **self._plan["settings"],
            "answer": answers[0] if answers else None,
            "other_answers": list(answers[1:]),
        }
        written = {"mp4": frames} if clip is None else {"mp4": frames, "clip": clip}
        for kind, video in written.items():
            with files.atomic_file(self._path(index, kind)) as path:
                video_lib.write_mp4(path, video, fps=fps, scale=video_lib.display_scale(video))
        if first_frame is not None:
            with files.atomic_file(first) as path:
                Image.fromarray(first_frame).save(path, "PNG")
        for name, pixels in zip(names, prompt_images.values(), strict=True):
            with files.atomic_file(self._folder / name) as path:
                image = Image.fromarray(pixels)
                image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
                image.save(path, "png")
        if index < SHEET_ROWS:
            shown = frames if clip is None else video_lib.side_by_side(clip, frames)
            with files.atomic_file(self._work / f"{index:03d}.png") as path:
                video_lib.strip(shown).save(path)
        files.write_json(self._path(index, "json"), record)  # last: it marks the video complete
        return record

    def finish(self) -> None:
        """Writes the sheet and the page, unless they are there."""
        if self._finished:
            shutil.rmtree(self._work, ignore_errors=True)  # a kill may have left some of it
            return
        count = len(self._plan["videos"])
        rows = [self._work / f"{index:03d}.png" for index in range(min(count, SHEET_ROWS))]
        prompts = [video["prompt"] for video in self._plan["videos"][:SHEET_ROWS]]
        with files.atomic_file(self._folder / "sheet.png") as path:
            video_lib.contact_sheet([Image.open(row) for row in rows], prompts).save(path)
        videos = [self._path(index, "mp4") for index in range(count)]
        embed = sum(video.stat().st_size for video in videos) <= EMBEDDED_BYTES
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("mimir_jax", "sampling"),
            autoescape=True,
            trim_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        page = environment.get_template("gallery.html.jinja")
        with files.atomic_file(self._folder / _PAGE) as path:
            page.stream(count=count, cards=_cards(videos, embed=embed)).dump(str(path), "utf-8")
        shutil.rmtree(self._work)

    def _path(self, index: int, kind: str) -> pathlib.Path:
        suffix = {"clip": "-clip.mp4", "first": "-first.png"}.get(kind, f".{kind}")
        return self._folder / f"{index:03d}{suffix}"

    def _recorded(self) -> dict[str, Any]:
        """Returns the plan that the records of a finished folder tell."""
        settings, videos = {}, []
        for index in range(sum(1 for _ in self._folder.glob("[0-9]*.json"))):
            record = files.read_json(self._path(index, "json"), "record of a video")
            told = {name: value for name, value in record.items() if name not in _MADE}
            settings = {name: told[name] for name in self._plan["settings"] if name in told}
            videos.append({name: value for name, value in told.items() if name not in settings})
        return {"videos": videos, "settings": settings}

    def _require_same(self, old: Mapping[str, Any]) -> None:
        there, here = old.get("settings", {}), self._plan["settings"]
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if names:
            values = [json.dumps(x.get(names[0]))[:60] for x in (there, here)]
            what = f"{names[0]} is {values[0]} there and {values[1]} here"
        elif old.get("videos") != self._plan["videos"]:
            what = "prompts or seeds differ"
        else:
            return
        raise InputError(
            f"destination {self._folder} holds samples of another command: {what}; "
            "delete it or choose another"
        )


def make_videos(
    pipeline: pipeline_lib.Pipeline,
    requests: Sequence[Request],
    gallery: Gallery | None,
    *,
    batch_size: int | None = None,
    report: Callable[[int, dict[str, Any] | None], None] = lambda done, record: None,
) -> int:
    """Makes the videos that a gallery lacks, and finishes it.

    Of many processes all must call it alike; process 0 alone has a gallery.

    Args:
        pipeline: Makes the videos.
        requests: One per video of the gallery.
        gallery: Receives each video as soon as it exists; None on other processes.
        batch_size: Videos at a time; None takes what keeps all devices busy.
        report: Called with the number of videos that exist, and the record of the last one.

    Returns:
        The number of videos made.

    Raises:
        InputError: for requests that the pipeline cannot follow, or a gallery of others.
    """
    size = batch_size or pipeline.batch_multiple
    videos = [_describe(request) for request in requests]
    settings = {**pipeline.settings, "batch_size": size}
    missing = distributed.from_first(lambda: gallery.begin(videos, settings))
    done = len(requests) - len(missing)
    report(done, None)
    for start in range(0, len(missing), size):
        batch = missing[start : start + size]
        asked = [requests[index] for index in batch]
        frames, answers = pipeline.generate(asked, batch_size=size), pipeline.answers(asked)
        for index, video, said in zip(batch, frames, answers, strict=True):
            done += 1
            read = first_frames.fitted(requests[index], pipeline.size, pipeline.system)
            video = edits.spliced(read, video)
            shown = read.clip if read.video is None else read.video
            options = {"fps": pipeline.fps, "answers": said, "clip": shown}
            options |= {"first_frame": read.first_frame, "prompt_images": _prompt_images(read)}
            record = gallery and gallery.add(index, video, **options)
            report(done, record)
    if gallery is not None:
        gallery.finish()
    return len(missing)


def _describe(request: Request) -> dict[str, Any]:
    """Returns what a request differs by from others, for its record."""
    record: dict[str, Any] = {"prompt": request.prompt, "seed": request.seed}
    if request.negative_prompt is not None:
        record["negative_prompt"] = request.negative_prompt
    for name in ("clip", "tokens", "video", "mask", "extend"):
        if (array := getattr(request, name)) is not None:
            record[f"{name}_content"] = hashing.content_key(array).hex()[:12]
    if edits.is_edit(request):
        record["strength"] = edits.strength_of([request]) or 1.0
    if request.extend is not None:
        record["overlap"] = request.overlap
    if request.length is not None:
        record |= {"length": request.length, "window_overlap": request.window_overlap}
        record["scenes"] = [scene._asdict() for scene in request.scenes]
    given = {"images": request.images, "first_frame": request.first_frame}
    for name, value in given.items():
        if value is not None and len(value):
            arrays = value if isinstance(value, tuple) else (value,)
            record[name] = [hashing.content_key(array).hex()[:12] for array in arrays]
    if request.document is not None:
        text, image = request.document
        digest = None if image is None else hashing.content_key(image).hex()[:12]
        record["document"] = {"text": text, "image": digest}
    return record


def _prompt_images(request: Request) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """Returns the images of a prompt, by name."""
    found = {f"image-{number}": x for number, x in enumerate(request.images, 1)}
    found["document"] = request.document and request.document.image
    return {name: image for name, image in found.items() if image is not None}


def _cards(videos: Sequence[pathlib.Path], *, embed: bool) -> Iterator[dict[str, Any]]:
    """Yields what the page shows of each video; `embed` puts the video itself into the page."""
    for path in videos:
        text = path.with_suffix(".json").read_text(encoding="utf-8")
        optional = dict.fromkeys(("negative_prompt", "clip", "first_frame_image", "document"))
        record = {**optional, "prompt_images": [], **json.loads(text)}
        card = {"source": _source(path, embed=embed), "record": record, "text": text.strip()}
        for name in ("clip", "first_frame_image"):
            file = record[name] and path.with_name(record[name])
            card[name] = file and _source(file, embed=embed)
        card["prompt_images"] = [
            _source(path.with_name(x), embed=embed) for x in record["prompt_images"]
        ]
        yield card


def _source(path: pathlib.Path, *, embed: bool) -> str:
    """Returns the address of a file for the page: its content, or its name."""
    if not embed:
        return path.name
    kind = "image/png" if path.suffix == ".png" else "video/mp4"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
