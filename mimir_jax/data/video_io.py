# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Chosen frames of one video, exact in time: PyAV for video, Pillow for GIF, WebP and images.

A video is a file, or a folder of numbered images (see `frame_folder`). A file is listed first
(packet times, nothing decoded), frames are chosen by their times, and only the range that holds
them is decoded. Any fault of a video raises `UnreadableClip`.
"""

import contextlib
import dataclasses
import io
import math
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import Float64, Int64, UInt8
from PIL import Image, ImageSequence

from mimir_jax import image_files
from mimir_jax.data import frame_folder
from mimir_jax.data import scalers as scalers_lib
from mimir_jax.errors import InputError

ANIMATIONS = (".gif", ".webp")
SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm", *ANIMATIONS)

_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # 00:00:01.333000000
DECODER_ERRORS = (
    av.FFmpegError,
    Image.DecompressionBombError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,  # Pillow raises it for a broken PNG or GIF header
    ValueError,
)


@dataclasses.dataclass(frozen=True)
class Stored:
    """A video file in memory.

    Attributes:
        name: Its name, whose suffix may tell decoders the format.
        content: Its bytes.
    """

    name: str
    content: bytes


File = str | os.PathLike[str] | Stored
Pick = Callable[["Timeline"], Int64[np.ndarray, "frames"]]
Fit = Callable[[UInt8[np.ndarray, "h w 3"], float], UInt8[np.ndarray, "height width 3"]]


class UnreadableClip(InputError):
    """A clip that cannot give the frames asked for; the message says why."""


@dataclasses.dataclass(frozen=True)
class FrameLimits:
    """Frames that are large and square enough to learn from.

    Attributes:
        min_side: Least pixels along the shorter side.
        min_aspect: Least ratio of the shorter to the longer side, in 0..1.
    """

    min_side: int = 0
    min_aspect: float = 0.0

    def check(self, height: float | int, width: float | int) -> None:
        """Checks the size of a frame in pixels.

        Raises:
            UnreadableClip: if it is too small or too long.
        """
        short, long = sorted((height, width))
        if short < self.min_side:
            raise UnreadableClip(
                f"must have at least {self.min_side} pixels along the shorter side, has {short:g}"
            )
        if short / long < self.min_aspect:
            raise UnreadableClip(
                f"must have a shorter side of at least {self.min_aspect} of the longer one, has "
                f"{width:g} x {height:g}"
            )


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When each frame of a clip is on screen, in seconds from the first.

    Attributes:
        times: Start of each frame, ascending.
        end: End of the last frame.
        tick: Precision of the times.
    """

    times: Float64[np.ndarray, "n"]
    end: float
    tick: float = 1e-3


@dataclasses.dataclass(frozen=True)
class Listing:
    """A timeline with the container's own time stamps.

    Attributes:
        timeline: When each frame is shown.
        stamps: Time stamp of each frame; None where frames are decoded by count.
        keys: Stamps of the key frames.
    """

    timeline: Timeline
    stamps: Int64[np.ndarray, "n"] | None
    keys: Int64[np.ndarray, "k"]


