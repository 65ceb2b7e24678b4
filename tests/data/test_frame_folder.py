# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of numbered images as clips, wherever clips are read."""

import numpy as np
import pytest
import video_files
from PIL import Image

from mimir_jax.config import ClipWindowConfig
from mimir_jax.data import clip_worker, frame_folder, video_io, video_stream, windows
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.errors import InputError

LIMITS = dict(seconds=20, gigabytes=4)


def write(place, count=6, *, rate="3\n", first=1, name="{:05d}.png", size=(48, 64)):
    """Writes gray frames, the k-th of brightness 10 + 5 k, and their rate."""
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.fromarray(video_files.gray(10 + 5 * number, *size))
        image.save(place / name.format(first + number))
    if rate is not None:
        (place / frame_folder.RATE).write_text(rate)
    return place


def numbers(place, pick):
    fit = lambda frame, aspect: frame  # noqa: E731
    return video_files.frames_of(video_io.read_clip(place, pick, fit))


@pytest.mark.parametrize(
    "name, first",
    [("{:05d}.png", 1), ("{}.JPG", 8), ("clip7_frame_{}.jpeg", 0), ("f{:02d}.png", 99)],
)
def test_frames_are_read_by_their_numbers(name, first, tmp_path):
    place = write(tmp_path / "clip", name=name, first=first)
    (place / "notes.md").write_text("no frame")
    (place / "._00001.png").write_bytes(b"of a Mac")
    seen = []

    def pick(timeline):
        seen.append(timeline)
        return np.array([4, 1, 1, 5])

    assert numbers(str(place), pick) == [4, 1, 1, 5]
    np.testing.assert_allclose(seen[0].times, np.arange(6) / 3)
    assert seen[0].end == 2.0


def test_the_folder_above_may_have_the_rate(tmp_path):
    write(tmp_path / "a", rate=None)
    assert not frame_folder.is_clip(tmp_path / "a")
    (tmp_path / frame_folder.RATE).write_text("2.5")
    assert frame_folder.list_frames(tmp_path / "a").fps == 2.5
    assert frame_folder.is_clip(tmp_path / "a") and not frame_folder.is_clip(tmp_path)
    write(tmp_path / "a", rate="4")
    assert frame_folder.list_frames(tmp_path / "a").fps == 4


def test_every_reader_of_clips_reads_them(tmp_path):
    place = write(tmp_path / "cats/a", 12, rate="6")
    line, size = clip_worker.measure_clip(place, **LIMITS)
    assert (len(line.times), line.end, size) == (12, 2.0, (48, 64))
    with video_stream.open_video(place) as (line, frames):
        shown = [(frame.number, frame.size(), frame.image()) for frame in frames]
    assert len(line.times) == 12 and [n for n, *_ in shown] == list(range(12))
    assert shown[0][1] == (48, 64)
    assert video_files.frames_of(np.stack([image for *_, image in shown])) == list(range(12))
    cfg = ClipWindowConfig(fps=3.0, frames=3, stride=1)
    clips = windows.read(place, cfg, 16, limits=video_io.FrameLimits())
    assert [video_files.frames_of(clip) for clip in clips] == [[0, 2, 4], [6, 8, 10]]


@pytest.mark.parametrize("caption", ["beside", "listed"])
def test_a_folder_of_videos_may_hold_them(caption, tmp_path):
    (tmp_path / frame_folder.RATE).write_text("8")
    write(tmp_path / "b.c", 5, rate=None)
    write(tmp_path / "cats/d", 4, first=0)
    video_files.write_clip(tmp_path / "e.mp4", 6)
    texts = {"b.c": "frames", "cats/d": "more frames", "e.mp4": "a file"}
    if caption == "listed":
        video_files.write_captions(tmp_path, texts)
    else:
        for name in texts:
            (tmp_path / f"{name.removesuffix('.mp4')}.txt").write_text(texts[name])
    source = folder_lib.VideoFolder(tmp_path, frames=4, height=12, width=16)
    assert source.files == list(texts) and not source.left_out
    for index, text in enumerate(texts.values()):
        record = source[index]
        assert (record["index"], record["caption"]) == (index, text)
        assert video_files.frames_of(record["video"]) == [0, 1, 2, 3]
    before = repr(source)
    write(tmp_path / "b.c", 6, rate=None)
    assert repr(folder_lib.VideoFolder(tmp_path, frames=4, height=12, width=16)) != before


FAULTS = {
    "is a folder without numbered images (.jpeg .jpg .png)": lambda p: [
        file.unlink() for file in p.glob("*.png")
    ],
    "lacks frame 3, between 00002.png and 00004.png": lambda p: (p / "00003.png").unlink(),
    "holds frame 2 twice, 00002.png and 2.png": lambda p: write(p, 1, first=2, name="{}.png"),
    "holds cover.png, an image without a number": lambda p: write(p, 1, name="cover.png"),
    "has frames of 64 x 48 (00001.png) and of 32 x 48 pixels (00005.png)": lambda p: write(
        p, 1, first=5, size=(48, 32)
    ),
    "has no frames per second; write them to fps.txt in it or in the folder above": lambda p: (
        p / frame_folder.RATE
    ).unlink(),
    "has no positive frames per second in fps.txt, got 'fast'": lambda p: write(p, rate="fast"),
    "has no positive frames per second in fps.txt, got '-3'": lambda p: write(p, rate="-3"),
    "must be readable: cannot identify image file": lambda p: (p / "00002.png").write_text("no"),
}


@pytest.mark.parametrize("message", FAULTS)
def test_faults_are_one_line(message, tmp_path):
    place = write(tmp_path / "clip")
    FAULTS[message](place)
    with pytest.raises(video_io.UnreadableClip) as caught:
        numbers(place, lambda line: np.arange(2))
    assert message in str(caught.value).replace(str(place), "") or message.startswith("must")
    assert "\n" not in str(caught.value)
    with pytest.raises(video_io.UnreadableClip):
        with video_stream.open_video(place) as (_, frames):
            list(frames)
    with pytest.raises(video_io.UnreadableClip):
        clip_worker.measure_clip(place, **LIMITS)


def test_a_rate_is_no_caption(tmp_path):
    write(tmp_path / "a", 3)
    with pytest.raises(InputError, match="needs a caption, found none for 'a'"):
        folder_lib.VideoFolder(tmp_path, frames=2, height=12, width=16)
