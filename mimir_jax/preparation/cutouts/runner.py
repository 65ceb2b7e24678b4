# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes cut-outs of the clips of a folder; processes share the work through the destination.

subjects.jsonl         a line for each clip: caption, things with their images, place
sheet.png              what was made of the first clips
images/ID-N-K.png      thing N in frame K, transparent outside of it
images/ID-place.png    the middle frame without its things
work/settings.json     config and networks; a folder of others is refused
work/records/ID.json   the line of a clip, with the reason where nothing was made
work/claims/           which process works on what (`preparation.claims`)
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mimir_jax import files, hashing
from mimir_jax.data import clip_worker, video_io
from mimir_jax.data import cutouts as cutouts_lib
from mimir_jax.data.sources import captions as captions_lib
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.errors import InputError
from mimir_jax.image_files import RGBImage
from mimir_jax.preparation import claims as claims_lib
from mimir_jax.preparation import plugins, settings
from mimir_jax.preparation.cutouts import detect, entities, place, segment
from mimir_jax.preparation.cutouts.config import CutoutsConfig

SHEET = "sheet.png"

_WHAT = "earlier cut-outs"
_SAME_THING = 0.8  # overlap of masks from which two names have found one thing
_MARGIN = 0.04  # around a thing, of its longer side
_FRAME_SIDES = 2  # most pixels of a frame, along its longer side, in those of an image
_SHOWN = 24
_WAIT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class _Tools:
    """The plug-ins of a config."""

    find: entities.Finder
    detect: detect.Detector
    segment: segment.Segmenter
    inpaint: place.Inpainter | None


