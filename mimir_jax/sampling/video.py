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


def to_uint8(
    video: Float[np.ndarray, "*b h w 3"],
) -> UInt8[np.ndarray, "*b h w 3"]:
    """Maps [-1, 1] to 0..255, rounding and clipping."""
    return np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)


def write_mp4(
    path: pathlib.Path, frames: UInt8[np.ndarray, "f h w 3"], *, fps: float, scale: int = 1
) -> None:
    """Writes H.264 in 4:2:0 at high quality; `scale` repeats pixels so small clips are visible."""
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "14", "preset": "medium", "threads": "1"}
        for frame in frames[:, :height, :width]:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def contact_sheet(
    videos: Sequence[UInt8[np.ndarray, "f h w 3"]],
    captions: Sequence[str],
    *,
    columns: int = 5,
    tile: int = 128,
) -> Image.Image:
    """Draws one row a video: its caption on the left, `columns` frames evenly over time."""
    text_width, gap = 300, 6
    font = ImageFont.load_default(size=14)
    height, width = videos[0].shape[1:3]
    tile_size = (round(tile * width / height), tile)
    row_height = tile + gap
    sheet = Image.new(
        "RGB",
        (text_width + columns * (tile_size[0] + gap) + gap, len(videos) * row_height + gap),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for row, (video, caption) in enumerate(zip(videos, captions, strict=True)):
        top = gap + row * row_height
        lines = textwrap.wrap(caption, 40)[: tile // 18]
        draw.multiline_text((gap, top), "\n".join(lines), fill="black", font=font, spacing=3)
        for column, index in enumerate(np.linspace(0, len(video) - 1, columns).round()):
            frame = Image.fromarray(video[int(index)])
            frame = frame.resize(tile_size, Image.Resampling.LANCZOS)
            sheet.paste(frame, (text_width + column * (tile_size[0] + gap), top))
    return sheet


def write_samples(
    folder: pathlib.Path,
    videos: Sequence[UInt8[np.ndarray, "f h w 3"]],
    captions: Sequence[str],
    *,
    fps: float,
) -> list[pathlib.Path]:
    """Writes `sheet.png`, one mp4 a video and `captions.txt`; returns the sheet first."""
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / "sheet.png"
    contact_sheet(videos, captions).save(sheet)
    paths = [sheet]
    scale = max(1, 256 // min(videos[0].shape[1:3]))
    for index, video in enumerate(videos):
        path = folder / f"{index:02d}.mp4"
        write_mp4(path, video, fps=fps, scale=scale)
        paths.append(path)
    (folder / "captions.txt").write_text("\n".join(captions) + "\n")
    return paths
