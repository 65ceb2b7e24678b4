# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that would hang, blow up or kill a decoder, and what a folder leaves out."""

import json
import os

import numpy as np
import pytest
import video_files
from PIL import Image

from mimir_jax.data import clip_worker, covering, loader, video_io
from mimir_jax.data.sources import folder

SIZE = dict(height=12, width=16)
LIMITS = dict(seconds=60, gigabytes=4)


def read(path, frames=2, **limits):
    pick = lambda line: np.arange(frames)  # noqa: E731
    return clip_worker.read_clip(path, pick, **SIZE, **{**LIMITS, **limits})


def write_gif(path, side, pairs):
    """Writes a GIF of a few kilobytes and large frames."""
    pages = [Image.new("P", (side, side), color) for color in (0, 1)] * pairs
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=50)
    return path


def test_limits_stay_within_those_of_the_system(monkeypatch):
    asked = []
    monkeypatch.setattr(clip_worker.resource, "getrlimit", lambda kind: (7, 7))
    monkeypatch.setattr(clip_worker.resource, "setrlimit", lambda kind, pair: asked.append(pair))
    clip_worker.limit_process(60.0, 4.0)
    assert asked == [(7, 7)] * 2


def test_memory_that_earlier_clips_left_counts(monkeypatch):
    asked = {}
    monkeypatch.setattr(clip_worker.resource, "setrlimit", lambda *limit: asked.update([limit]))
    clip_worker.limit_process(60.0, 4.0, mapped=10**9)
    assert asked[clip_worker.resource.RLIMIT_AS][0] == 5 * 10**9


@pytest.fixture(scope="module")
def large_gif(tmp_path_factory):
    return write_gif(tmp_path_factory.mktemp("gif") / "large.gif", 3000, 40)


def test_a_worker_gives_what_reading_gives(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 6)
    fit = lambda frame, aspect: covering.resize_cover(frame, 12, 16, pixel_aspect=aspect)  # noqa: E731
    own = video_io.read_clip(tmp_path / "a.mp4", lambda line: np.arange(2), fit)
    np.testing.assert_array_equal(read(tmp_path / "a.mp4"), own)


def test_limits_end_a_clip_and_not_the_run(tmp_path, large_gif):
    video_files.write_clip(tmp_path / "a.mp4", 6)
    with pytest.raises(clip_worker.ClipLimit, match="takes more than .* s to"):
        read(large_gif, seconds=0.2)
    assert len(read(tmp_path / "a.mp4")) == 2
    with pytest.raises(video_io.UnreadableClip, match="needs more than 0.05 GB"):
        read(write_gif(tmp_path / "huge.gif", 5000, 1), gigabytes=0.05)
    assert len(read(tmp_path / "a.mp4")) == 2


def test_a_worker_that_stays_large_is_replaced(tmp_path, monkeypatch):
    video_files.write_clip(tmp_path / "a.mp4", 6)
    read(tmp_path / "a.mp4")
    worker = clip_worker.IDLE[-1]
    monkeypatch.setattr(clip_worker, "KEPT", -1.0)
    read(tmp_path / "a.mp4")
    assert not worker.alive and worker not in clip_worker.IDLE


def test_a_read_that_never_ends_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(clip_worker.ClipLimit, match="takes more than .* s to"):
        read(tmp_path / "a.mp4", seconds=0.2)


def test_a_decoder_that_dies_is_replaced(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 6)

    read(tmp_path / "a.mp4")
    worker = clip_worker.IDLE[-1]

    def kill(line):
        worker.process.kill()
        return np.arange(2)

    with pytest.raises(clip_worker.ClipLimit, match="ends its decoder .SIGKILL"):
        clip_worker.read_clip(tmp_path / "a.mp4", kill, **SIZE, **LIMITS)
    assert len(read(tmp_path / "a.mp4")) == 2