class Cutouts:
    """The cut-outs of a folder of clips, as one process sees them.

    Args:
        root: Folder of clips with captions, in any layout that training reads.
        out: Folder of cut-outs.
        config: How they are made.

    Raises:
        InputError: for a folder without videos or captions, or cut-outs of other settings.
    """

    def __init__(self, root: pathlib.Path, out: pathlib.Path, config: CutoutsConfig):
        if not root.is_dir():
            raise InputError(f"CLIPS must be a folder of videos, got {root}; pass an existing one")
        if root.resolve() in (out.resolve(), *out.resolve().parents):
            raise InputError(f"OUT must not be in CLIPS, got {out} in {root}; choose another")
        self.root, self.out, self._config = root, out, config
        self.videos, _ = folder_lib.list_videos(root)
        if not self.videos:
            raise InputError(f"CLIPS must hold videos, found none in {root}; choose another")
        self._captions = captions_lib.read(root, self.videos)
        settings.check(out, config, _WHAT)

    def work(self, report: Callable[[], None] = lambda: None) -> None:
        """Makes what is missing, until nothing is left, also by other processes.

        Args:
            report: Called when this process has finished a video.

        Raises:
            InputError: for a plug-in that cannot be made, before anything is written, or one that
                returns nonsense; what was done stays.
        """
        tools = self._make_tools()
        claims = self._create()
        todo = self.videos
        while todo := [video for video in todo if self._record(video) is None]:
            worked = False
            for video in todo:
                with claims.claim(_key(video)) as ended:
                    if ended is None or self._record(video) is not None:
                        continue
                    files.write_json(self._path(video), self._make(video, tools), indent=0)
                    worked = True
                report()
            if not worked:
                time.sleep(_WAIT_SECONDS)  # others work on what is left

    def finish(self) -> list[dict[str, Any]]:
        """Writes `subjects.jsonl` and the sheet, and returns a record for each video."""
        records = [record for video in self.videos if (record := self._record(video)) is not None]
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        files.write_text(self.out / cutouts_lib.FILE, "".join(lines))
        made = [record for record in records if record["things"]]
        if made:
            with files.atomic_file(self.out / SHEET) as temporary:
                draw_sheet(self.out, made[:_SHOWN]).save(temporary, format="png")
        return records

    def _make_tools(self) -> _Tools:
        cfg, find = self._config, plugins.find
        return _Tools(
            find=find("entities.finder", cfg.entities.finder)(cfg.entities),
            detect=find("detect.detector", cfg.detect.detector)(cfg.detect),
            segment=find("segment.segmenter", cfg.segment.segmenter)(cfg.segment),
            inpaint=find("place.inpainter", cfg.place.inpainter)(cfg.place),
        )

    def _create(self) -> claims_lib.Claims:
        """Makes the folder, with the settings of the process that is first."""
        with files.writing(self.out, "OUT"):
            for name in (settings.CLAIMS, "work/records", "images"):
                (self.out / name).mkdir(parents=True, exist_ok=True)
        claims = claims_lib.Claims(self.out / settings.CLAIMS)
        settings.create(self.out, self._config, _WHAT, claims)
        return claims

    def _path(self, video: str) -> pathlib.Path:
        return self.out / "work" / "records" / f"{_key(video)}.json"

    def _record(self, video: str) -> dict[str, Any] | None:
        """Returns a record that is still true of the clip and its captions, and has its images."""
        path = self._path(video)
        if not path.is_file():
            return None
        record = files.read_json(path, "record")
        there = all((self.out / name).is_file() for name in _images(record))
        return record if there and record["stamp"] == self._stamp(video) else None

    def _stamp(self, video: str) -> str:
        """Returns a digest of what a record is made from."""
        with files.reading(self.root / video, "clip"):
            status = (self.root / video).stat()
        facts = [status.st_size, status.st_mtime_ns, *self._captions[video]]
        return hashing.sha256(json.dumps(facts))[:16]

    def _make(self, video: str, tools: _Tools) -> dict[str, Any]:
        """Makes the images of a clip, and returns its record."""
        record: dict[str, Any] = {"file": video, "stamp": self._stamp(video), "things": []}
        cfg = self._config
        found: list[entities.Entity] = []
        for caption in sorted(self._captions[video], key=len):
            if found := entities.read(tools.find, cfg.entities, caption):
                record["caption"] = caption
                break
        if not found:
            return record | {"reason": "no caption names a single subject"}
        try:
            frames = _read_frames(self.root / video, cfg)
        except video_io.UnreadableClip as error:
            return record | {"reason": f"cannot be read: {error}"}
        covered = [np.zeros(frame.shape[:2], bool) for frame in frames]
        record["things"] = self._cut_things(video, found, frames, covered, tools)
        if not any(thing["kind"] == "subject" for thing in record["things"]):
            return record | {"things": [], "reason": "no subject was found in its frames"}
        if tools.inpaint is not None:
            words = [entity.words for entity in found if entity.kind == "background"]
            middle = len(frames) // 2
            painted = self._paint_place(video, frames[middle], covered[middle], tools.inpaint)
            record["place"] = {**painted, "words": words[0] if words else None}
        return record

    def _cut_things(
        self,
        video: str,
        found: Sequence[entities.Entity],
        frames: Sequence[np.ndarray],
        covered: Sequence[np.ndarray],
        tools: _Tools,
    ) -> list[dict[str, Any]]:
        """Cuts the things of a caption out of the frames of its clip.

        Args:
            video: The clip.
            found: What its caption names; backgrounds are left out.
            frames: Its frames.
            covered: A mask per frame, to which what is cut out is added; a thing that overlaps with
                it is left out of the frame.
            tools: Detector and segmenter.
        """
        cfg, things = self._config, []
        for number, entity in enumerate(e for e in found if e.kind != "background"):
            images = []
            for time_number, frame in enumerate(frames):
                box = detect.read(tools.detect, cfg.detect, frame, entity.words)
                mask = box and segment.read(tools.segment, cfg.segment, frame, box)
                if box is None or mask is None or _overlap(mask, covered[time_number]):
                    continue
                covered[time_number] |= mask
                name = f"images/{_key(video)}-{number}-{time_number}.png"
                digest = self._save(name, _cut(frame, mask))
                shown = {"image": name, "digest": digest, "box": [round(x, 1) for x in box[:4]]}
                images.append(shown | {"score": box.score, "area": round(float(mask.mean()), 4)})
            if images:
                things.append({**entity._asdict(), "images": images})
        return things

    def _paint_place(
        self, video: str, frame: np.ndarray, covered: np.ndarray, inpaint: place.Inpainter
    ) -> dict[str, str]:
        """Paints over what covers a frame, and returns the image of the place."""
        cfg = self._config
        small = shrink(frame, cfg.side)  # painting a large frame takes many seconds
        things = segment.resize(covered, small.shape[1], small.shape[0])
        name = f"images/{_key(video)}-place.png"
        digest = self._save(name, place.read(inpaint, cfg.place, small, things))
        return {"image": name, "digest": digest}

    def _save(self, name: str, image: np.ndarray) -> str:
        """Writes an image, and returns a digest: features of prompts depend on what it shows."""
        small = shrink(image, self._config.side)
        with files.atomic_file(self.out / name) as temporary:
            Image.fromarray(small).save(temporary, format="png")
        return hashing.content_key(small).hex()