def read_clip(path: File, pick: Pick, fit: Fit) -> UInt8[np.ndarray, "f h w 3"]:
    """Reads the frames that `pick` chooses.

    Args:
        path: The video file, or a folder of frames.
        pick: Maps the clip's `Timeline` to frame numbers, repeats allowed.
        fit: Maps a frame and its pixel aspect to the output size.

    Raises:
        UnreadableClip: if the file cannot be decoded or `pick` refuses it.
    """
    try:
        if is_folder(path):
            return _read_folder(path, pick, fit)
        read = _read_animation if is_animation(path) else _read_container
        return read(path, pick, fit)
    except (UnreadableClip, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a damaged file provokes
        raise unreadable(error) from error


def unreadable(error: Exception) -> UnreadableClip:
    """Returns the fault of a file that made a decoder raise `error`."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreadableClip(reason.strip().partition("\n")[0][:200])


class _Memory(io.BytesIO):
    """What a decoder reads of a `Stored` video."""

    def __init__(self, stored: Stored):
        super().__init__(stored.content)
        self.name = stored.name


def openable(path: File) -> str | _Memory:
    """Returns what PyAV and Pillow open; a relative name such as `12:30.mp4` is like an address."""
    return _Memory(path) if isinstance(path, Stored) else os.path.abspath(path)


def is_folder(path: File) -> bool:
    """Whether a video is a folder of frames."""
    return not isinstance(path, Stored) and os.path.isdir(path)


def list_folder(folder: str | os.PathLike[str]) -> tuple[Timeline, tuple[pathlib.Path, ...]]:
    """Returns when each frame of a folder is shown, and their files, all of one size.

    Raises:
        InputError: for what `frame_folder` refuses.
    """
    files, fps = frame_folder.list_frames(folder)
    frame_folder.check_sizes(files)
    return Timeline(np.arange(len(files)) / fps, len(files) / fps), files


def is_animation(path: File) -> bool:
    """Whether the content, not the name, is that of a GIF or WebP, or an image of one frame."""
    if isinstance(path, Stored):
        head = path.content[:12]
    else:
        with open(path, "rb") as file:
            head = file.read(12)
    if head.startswith((b"GIF8", b"\x89PNG", b"\xff\xd8\xff")):
        return True
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def _read_animation(path: File, pick: Pick, fit: Fit) -> UInt8[np.ndarray, "f h w 3"]:
    frames, durations = [], []
    with Image.open(openable(path)) as image:
        for page in ImageSequence.Iterator(image):
            page.load()  # WebP knows the duration of a page only then
            durations.append(page_seconds(page.info.get("duration", 0)))
            frames.append(fit(image_files.as_rgb(page), 1.0))
        tick = 1e-2 if image.format == "GIF" else 1e-3
    ends = np.cumsum(durations)
    times = np.concatenate([[0.0], ends[:-1]])
    return np.stack(frames)[pick(Timeline(times, float(ends[-1]), tick))]  # (f, h, w, 3)


def _read_folder(
    path: str | os.PathLike[str], pick: Pick, fit: Fit
) -> UInt8[np.ndarray, "f h w 3"]:
    timeline, files = list_folder(path)
    chosen = pick(timeline)
    frames = {i: fit(image_files.read(files[i]), 1.0) for i in np.unique(chosen).tolist()}
    return np.stack([frames[i] for i in chosen.tolist()])  # (f, h, w, 3)


def page_seconds(milliseconds: int | float) -> float:
    """Returns how long browsers show a page of an animation with this duration."""
    return 0.1 if milliseconds <= 10 else milliseconds / 1e3


def _read_container(path: File, pick: Pick, fit: Fit) -> UInt8[np.ndarray, "f h w 3"]:
    listing = list_frames(path)
    chosen = pick(listing.timeline)
    wanted = np.unique(chosen)
    frames = {}
    if listing.stamps is not None and (start := _key_before(listing, wanted[0])) is not None:
        with contextlib.suppress(*DECODER_ERRORS):  # frames that refer to before the key frame
            frames = _decode(path, listing, wanted, fit, start)
    if len(frames) < len(wanted):
        frames = _decode(path, listing, wanted, fit, None)
    if len(frames) < len(wanted):
        raise UnreadableClip(f"decodes only {len(frames)} of {len(wanted)} chosen frames")
    return np.stack([frames[i] for i in chosen.tolist()])  # (f, h, w, 3)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Returns the video of a container.

    Raises:
        UnreadableClip: if it holds none.
    """
    stream = container.streams.best("video")  # never the cover image of a film
    if stream is None:
        raise UnreadableClip("holds no video stream")
    return stream


def list_frames(path: File) -> Listing:
    """Reads the time of every frame of a video without decoding any.

    Raises:
        UnreadableClip: if the file ends well before the duration its header declares.
    """
    with av.open(openable(path)) as container:
        stream = video_stream(container)
        declared, rate = _declared_seconds(container, stream), stream.average_rate
        from_zero = "matroska" in container.format.name  # durations count from 0, not from a start
        packets, base, stamped = _read_packets(container, stream)
    shown = {packet.at: packet for packet in packets if not packet.is_hidden}
    if not shown:
        raise UnreadableClip("shows none of its frames")
    stamps = np.array(sorted(shown), np.int64)
    usual = float(np.median(np.diff(stamps)) if len(stamps) > 1 else 1 / (base * (rate or 25)))
    times = (stamps - stamps[0]) * float(base)
    length = shown[int(stamps[-1])].length or usual
    first = min(0 if from_zero else math.inf, *(packet.at for packet in packets))
    spread = max(packet.at for packet in packets) - first + length  # with hidden ones
    if declared is not None and declared - spread * base > 3 * usual * base + declared / 20:
        raise UnreadableClip(
            f"ends early, at {float(spread * base):.2f} of {float(declared):.2f} s"
        )
    keys = np.array([stamp for stamp in stamps.tolist() if shown[stamp].is_key], np.int64)
    even = len(np.unique(np.diff(stamps))) <= 1  # then the stamps are not rounded
    tick = 1e-3 if even else min(max(float(base), 1e-3), usual * float(base) / 2)
    timeline = Timeline(times, float(times[-1] + length * base), tick)
    return Listing(timeline, stamps if stamped else None, keys)


class _Packet(NamedTuple):
    """A frame as it is stored: when it is shown and for how long, in units of the stream."""

    at: int
    length: int
    is_key: bool
    is_hidden: bool


def _read_packets(
    container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[list[_Packet], Fraction, bool]:
    """Reads the packets of a video.

    Returns:
        The packets, the unit of their times in seconds, and whether the file states the times;
        otherwise they count frames at the rate of the stream, and none is a key frame.

    Raises:
        UnreadableClip: if there are none, or nothing tells their times.
    """
    found = [packet for packet in container.demux(stream) if packet.size]
    if not found:
        raise UnreadableClip("holds no frames")
    if container.format.name != "avi" and all(p.pts is not None for p in found):
        packets = [_Packet(p.pts, p.duration or 0, p.is_keyframe, p.is_discard) for p in found]
        return packets, stream.time_base, True
    base, shown_at = stream.time_base, _decoding_times(found)
    if shown_at is None:
        if not stream.average_rate:
            raise UnreadableClip("has neither time stamps nor a frame rate")
        base, shown_at = 1 / stream.average_rate, list(range(len(found)))
    return [_Packet(at, 1, False, False) for at in shown_at], base, False


def _decoding_times(packets: Sequence[av.Packet]) -> list[int] | None:
    """Returns the times of frames in the order in which they are shown, None where there are none.

    AVI numbers frames in the order of decoding. Frames are shown at the same times in another
    order, and a number that is left out is a frame that was dropped.
    """
    times = [packet.dts for packet in packets]
    return sorted(times) if None not in times and len(set(times)) == len(times) else None


def _declared_seconds(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Fraction | float | None:
    """Returns the length of the video stream that the header declares, None if it declares none."""
    if stream.duration:
        return stream.duration * stream.time_base
    if clock := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska and WebM
        hours, minutes, seconds = map(float, clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _key_before(listing: Listing, index: np.integer) -> int | None:
    """Returns the stamp of the last key frame up to frame `index`, None for the first frame."""
    keys = listing.keys[listing.keys <= listing.stamps[index]]
    return int(keys[-1]) if len(keys) and keys[-1] > listing.stamps[0] else None


def _decode(
    path: File, listing: Listing, wanted: np.ndarray, fit: Fit, start: int | None
) -> dict[int, UInt8[np.ndarray, "h w 3"]]:
    """Decodes from key frame `start` (None: the beginning) until it has the `wanted` frames.

    A frame the decoder calls corrupt, and those that build on it, are left out. VP9 and HEVC
    decoders do not notice damage inside a packet.
    """
    stamps = listing.stamps if listing.stamps is not None else range(int(wanted[-1]) + 1)
    number = {int(stamps[i]): i for i in wanted.tolist()}
    last = max(number)
    frames, spoilt, scalers = {}, False, scalers_lib.Scalers()
    with av.open(openable(path)) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1  # the loader reads several clips at once
        aspect = float(stream.sample_aspect_ratio or 1)
        if start is not None:
            container.seek(start, stream=stream)
        for count, frame in enumerate(container.decode(stream)):
            stamp = frame.pts if listing.stamps is not None else count
            if stamp is None or stamp > last:
                break
            spoilt = frame.is_corrupt or (spoilt and not frame.key_frame)
            if stamp in number and not spoilt:
                frames[number[stamp]] = _upright(frame, aspect, fit, scalers)
            if stamp == last:
                break
    return frames


def _upright(
    frame: av.VideoFrame, aspect: float, fit: Fit, scalers: scalers_lib.Scalers
) -> UInt8[np.ndarray, "h w 3"]:
    image = scalers.convert(on_white(frame), "rgb24", frame.width, frame.height, "rgb24")
    pixels, lying = turn(display_matrix(frame), image.to_ndarray())
    return fit(pixels, 1 / aspect if lying else aspect)


def on_white(frame: av.VideoFrame) -> av.VideoFrame:
    """Returns a frame without transparency; what is transparent becomes white, as in images."""
    if not any(component.is_alpha for component in frame.format.components):
        return frame
    image = Image.fromarray(frame.to_ndarray(format="rgba"))
    return av.VideoFrame.from_ndarray(image_files.as_rgb(image), format="rgb24")


def display_matrix(frame: av.VideoFrame) -> bytes | None:
    """Returns how a frame is turned and mirrored before it is shown, None for not at all."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else bytes(matrix)


def turn(
    matrix: bytes | None, pixels: UInt8[np.ndarray, "h w *c"]
) -> tuple[UInt8[np.ndarray, "height width *c"], bool]:
    """Turns and mirrors the pixels of a frame, at any size, as its display matrix says.

    Returns:
        The pixels, and whether rows have become columns.
    """
    if matrix is None:
        return pixels, False
    # Columns and rows of an image (x, y) are shown at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = np.frombuffer(matrix, "<i4", 9).tolist()
    if lying := abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1], lying
