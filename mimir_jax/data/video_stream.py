# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""All frames of one video in order, each converted only as far as somebody asks.

`video_io` reads chosen frames of one size. Whoever has to see every frame of a long video, in
several sizes, streams it: memory holds one decoded frame.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Hashable, Iterator

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from mimir_jax import image_files
from mimir_jax.data import scalers as scalers_lib
from mimir_jax.data import video_io


@dataclasses.dataclass(frozen=True)
class Picture:
    """A frame in the size in which it is kept, which becomes RGB or luma where somebody asks.

    Attributes:
        source: The frame in that size, in the decoder's or another pixel format.
        width: Columns of its images before they are turned.
        height: Rows before they are turned.
        matrix: How it is turned.
        key: Names its size among the scalers.
        scalers: Those of its video.
    """

    source: av.VideoFrame
    width: int
    height: int
    matrix: bytes | None
    key: Hashable
    scalers: scalers_lib.Scalers

    def rgb(self, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the picture in colour.

        Args:
            size: Columns and rows, as shown; None for its own.
        """
        if size is None:
            return self._image("rgb24", self.key, self.width, self.height)
        width, height = size[::-1] if self._lying else size
        key = self.key, "resized"
        # First without RGB, in which scaling takes twice the time.
        shrunk = self.scalers.convert(self.source, key, width, height, "yuv420p")
        shrunk = dataclasses.replace(self, source=shrunk, key=key, width=width, height=height)
        return shrunk.rgb()

    def gray(self) -> UInt8[np.ndarray, "h w"]:
        """Returns its luma, from 0 for black to 255 for white."""
        return self._image("gray", self.key, self.width, self.height)

    @property
    def _lying(self) -> bool:
        return video_io.turn(self.matrix, np.empty((1, 1), np.uint8))[1]

    def _image(
        self, pixel_format: str, key: Hashable, width: int, height: int
    ) -> UInt8[np.ndarray, "h w *c"]:
        key = key, pixel_format
        frame = self.scalers.convert(self.source, key, width, height, pixel_format)
        return np.ascontiguousarray(video_io.turn(self.matrix, frame.to_ndarray())[0])


@dataclasses.dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
        number: Its place in the video, from 0.
        source: The frame as decoded.
        pixel_aspect: Width over height of one stored pixel.
        scalers: Those of its video.
    """

    number: int
    source: av.VideoFrame
    pixel_aspect: float = 1.0
    scalers: scalers_lib.Scalers = dataclasses.field(default_factory=scalers_lib.Scalers)

    @property
    def turned(self) -> bool:
        """Whether the frame is to be turned or mirrored before it is shown."""
        return self._matrix is not None

    @functools.cached_property
    def _matrix(self) -> bytes | None:
        return video_io.display_matrix(self.source)

    def size(self) -> tuple[int, int]:
        """Returns rows and columns of the frame as it is shown, with square pixels."""
        height, width = self.source.height, round(self.source.width * self.pixel_aspect)
        lying = video_io.turn(self._matrix, np.empty((1, 1, 3), np.uint8))[1]
        return (width, height) if lying else (height, width)

    def image(self, side: int | None = None, *, quick: bool = False) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the frame as RGB; see `picture` for the arguments."""
        return self.picture(side, quick=quick).rgb()

    def picture(self, side: int | None = None, *, quick: bool = False) -> Picture:
        """Returns the frame to be kept in some size; only a small one needs little memory.

        Args:
            side: Pixels along the shorter side, if that is less than the frame has; None leaves
                the size as it is.
            quick: Whether to take the nearest pixels, which takes less than half the time of means.
        """
        height, width = self.source.height, self.source.width * self.pixel_aspect
        scale = min(1.0, (side or 1 << 30) / min(height, width))
        frame, width, height = video_io.on_white(self.source), round(width), round(height)
        if scale < 1:  # first, and without RGB, in which averaging takes twice the time
            width, height = _even(width * scale), _even(height * scale)
            how = Interpolation.POINT if quick else Interpolation.AREA
            key = side, quick, "yuv420p"
            frame = self.scalers.convert(frame, key, width, height, "yuv420p", how)
        return Picture(frame, width, height, self._matrix, (side, quick), self.scalers)


def _even(size: float) -> int:
    return max(2, 2 * round(size / 2))


@contextlib.contextmanager
def open_video(
    path: str | os.PathLike[str],
    scalers: scalers_lib.Scalers | None = None,
) -> Iterator[tuple[video_io.Timeline, Iterator[Frame]]]:
    """Opens a video; yields when its frames are shown, and the frames.

    Frames that the decoder calls corrupt end the video with an error.

    Args:
        path: The video.
        scalers: Those of videos before, which its frames may use; None for new ones.

    Raises:
        UnreadableClip: if the file cannot be decoded; also while the frames are read.
    """
    name, scalers = os.fspath(path), scalers or scalers_lib.Scalers()
    with contextlib.ExitStack() as stack:
        with _own_errors():
            if video_io.is_folder(name):
                timeline, files = video_io.list_folder(name)
                frames = (
                    Frame(n, _image_frame(file), scalers=scalers) for n, file in enumerate(files)
                )
            elif video_io.is_animation(name):
                image = stack.enter_context(Image.open(name))
                pages = list(_pages(image))
                starts = np.cumsum([0.0, *(seconds for _, seconds in pages)])
                timeline = video_io.Timeline(starts[:-1], float(starts[-1]))
                frames = (
                    Frame(number, page, scalers=scalers) for number, (page, _) in enumerate(pages)
                )
            else:
                listing = video_io.list_frames(name)
                timeline = listing.timeline
                container = stack.enter_context(av.open(video_io.openable(name)))
                frames = _decode(container, listing, scalers)
        yield timeline, _guarded(frames)


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Turns what decoders raise into `UnreadableClip`."""
    try:
        yield
    except video_io.UnreadableClip:
        raise
    except video_io.DECODER_ERRORS as error:
        raise video_io.unreadable(error) from error


def _guarded(frames: Iterator[Frame]) -> Iterator[Frame]:
    while True:
        with _own_errors():  # not around the yield, where errors are those of the reader
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _image_frame(file: pathlib.Path) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image_files.read(file), format="rgb24")


def _pages(image: Image.Image) -> Iterator[tuple[av.VideoFrame, float]]:
    for page in ImageSequence.Iterator(image):
        page.load()  # WebP knows the duration of a page only then
        milliseconds = page.info.get("duration", 0)
        frame = av.VideoFrame.from_ndarray(image_files.as_rgb(page), format="rgb24")
        yield frame, video_io.page_seconds(milliseconds)


def _decode(
    container: av.container.InputContainer,
    listing: video_io.Listing,
    scalers: scalers_lib.Scalers,
) -> Iterator[Frame]:
    stream = video_io.video_stream(container)
    stream.codec_context.thread_count = 1  # processes share the cores
    aspect = float(stream.sample_aspect_ratio or 1)
    stamps = listing.stamps
    numbers = None if stamps is None else {int(stamp): i for i, stamp in enumerate(stamps)}
    count = 0
    for frame in container.decode(stream):
        number = count if numbers is None else numbers.get(frame.pts)
        if number is None:  # before the first frame that is shown
            continue
        if frame.is_corrupt:
            raise video_io.UnreadableClip(f"is damaged at frame {number}")
        yield Frame(number, frame, aspect, scalers)
        count += 1
    if count < len(listing.timeline.times):
        raise video_io.UnreadableClip(
            f"decodes only {count} of {len(listing.timeline.times)} frames"
        )