def shrink(image: UInt8[np.ndarray, "_ _ c"], side: int) -> UInt8[np.ndarray, "_ _ c"]:
    """Returns an image of at most `side` pixels a side; what is transparent keeps its colours."""
    bands = Image.fromarray(image).split()
    for band in bands:  # Pillow makes what is transparent black where it resizes all bands at once
        band.thumbnail((side, side))
    return np.stack(bands, axis=-1)


def draw_sheet(folder: pathlib.Path, records: Sequence[dict[str, Any]]) -> Image.Image:
    """Draws a row per clip: caption, images of its things, place."""
    side, gap, words = 96, 6, 300
    rows = [_images(record) for record in records]
    sheet = Image.new(
        "RGB", (words + max(map(len, rows)) * (side + gap), len(rows) * (side + gap)), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, (record, names) in enumerate(zip(records, rows, strict=True)):
        top = number * (side + gap)
        listed = ", ".join(f"{thing['words']} ({thing['kind']})" for thing in record["things"])
        lines = [record["caption"][i : i + 46] for i in range(0, len(record["caption"]), 46)][:3]
        draw.multiline_text(
            (gap, top + gap), "\n".join([*lines, listed[:46]]), fill="black", font=font
        )
        for place_number, name in enumerate(names):
            with Image.open(folder / name) as image:
                shown = image.convert("RGBA")
            shown.thumbnail((side, side))
            under = Image.new("RGBA", shown.size, "white")
            left = words + place_number * (side + gap)
            sheet.paste(Image.alpha_composite(under, shown).convert("RGB"), (left, top))
    return sheet


def _images(record: dict[str, Any]) -> list[str]:
    """Returns the images of a record: those of its things, and its place."""
    names = [shown["image"] for thing in record["things"] for shown in thing["images"]]
    return [*names, record["place"]["image"]] if "place" in record else names


def _read_frames(path: pathlib.Path, config: CutoutsConfig) -> list[RGBImage]:
    """Returns the frames of a clip in square pixels, decoded in a process with limits."""
    limits = {"seconds": config.clip_seconds, "gigabytes": config.clip_gigabytes}
    _, (height, width) = clip_worker.measure_clip(path, **limits)

    def pick(timeline: video_io.Timeline) -> np.ndarray:
        last = len(timeline.times) - 1
        return np.array(sorted({round(time * last) for time in config.times}))

    scale = min(1.0, _FRAME_SIDES * config.side / max(height, width))
    size = {"height": max(1, round(scale * height)), "width": max(1, round(scale * width))}
    return list(clip_worker.read_clip(path, pick, **size, **limits))


def _cut(frame: RGBImage, mask: segment.Mask) -> np.ndarray:
    """Returns what a mask covers, with a margin, and the mask as transparency."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    margin = round(_MARGIN * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    window = np.s_[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    alpha = mask[window].astype(np.uint8) * 255
    return np.concatenate([frame[window], alpha[..., None]], axis=-1)


def _overlap(mask: segment.Mask, covered: segment.Mask) -> bool:
    """Whether most of a mask is covered by the things before it."""
    return bool((mask & covered).sum() > _SAME_THING * mask.sum())


def _key(video: str) -> str:
    return hashing.sha256(video)[:12]