def test_a_pick_that_refuses_leaves_the_worker(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 6)
    read(tmp_path / "a.mp4")
    worker = clip_worker.IDLE[-1]

    def refuse(line):
        raise video_io.UnreadableClip("too short")

    with pytest.raises(video_io.UnreadableClip, match="too short"):
        clip_worker.read_clip(tmp_path / "a.mp4", refuse, **SIZE, **LIMITS)
    assert len(read(tmp_path / "a.mp4")) == 2 and clip_worker.IDLE[-1] is worker


def test_content_decides_not_the_suffix(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 6)
    video_files.write_clip(tmp_path / "b.gif", 6)
    for name in ("a.mp4", "b.gif"):
        other = tmp_path / {"a.mp4": "a.gif", "b.gif": "b.webm"}[name]
        whole = read(tmp_path / name, 6)
        (tmp_path / name).rename(other)
        np.testing.assert_array_equal(read(other, 6), whole)


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_the_whole_display_matrix_counts(tmp_path, degrees, hflip):
    path = tmp_path / "a.mp4"
    image = video_files.gray(0, 48, 64)
    image[:16, :16] = 255  # top left
    video_files.write_video(path, [image] * 2, rotation=degrees)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # of the matrix
    matrix = np.frombuffer(bytes(content[place : place + 36]), ">i4").reshape(3, 3).copy()
    if hflip:
        matrix[:2, 0] *= -1
        content[place : place + 36] = matrix.astype(">i4").tobytes()
        path.write_bytes(content)
    shown = video_io.read_clip(path, lambda line: np.zeros(1, int), lambda f, a: f.copy())[0]
    turned = np.rot90(image, degrees // 90)
    expected = turned[:, ::-1] if hflip else turned
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 12


def test_an_unknown_codec_is_passed_over(tmp_path):
    for name in ("a.avi", "b.avi"):
        video_files.write_clip(tmp_path / name, 6)
    content = (tmp_path / "a.avi").read_bytes()
    for code in (b"FMP4", b"fmp4", b"XVID", b"xvid"):
        content = content.replace(code, b"QQQQ")
    (tmp_path / "a.avi").write_bytes(content)
    video_files.write_captions(tmp_path, {"a.avi": "a", "b.avi": "b"})
    record = folder.VideoFolder(tmp_path, frames=2, **SIZE)[0]
    assert record["index"] == 1 and record["skipped"][0][0] == "a.avi"


def test_everything_left_out_is_listed(tmp_path, large_gif):
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "abc":
        video_files.write_clip(clips / f"{name}.mp4", 6)
        (clips / f"{name}.txt").write_text(name)
    (clips / "bomb.gif").write_bytes(large_gif.read_bytes())
    (clips / "bomb.txt").write_text("bomb")
    os.mkfifo(clips / "pipe.mp4")
    (clips / "notes.xyz").write_text("x")
    (clips / "linked").symlink_to(tmp_path)
    (clips / "gone.mp4").symlink_to(tmp_path / "nowhere")
    source = folder.VideoFolder(clips, frames=2, **SIZE, seconds=0.2)
    assert source.left_out == {
        "gone.mp4": "is no file",
        "linked": "is a linked folder",
        "notes.xyz": "has the unknown suffix '.xyz'",
        "pipe.mp4": "is no file",
    }
    batches = loader.make_loader(source, global_batch=4, seed=0, num_threads=0)
    batches.quarantine(tmp_path)
    next(batches), next(batches)
    lines = [json.loads(x) for x in (tmp_path / "quarantine.jsonl").read_text().splitlines()]
    assert [x["file"] for x in lines] == [*source.left_out, "bomb.gif"]
    assert lines[-1]["reason"].startswith("takes more than")
    batches.quarantine(tmp_path)
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == len(lines)


def test_left_out_files_do_not_end_a_folder(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 6)
    (tmp_path / "a.txt").write_text("a")
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0)
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["a.mp4"]
