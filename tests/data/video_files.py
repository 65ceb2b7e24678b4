# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Small video files whose frame i has brightness 10 + 5 * i, and ways to break them."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
import numpy as np
from PIL import Image

CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4"}


def gray(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def frames_of(video: np.ndarray) -> list[int]:
    """Reads the frame numbers back from the brightness."""
    return np.round((video.astype(np.float64).mean((1, 2, 3)) - 10) / 5).astype(int).tolist()


def write_video(
    path: pathlib.Path,
    images: Sequence[np.ndarray],
    *,
    fps: int = 24,
    codec: str | None = None,
    milliseconds: Sequence[int] | None = None,
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
    faststart: bool = False,
    options: Mapping[str, str] | None = None,
) -> None:
    """Writes images at `fps`, or at the given times."""
    muxing = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec or CODECS.get(path.suffix, "libx264"), rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", dict(options or {})
        stream.bit_rate = 4_000_000
        if milliseconds:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if milliseconds:
                frame.pts, frame.time_base = milliseconds[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_animation(
    path: pathlib.Path, images: Sequence[np.ndarray], milliseconds: int | Sequence[int]
) -> None:
    first, *rest = [Image.fromarray(image) for image in images]
    kind = {"lossless": True} if path.suffix == ".webp" else {"disposal": 2}
    first.save(path, save_all=True, append_images=rest, duration=milliseconds, loop=0, **kind)


def write_clip(path: pathlib.Path, count: int, fps: int = 8) -> None:
    """Writes `count` gray frames in whatever format the name asks for."""
    images = [gray(10 + 5 * i) for i in range(count)]
    if path.suffix in (".gif", ".webp"):
        write_animation(path, images, round(1000 / fps))
    else:
        write_video(path, images, fps=fps)


def write_captions(folder: pathlib.Path, captions: Mapping[str, object]) -> None:
    lines = [json.dumps({"file": file, "caption": text}) for file, text in captions.items()]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


def break_file(path: pathlib.Path, how: str) -> None:
    """Breaks a file: `empty`, `noise`, `cut` at 60 % or `garbled` in its middle third."""
    data = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, len(data), dtype=np.uint8).tobytes()
    third = len(data) // 3
    path.write_bytes(
        {
            "empty": b"",
            "noise": noise,
            "cut": data[: len(data) * 6 // 10],
            "garbled": data[:third] + noise[:third] + data[2 * third :],
        }[how]
    )
