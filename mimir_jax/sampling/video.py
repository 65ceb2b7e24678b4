# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos as files: mp4 through PyAV, and contact sheets with their prompts as PNG."""

import pathlib
import textwrap
from collections.abc import Sequence

import av
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

MIN_SHOWN = 256
"""Clips with fewer rows or columns are enlarged in their files by repeating pixels."""

ROW_HEIGHT = 128  # of a contact sheet, in pixels
_GAP, _CAPTION_WIDTH = 6, 300


def to_uint8(
    video: Float[np.ndarray, "*b h w 3"], *, truncate: bool = False
) -> UInt8[np.ndarray, "*b h w 3"]:
    """Maps [-1, 1] to 0..255, clipping, and rounding or truncating as Divot's public code does."""
    if truncate:
        return ((np.clip(video, -1, 1) + 1) / 2 * 255).astype(np.uint8)
    return np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)


def side_by_side(
    *videos: UInt8[np.ndarray, "f h _ 3"],
) -> UInt8[np.ndarray, "f h _ 3"]:
    """Joins clips of one length and height from left to right, with a white line between them."""
    gap = np.full((*videos[0].shape[:2], max(1, videos[0].shape[2] // 32), 3), 255, np.uint8)
    parts = [part for video in videos for part in (gap, video)]
    return np.concatenate(parts[1:], axis=2)


def write_mp4(
    path: pathlib.Path, frames: UInt8[np.ndarray, "f h w 3"], *, fps: float, scale: int = 1
) -> None:
    """Writes H.264 in 4:2:0 at high quality; `scale` repeats pixels so small clips are visible."""
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    with av.open(str(path.absolute()), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "14", "preset": "medium", "threads": "1"}
        for frame in frames[:, :height, :width]:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def display_scale(frames: UInt8[np.ndarray, "f h w 3"]) -> int:
    """Returns how often to repeat pixels so that the shorter side has about 256, at least once."""
    return max(1, MIN_SHOWN // min(frames.shape[1:3]))


def strip(
    video: UInt8[np.ndarray, "f h w 3"], *, columns: int = 5, height: int = ROW_HEIGHT
) -> Image.Image:
    """Draws a row of `columns` frames, evenly spaced in time and scaled to `height` pixels."""
    rows, width = video.shape[1:3]
    size = (round(height * width / rows), height)
    image = Image.new("RGB", (columns * (size[0] + _GAP), height), "white")
    for column, index in enumerate(np.linspace(0, len(video) - 1, columns).round()):
        frame = Image.fromarray(video[int(index)]).resize(size, Image.Resampling.LANCZOS)
        image.paste(frame, (column * (size[0] + _GAP), 0))
    return image


def contact_sheet(strips: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Draws strips below each other, each with its caption on the left."""
    width, height = strips[0].size
    row_height = height + _GAP
    size = (_CAPTION_WIDTH + width + _GAP, len(strips) * row_height + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for row, (image, caption) in enumerate(zip(strips, captions, strict=True)):
        top = _GAP + row * row_height
        lines = textwrap.wrap(caption, 40)[: height // 18]
        draw.multiline_text((_GAP, top), "\n".join(lines), fill="black", font=font, spacing=3)
        sheet.paste(image, (_CAPTION_WIDTH, top))
    return sheet


def write_samples(
    folder: pathlib.Path,
    videos: Sequence[UInt8[np.ndarray, "f h w 3"]],
    captions: Sequence[str],
    *,
    fps: float,
) -> list[pathlib.Path]:
    """Writes `sheet.png`, one mp4 per video and `captions.txt`; returns the sheet first."""
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / "sheet.png"
    contact_sheet([strip(video) for video in videos], captions).save(sheet)
    paths = [sheet]
    for index, video in enumerate(videos):
        path = folder / f"{index:02d}.mp4"
        write_mp4(path, video, fps=fps, scale=display_scale(video))
        paths.append(path)
    (folder / "captions.txt").write_text("\n".join(captions) + "\n")
    return paths
