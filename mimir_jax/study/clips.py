# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of videos with prompts, and which videos of different systems belong together."""

import contextlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import av

from mimir_jax import files as files_lib
from mimir_jax.errors import InputError
from mimir_jax.study import form

SUFFIXES = (".mp4", ".webm")
CODECS = ("h264", "vp8", "vp9", "av1")  # what today's browsers play


class Clip(NamedTuple):
    """A video and the text it was made from."""

    path: pathlib.Path
    prompt: str


def read_folder(folder: str | os.PathLike[str]) -> list[Clip]:
    """Lists the videos of one system with their prompts, sorted by name, numbers as numbers.

    Prompts come from `captions.txt`, whose line i belongs to the i-th video, or else from a JSON
    record `NAME.json` with a "prompt", or else from `NAME.txt`, beside each video.

    Raises:
        ValueError: if there is no video, or a video without a prompt.
    """
    folder = files_lib.expand_path(folder)
    if not folder.is_dir():
        raise InputError(f"a system needs an existing folder, found none at {folder}")
    try:
        files = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
        ]
        files.sort(key=lambda path: form.natural(path.name))
        if not files:
            raise InputError(f"{folder} needs at least one video ({' '.join(SUFFIXES)}), has none")
        captions = folder / "captions.txt"
        if captions.is_file():
            prompts = _read_captions(captions, len(files))
        else:
            prompts = [_read_prompt(file) for file in files]
    except OSError as error:
        name = error.filename or folder
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from None
    if silent := [file.name for file, prompt in zip(files, prompts, strict=True) if not prompt]:
        raise InputError(
            f"every video in {folder} needs a prompt, found none for {some(silent)}; write "
            "captions.txt, or NAME.json or NAME.txt beside each video"
        )
    return [Clip(*pair) for pair in zip(files, prompts, strict=True)]


def match(
    systems: Mapping[str, Sequence[Clip]],
) -> tuple[list[dict[str, Clip]], dict[str, list[str]]]:
    """Puts together the videos of one prompt that all systems have.

    Where a system has a prompt several times, its first belongs to the first of the others, its
    second to the second and so on.

    Returns:
        For every common prompt one clip a system, and the names of the clips left out, by system.

    Raises:
        ValueError: if there are fewer than two systems or no common prompts.
    """
    if len(systems) < 2:
        raise InputError(f"a study compares at least two systems, got {len(systems)}")
    indexed: dict[str, dict[tuple[str, int], Clip]] = {}
    for name, found in systems.items():
        index = indexed[name] = {}
        count: dict[str, int] = {}
        for clip in found:
            count[clip.prompt] = count.get(clip.prompt, 0) + 1
            index[clip.prompt, count[clip.prompt]] = clip
    first, *others = indexed.values()
    common = [key for key in first if all(key in index for index in others)]
    if not common:
        raise InputError(f"systems {', '.join(systems)} need a common prompt, they share none")
    groups = [{name: index[key] for name, index in indexed.items()} for key in common]
    chosen = set(common)
    unmatched = {
        name: [clip.path.name for key, clip in index.items() if key not in chosen]
        for name, index in indexed.items()
    }
    return groups, {name: files for name, files in unmatched.items() if files}


def copy_bare(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies the frames of a video, without its sound and without titles or tool names.

    Nothing is encoded anew.

    Raises:
        ValueError: if it cannot be read, or browsers would not play it.
    """
    with contextlib.ExitStack() as stack:
        try:
            old = stack.enter_context(av.open(str(source.absolute())))
            stream = _playable(old, source)
            packets = [packet for packet in old.demux(stream) if packet.dts is not None]
        except av.FFmpegError as error:
            raise InputError(f"{source} cannot be read as a video: {error.strerror}") from None
        options = {"fflags": "+bitexact"}  # keeps the muxer from signing the file
        if target.suffix == ".mp4":
            options["movflags"] = "+faststart"
        try:
            new = stack.enter_context(av.open(str(target.absolute()), "w", options=options))
            copy = new.add_stream_from_template(stream, opaque=True)  # opaque: needs no encoder
            for packet in packets:
                packet.stream = copy
                new.mux(packet)
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # the disk, not the video
                raise
            raise InputError(f"{source} cannot be copied: {error.strerror}") from None


def some(names: Sequence[str], most: int = 5) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _playable(container: av.container.InputContainer, source: pathlib.Path) -> av.VideoStream:
    """Returns the video stream, if browsers play what it holds."""
    if not container.streams.video:
        raise InputError(f"{source} must hold a video, holds none")
    stream = container.streams.video[0]
    context = stream.codec_context  # None for what no decoder is known for
    codec, pixels = (context.codec.canonical_name, context.pix_fmt) if context else ("unknown", "")
    if codec not in CODECS or (codec == "h264" and pixels not in ("yuv420p", "yuvj420p")):
        raise InputError(
            f"{source} must be 8-bit 4:2:0 H.264, VP8, VP9 or AV1 to play in every browser, got "
            f"{codec} {pixels}; encode it anew: ffmpeg -i OLD -c:v libx264 -pix_fmt yuv420p NEW.mp4"
        )
    return stream


def _read_captions(path: pathlib.Path, count: int) -> list[str]:
    prompts = [_clean(line) for line in _read_text(path).split("\n")]
    while len(prompts) > count and not prompts[-1]:
        prompts.pop()
    if len(prompts) != count:
        raise InputError(f"{path} needs a line for each of {count} videos, has {len(prompts)}")
    return prompts


def _read_prompt(video: pathlib.Path) -> str:
    record, text = video.with_suffix(".json"), video.with_suffix(".txt")
    if record.is_file():
        try:
            prompt = json.loads(_read_text(record))["prompt"]
            return _clean(prompt)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError(f'{record} must be a JSON object with a text "prompt"') from None
    return _clean(_read_text(text)) if text.is_file() else ""


def _read_text(path: pathlib.Path) -> str:
    return files_lib.read_text(path, "caption file")


def _clean(text: str) -> str:
    return " ".join(text.split())
