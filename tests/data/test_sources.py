# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Sources of stored clips: timing, geometry, captions, broken files, TFDS."""

import collections.abc
import functools
import io
import json
import os
import pickle
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import tensorflow_datasets as tfds_lib
import video_files
from PIL import Image

from mimir_jax.config import DataConfig, FolderConfig, TfdsConfig, ToyworldConfig
from mimir_jax.data import sources, transforms, video_io, video_stream
from mimir_jax.data.sources import folder, tfds

SIZE = dict(height=12, width=16)
FORMATS = ("mp4", "webm", "gif", "webp", "mkv", "mov", "avi")


def one_clip(path, **geometry):
    """Returns the record of a folder that holds one file."""
    video_files.write_captions(path.parent, {path.name: "a clip"})
    return folder.VideoFolder(path.parent, **{**SIZE, **geometry})[0]


class Single(collections.abc.Sequence):
    """Numbers of clips, read one at a time."""

    def __len__(self):
        return 3

    def __getitem__(self, place):
        assert not isinstance(place, slice)
        return range(3)[place]


def test_a_record_costs_the_same_however_many_clips_there_are(tmp_path):
    for name in "abc":
        video_files.write_clip(tmp_path / f"{name}.mp4", 4)
    (tmp_path / "c.mp4").write_bytes(b"damaged")
    video_files.write_captions(tmp_path, {f"{name}.mp4": name for name in "abc"})
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE).resized(2, 12, 16, clips=Single())
    assert [source[k]["index"] for k in range(3)] == [0, 1, 0]


# Transforms.


def test_to_float_spans_minus_one_to_one():
    video = transforms.to_float(np.array([0, 255], np.uint8))
    assert video.dtype == np.float32
    np.testing.assert_array_equal(video, [-1.0, 1.0])


@pytest.mark.parametrize(
    "shape, target, aspect, expected",
    [
        ((100, 200), (50, 50), 1.0, (50, 0, 150, 100)),
        ((200, 100), (50, 50), 1.0, (0, 50, 100, 150)),
        ((48, 64), (48, 64), 1.0, (0, 0, 64, 48)),
        ((10, 10), (40, 80), 1.0, (0, 2.5, 10, 7.5)),
        ((100, 100), (50, 100), 2.0, (0, 0, 100, 100)),
    ],
)
def test_cover_box_keeps_the_centre_and_the_shape(shape, target, aspect, expected):
    np.testing.assert_allclose(transforms.cover_box(*shape, *target, aspect), expected)


def test_resize_cover_averages_away_fine_detail():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    frame = np.repeat(checks[..., None], 3, -1).astype(np.uint8)
    small = transforms.resize_cover(frame, 8, 8)
    assert small.shape == (8, 8, 3)
    assert np.abs(small.astype(int) - 127).max() <= 8


@pytest.mark.parametrize(
    "source_fps, fps, expected",
    [
        (24, 8, [0, 3, 6, 9, 12]),
        (25, 8, [0, 3, 6, 9, 12]),
        (30, 8, [0, 3, 7, 11, 15]),
        (8, 16, [0, 0, 1, 1, 2]),
        (24, None, [0, 1, 2, 3, 4]),
    ],
)
def test_window_frames_are_the_ones_on_screen(source_fps, fps, expected):
    times = np.arange(40) / source_fps
    frames = transforms.window_frames(times, 0, frames=5, fps=fps)
    assert frames.tolist() == expected


@pytest.mark.parametrize("decimals", [2, 3])
def test_window_frames_forgives_rounded_times(decimals):
    times = np.round(np.arange(60) / 30, decimals)
    frames = transforms.window_frames(times, 0, frames=60, fps=30.0, tick=10.0**-decimals)
    assert frames.tolist() == list(range(60))


def test_window_starts_leave_room_for_the_window():
    times = np.arange(10) / 10
    rate = dict(frames=4, fps=5.0)
    assert transforms.window_starts(times, 1.0, **rate).tolist() == [0, 1, 2, 3]
    assert transforms.window_starts(times, 1.0, frames=4, fps=None).tolist() == list(range(7))
    assert not len(transforms.window_starts(times, 1.0, frames=11, fps=None))


# Files.


@pytest.mark.parametrize("suffix", FORMATS)
def test_folder_reads_every_format_by_time(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    video_files.write_clip(path, 40, fps=20)
    record = one_clip(path, frames=8, fps=5.0)
    assert record["video"].shape == (8, 12, 16, 3) and record["video"].dtype == np.uint8
    assert video_files.frames_of(record["video"]) == [0, 4, 8, 12, 16, 20, 24, 28]
    assert (record["caption"], record["index"], record["skipped"]) == ("a clip", 0, ())


def test_folder_follows_uneven_time_stamps(tmp_path):
    times = [0, 40, 80, 500, 540, 1000, 1400, 1450]
    path = tmp_path / "a.mkv"
    pictures = [video_files.gray(10 + 5 * i) for i in range(len(times))]
    video_files.write_video(path, pictures, milliseconds=times)
    video = one_clip(path, frames=6, fps=4.0)["video"]
    assert video_files.frames_of(video) == [0, 2, 3, 4, 5, 5]


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4", "mov"])
def test_a_video_may_start_late(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    pictures = [video_files.gray(10 + 5 * i) for i in range(8)]
    times = [5000 + 125 * i for i in range(8)]
    video_files.write_video(path, pictures, milliseconds=times)
    timeline = video_io.list_frames(path).timeline
    np.testing.assert_allclose(timeline.times, np.arange(8) / 8, atol=2e-3)
    assert video_files.frames_of(one_clip(path, frames=4, fps=4.0)["video"]) == [0, 2, 4, 6]


def test_folder_follows_the_durations_of_an_animation(tmp_path):
    path = tmp_path / "a.webp"
    pictures = [video_files.gray(10 + 5 * i) for i in range(4)]
    video_files.write_animation(path, pictures, [100, 500, 100, 300])
    video = one_clip(path, frames=5, fps=5.0)["video"]
    assert video_files.frames_of(video) == [0, 1, 1, 2, 3]


def test_folder_takes_every_frame_without_a_rate(tmp_path):
    video_files.write_clip(tmp_path / "a.webm", 12, fps=30)
    assert video_files.frames_of(one_clip(tmp_path / "a.webm", frames=12)["video"]) == [*range(12)]


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_folder_windows_are_exact_anywhere_in_a_clip(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    pictures = [video_files.gray(10 + 5 * i) for i in range(48)]
    video_files.write_video(path, pictures, codec="libx264", options={"g": "8"})
    video_files.write_captions(tmp_path, {path.name: "a clip"})
    source = folder.VideoFolder(tmp_path, frames=4, fps=12.0, **SIZE)
    seen = set()
    for seed in range(30):
        video = source.read(0, np.random.default_rng(seed))["video"]
        first, *rest = video_files.frames_of(video)
        assert rest == [first + 2, first + 4, first + 6]
        seen.add(first)
    assert len(seen) > 10 and max(seen) > 30


def test_folder_crops_to_cover_without_distortion(tmp_path):
    picture = video_files.gray(0, 48, 96)
    picture[:, 24:72] = 200
    video_files.write_video(tmp_path / "a.mp4", [picture] * 2)
    video = one_clip(tmp_path / "a.mp4", frames=1, height=24, width=24)["video"]
    assert np.abs(video[:, 2:-2, 2:-2].astype(int) - 200).max() < 12


@pytest.mark.parametrize("degrees, corner", [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_folder_turns_sideways_video(tmp_path, degrees, corner):
    picture = video_files.gray(0, 48, 64)
    picture[:16, :16] = 255
    video_files.write_video(tmp_path / "a.mp4", [picture] * 2, rotation=degrees)
    height, width = (48, 64) if degrees == 180 else (64, 48)
    video = one_clip(tmp_path / "a.mp4", frames=1, height=height, width=width)["video"]
    assert video[0][corner].mean() > 200
    assert video.mean() < 40


def test_folder_squares_anamorphic_pixels(tmp_path):
    picture = video_files.gray(0, 48, 48)
    picture[12:36, 12:36] = 255
    path = tmp_path / "a.mp4"
    video_files.write_video(path, [picture] * 2, pixel_aspect=Fraction(2, 1))
    video = one_clip(path, frames=1, height=48, width=96)["video"]
    rows, columns = (video[0, :, :, 0] > 127).nonzero()
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (24, 48)


def test_folder_shows_transparency_on_white(tmp_path):
    pages = [Image.new("RGBA", (16, 12), (255, 0, 0, alpha)) for alpha in (0, 255)]
    pages[0].save(tmp_path / "a.webp", save_all=True, append_images=pages[1:], lossless=True)
    video = one_clip(tmp_path / "a.webp", frames=2)["video"]
    assert video[0].min() == 255
    np.testing.assert_array_equal(video[1, 0, 0], [255, 0, 0])


def test_transparency_of_videos_is_white_too(tmp_path):
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=8)
        stream.height, stream.width, stream.pix_fmt = 12, 16, "rgba"
        for alpha in (0, 255):
            pixels = np.full((12, 16, 4), (255, 0, 0, alpha), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode())
    video = one_clip(path, frames=2)["video"]
    with video_stream.open_video(path) as (_, shown):
        pictures = [frame.picture() for frame in shown]
    for found in (video, pictures):
        assert found[0].min() == 255
        np.testing.assert_array_equal(found[1][0, 0], [255, 0, 0])


# Clips that do not fit, broken clips.


@pytest.fixture
def five_clips(tmp_path):
    """Five clips of ten frames; clip c is the one to break."""
    for name in "abcde":
        video_files.write_clip(tmp_path / f"{name}.mp4", 10)
    video_files.write_captions(tmp_path, {f"{name}.mp4": f"clip {name}" for name in "abcde"})
    return tmp_path


def replace_clip(path, suffix, how):
    """Replaces clip c by a broken file of another format."""
    (path / "c.mp4").unlink()
    target = path / f"c.{suffix}"
    pictures = [video_files.gray(10 + 5 * i) for i in range(40)]
    if suffix in ("gif", "webp"):
        video_files.write_animation(target, pictures, 50)
    else:
        video_files.write_video(target, pictures, faststart=True)
    video_files.break_file(target, how)
    names = {f"{n}.mp4": f"clip {n}" for n in "abde"} | {target.name: "clip c"}
    video_files.write_captions(path, names)
    return target.name


@pytest.mark.parametrize("how", ["empty", "noise", "cut", "garbled"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_folder_replaces_a_broken_clip_by_the_next(five_clips, suffix, how):
    name = replace_clip(five_clips, suffix, how)
    source = folder.VideoFolder(five_clips, frames=9, fps=8.0, **SIZE)
    record = source[2]
    assert (record["index"], record["caption"]) == (3, "clip d")
    (line,) = record["skipped"]
    assert line.startswith(f"{name}: ") and "\n" not in line
    assert source[1]["index"] == 1 and source[1]["skipped"] == ()


def test_folder_wraps_around_and_names_every_broken_clip(five_clips):
    for name in "de":
        video_files.break_file(five_clips / f"{name}.mp4", "noise")
    record = folder.VideoFolder(five_clips, frames=9, **SIZE)[3]
    assert record["index"] == 0
    assert [line[:5] for line in record["skipped"]] == ["d.mp4", "e.mp4"]


def test_folder_with_no_readable_clip_raises(five_clips):
    for name in "abcde":
        video_files.break_file(five_clips / f"{name}.mp4", "cut")
    source = folder.VideoFolder(five_clips, frames=9, **SIZE)
    with pytest.raises(ValueError, match=r"at least one readable clip, all 5 failed \(c.mp4: "):
        source[2]


def test_folder_skips_or_repeats_a_short_clip(five_clips):
    video_files.write_clip(five_clips / "c.mp4", 5)
    record = folder.VideoFolder(five_clips, frames=9, fps=8.0, **SIZE)[2]
    assert record["index"] == 3
    assert record["skipped"] == ("c.mp4: too short for 9 frames at 8.0 fps, has 5 frames, 0.62 s",)
    for fps in (8.0, None):
        source = folder.VideoFolder(five_clips, frames=9, fps=fps, short="repeat", **SIZE)
        record = source.read(2, np.random.default_rng(0))
        assert record["index"] == 2
        assert video_files.frames_of(record["video"]) == [0, 1, 2, 3, 4, 4, 4, 4, 4]


def test_folder_never_shows_frames_built_on_damage(tmp_path):
    path = tmp_path / "a.mp4"
    pictures = [np.roll(video_files.gray(10 + i, 48, 64), i, 1) for i in range(48)]
    for i, picture in enumerate(pictures):
        picture[8:40, i : i + 16] = 255 - 3 * i
    video_files.write_video(path, pictures, options={"g": "12", "bf": "0"})
    video_files.write_clip(tmp_path / "b.mp4", 8)
    video_files.write_captions(tmp_path, {"a.mp4": "a", "b.mp4": "b"})
    source = folder.VideoFolder(tmp_path, frames=6, **SIZE)
    whole = {seed: source.read(0, np.random.default_rng(seed)) for seed in range(40)}
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data, (place, size) = bytearray(path.read_bytes()), packets[27]
    data[place + size // 3 : place + size] = b"\x5a" * (size - size // 3)
    path.write_bytes(data)
    shown = {seed: source.read(0, np.random.default_rng(seed)) for seed in range(40)}
    assert {record["index"] for record in shown.values()} == {0, 1}
    for seed, record in shown.items():
        if record["index"] == 0:
            np.testing.assert_array_equal(record["video"], whole[seed]["video"])


def test_folder_jumps_past_frames_that_need_an_earlier_key(tmp_path):
    path = tmp_path / "a.mp4"
    pictures = [np.roll(np.eye(48, 64, dtype=np.uint8), 2 * i, 1) * 200 for i in range(48)]
    pictures = [np.repeat(picture[..., None], 3, -1) for picture in pictures]
    options = {"x264-params": "keyint=8:open-gop=1:bframes=3:scenecut=0"}
    video_files.write_video(path, pictures, options=options)
    fit = lambda frame, aspect: np.ascontiguousarray(frame)  # noqa: E731
    whole = video_io.read_clip(path, lambda line: np.arange(len(line.times)), fit)
    assert len(whole) == 48
    for start in range(44):
        chosen = np.arange(start, start + 4)
        part = video_io.read_clip(path, lambda line, chosen=chosen: chosen, fit)
        np.testing.assert_array_equal(part, whole[chosen])


# Captions and validation.


def test_folder_reads_text_beside_clips_in_subfolders(tmp_path):
    (tmp_path / "cats").mkdir()
    for name in ("b.mp4", "cats/a.v1.webm"):
        video_files.write_clip(tmp_path / name, 4)
    (tmp_path / "b.txt").write_text("a dog\n", encoding="utf-8-sig")
    (tmp_path / "cats/a.v1.txt").write_text("a cät", encoding="utf-8")
    (tmp_path / "._b.mp4").write_bytes(b"resource fork")
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["b.mp4", "cats/a.v1.webm"]
    assert [source[i]["caption"] for i in range(2)] == ["a dog", "a cät"]


def _names(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


LAYOUTS = {
    "metadata.jsonl": lambda p: _names(
        p / "metadata.jsonl", '{"file_name": "videos/b.mp4", "text": "b"}\n'
        '{"file_name": "./videos/a.mp4", "text": "a"}\n'
    ),
    "metadata.csv": lambda p: _names(
        p / "metadata.csv", '\ufefffile_name,caption\nvideos/a.mp4,"a"\r\nvideos/b.mp4,b\r\n'
    ),
    "videos2caption.json": lambda p: _names(
        p / "videos2caption.json",
        '[{"path": "b.mp4", "cap": ["b"]}, {"path": "a.mp4", "cap": "a"}]',
    ),
    "videos.txt": lambda p: [
        _names(p / "videos.txt", "videos/a.mp4\nvideos\\b.mp4\n"),
        _names(p / "prompts.txt", "a\nb"),
    ],
    "labels": lambda p: [_names(p / f"labels/{n}.txt", n) for n in "ab"],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_reads_the_layouts_of_other_trainers(tmp_path, layout):
    for name in "ab":
        _names(tmp_path / f"videos/{name}.mp4", "never opened")
    LAYOUTS[layout](tmp_path)
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["videos/a.mp4", "videos/b.mp4"] and source._captions == [("a",), ("b",)]


@pytest.mark.parametrize(
    "stored, written",
    [
        ("cafe\u0301.mp4", "caf\u00e9.mp4"),
        ("a.mp4", "./a.mp4"),
        ("sub/a.mp4", "sub\\a.mp4"),
        ("sub/a.mp4", "{folder}/sub/a.mp4"),
    ],
)
def test_folder_compares_names_in_one_form(tmp_path, stored, written):
    _names(tmp_path / stored, "never opened")
    video_files.write_captions(tmp_path, {written.format(folder=tmp_path): " a\n\u200dcat "})
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == [stored] and source._captions == [("a \u200dcat",)]


def test_folder_reads_a_name_that_is_not_utf8(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 4)
    name = os.fsencode(tmp_path) + b"/caf\xe9"
    os.rename(tmp_path / "a.mp4", name + b".mp4")
    with open(name + b".txt", "w") as file:
        file.write("coffee")
    record = folder.VideoFolder(tmp_path, frames=2, **SIZE)[0]
    assert record["caption"] == "coffee" and not record["skipped"]


def test_avi_keeps_the_times_of_dropped_frames(tmp_path):
    kept = [i for i in range(40) if not 8 <= i < 20]
    pictures = [video_files.gray(10 + 5 * i) for i in kept]
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.bit_rate = 4_000_000
        for i, picture in zip(kept, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = one_clip(path, frames=10, fps=2.0)["video"]
    assert video_files.frames_of(video) == [0, 4, 7, 7, 7, 20, 24, 28, 32, 36]


def test_a_name_may_look_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video_files.write_clip(tmp_path / "a.mp4", 2)
    os.rename("a.mp4", "12:30.mp4")
    frames = video_io.read_clip("12:30.mp4", lambda line: np.arange(2), lambda frame, _: frame)
    assert video_files.frames_of(frames) == [0, 1]
    with video_stream.open_video("12:30.mp4") as (_, shown):
        assert [frame.number for frame in shown] == [0, 1]


def test_folder_draws_among_several_captions(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 4)
    video_files.write_captions(tmp_path, {"a.mp4": ["one", "two", "three"]})
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    drawn = {source.read(0, np.random.default_rng(i))["caption"] for i in range(20)}
    assert drawn == {"one", "two", "three"}
    fixed = folder.VideoFolder(tmp_path, frames=2, start="first", **SIZE)
    assert {fixed.read(0, np.random.default_rng(i))["caption"] for i in range(9)} == {"one"}


def test_folder_identity_follows_content_not_place(five_clips, tmp_path_factory):
    source = folder.VideoFolder(five_clips, frames=9, **SIZE)
    copy = tmp_path_factory.mktemp("other") / "moved"
    shutil.copytree(five_clips, copy)
    assert repr(folder.VideoFolder(copy, frames=9, **SIZE)) == repr(source)
    assert repr(pickle.loads(pickle.dumps(source))) == repr(source)
    assert repr(folder.VideoFolder(copy, frames=8, **SIZE)) != repr(source)
    video_files.write_captions(copy, {f"{name}.mp4": "other" for name in "abcde"})
    assert repr(folder.VideoFolder(copy, frames=9, **SIZE)) != repr(source)


def test_folder_split_holds_out_the_same_clips_as_it_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(folder.VideoFolder, "_is_readable", lambda self, file: True)

    def split(count):
        for i in range(count):
            (tmp_path / f"{i}.mp4").write_bytes(b"x")
            (tmp_path / f"{i}.txt").write_text("x")
        parts = (
            folder.VideoFolder(tmp_path, split=name, frames=1, **SIZE).files
            for name in ("train", "heldout", "all")
        )
        train, heldout, everything = map(set, parts)
        assert train | heldout == everything and not train & heldout and train and heldout
        return heldout

    split(2)
    assert split(100) <= split(200)
    assert 4 <= len(split(200)) <= 20


def test_folder_holds_out_a_clip_that_can_be_read(five_clips):
    def split(name):
        return folder.VideoFolder(five_clips, split=name, frames=9, **SIZE)

    broken = set()
    for _ in range(3):
        (chosen,) = set(split("heldout").files) - broken
        assert split("heldout")[0]["video"].shape == (9, *SIZE.values(), 3)
        assert chosen not in split("train").files
        video_files.break_file(five_clips / chosen, "noise")
        broken.add(chosen)
    video_files.break_file(five_clips / next(iter(set(split("train").files) - broken)), "noise")
    with pytest.raises(ValueError, match="at least two readable videos.* fewer of 5 in"):
        split("train")


def line_error(text):
    def make(path):
        (path / "captions.jsonl").write_text(text)

    return make


def csv_error(text):
    def make(path):
        (path / "captions.jsonl").unlink()
        (path / "metadata.csv").write_text(text)

    return make


def remove(name):
    return lambda path: (path / name).unlink()


@pytest.mark.parametrize(
    "damage, rule",
    [
        (shutil.rmtree, "VideoFolder needs an existing folder, got"),
        (lambda p: [f.unlink() for f in p.glob("*.mp4")], "VideoFolder needs at least one video"),
        (remove("b.mp4"), r"needs its clip, found none for 'b.mp4' \(line 2\); add the clip"),
        (line_error(""), r"needs a caption, found none for 'a.mp4' and 1 more; add a line"),
        (line_error('\n{"file": "a.mp4"'), r"got '{\"file\": \"a.mp4\"' in .*jsonl' line 2; write"),
        (line_error('["a.mp4", "x"]'), "must be an object with a file and a non-empty caption"),
        (line_error('{"file": "a.mp4", "caption": " "}'), "a non-empty caption, got .* line 1;"),
        (
            line_error('{"file": "a.mp4", "id": %s}' % ("1" * 5000)),
            "non-empty caption, got .* line 1",
        ),
        (line_error('{"file": "a.mp4", "caption": []}'), "a non-empty caption, got .* line 1;"),
        (line_error('{"file": "a.mp4", "caption": "x"}\n' * 2), r"'a.mp4' again in .* line 2"),
        (remove("captions.jsonl"), "found none for 'a.mp4' and 1 more; write captions.jsonl"),
        (csv_error("file_name;caption\na.mp4;x\n"), "a header that names file_name and caption, "),
        (csv_error("file_name, caption\na.mp4, x\n"), "got 'file_name, caption'; write it"),
        (csv_error("file,text\na.mp4,a cat, asleep\n"), "2 cells .* got 1 more in line 2; put"),
        (
            lambda p: (p / "captions.jsonl").write_bytes(b"\xff{}"),
            "must be UTF-8 text, got byte 0xff",
        ),
    ],
    ids=lambda value: None if callable(value) else value[:30],
)
def test_folder_names_what_is_wrong(tmp_path, damage, rule):
    path = tmp_path / "clips"
    path.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (path / name).write_bytes(b"never opened")
    video_files.write_captions(path, {"a.mp4": "a", "b.mp4": "b"})
    damage(path)
    with pytest.raises(ValueError, match=rule) as error:
        folder.VideoFolder(path, frames=2, **SIZE)
    assert "\n" not in str(error.value)


def test_a_text_captions_all_clips_of_its_name(tmp_path):
    for name in ("a.mp4", "a.webm", "b.MP4"):
        (tmp_path / name).write_bytes(b"never opened")
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "b.TXT").write_text("a dog")
    source = folder.VideoFolder(tmp_path, frames=2, **SIZE)
    assert source.files == ["a.mp4", "a.webm", "b.MP4"]
    assert source._captions == [("a cat",), ("a cat",), ("a dog",)]


def test_folder_refuses_text_without_a_clip(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 2)
    for name in ("a.txt", "c.txt"):
        (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match="needs its clip, found none for 'c.txt'; add"):
        folder.VideoFolder(tmp_path, frames=2, **SIZE)


@pytest.mark.parametrize("wrong", [dict(frames=0), dict(height=0), dict(width=-1), dict(fps=0.0)])
def test_folder_refuses_a_bad_geometry(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"VideoFolder {next(iter(wrong))} must be"):
        folder.VideoFolder(tmp_path, **{"frames": 2, **SIZE, **wrong})


def test_read_clip_reports_missing_files_and_films_without_pictures(tmp_path):
    with pytest.raises(video_io.UnreadableClip, match="No such file"):
        video_io.read_clip(tmp_path / "a.mp4", lambda line: np.zeros(1, int), lambda f, a: f)


# TensorFlow Datasets.


class ToyClips(tfds_lib.core.GeneratorBasedBuilder):
    """Ten clips of 5 to 14 frames; clip i has brightness 10 + 5 * frame and caption "clip i"."""

    VERSION = tfds_lib.core.Version("1.0.0")

    def _info(self):
        frames = tfds_lib.features.Tensor(shape=(None, 24, 32, 3), dtype=np.uint8, encoding="zlib")
        features = {
            "clip": frames,
            "encoded": tfds_lib.features.Sequence(tfds_lib.features.Text()),
            "label": tfds_lib.features.ClassLabel(num_classes=2),
            "mask": tfds_lib.features.Tensor(shape=(None, 6, 8, 1), dtype=np.uint8),
            "text": tfds_lib.features.Text(),
            "texts": tfds_lib.features.Sequence(tfds_lib.features.Text()),
        }
        return tfds_lib.core.DatasetInfo(
            builder=self, features=tfds_lib.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(10), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for i in range(count):
            pictures = [video_files.gray(10 + 5 * k, 24, 32) for k in range(5 + i)]
            yield (
                i,
                {
                    "clip": np.stack(pictures),
                    "encoded": [encode_png(picture) for picture in pictures],
                    "label": i % 2,
                    "mask": np.stack(pictures)[:, ::4, ::4, :1],
                    "text": f"clip {i}",
                    "texts": [f"first {i}", f"second {i}"],
                },
            )


def encode_png(picture):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "png")
    return data.getvalue()


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """A data folder with `toy_clips`, its list of PNGs declared as the Video feature it equals."""
    path = tmp_path_factory.mktemp("tfds")
    tfds_lib.disable_progress_bar()
    ToyClips(data_dir=path, file_format="array_record").download_and_prepare()
    declared = path / "toy_clips/1.0.0/features.json"
    content = json.loads(declared.read_text())
    content["featuresDict"]["features"]["encoded"] = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {"shape": {"dimensions": ["-1", "24", "32", "3"]}, "encodingFormat": "png"},
    }
    declared.write_text(json.dumps(content))
    return path


def toy_clips(tfds_dir, **options):
    keys = dict(video_key="clip", caption_key="text")
    options = {**keys, **SIZE, "frames": 5, **options}
    return tfds.TfdsSource("toy_clips", data_dir=tfds_dir, **options)


@pytest.mark.parametrize("video_key", ["clip", "encoded", "mask"])
def test_tfds_reads_each_kind_of_video(tfds_dir, video_key):
    source = toy_clips(tfds_dir, video_key=video_key)
    assert len(source) == 10
    for i in range(10):
        record = source[i]
        assert record["video"].shape == (5, 12, 16, 3)
        assert video_files.frames_of(record["video"]) == [0, 1, 2, 3, 4]
        assert record["index"] == i
    assert {source[i]["caption"] for i in range(10)} == {f"clip {i}" for i in range(10)}


def test_tfds_resamples_draws_and_skips(tfds_dir):
    source = toy_clips(tfds_dir, source_fps=24.0, fps=8.0, frames=4, caption_key="texts")
    rng = np.random.default_rng(0)
    records = [source.read(i % 10, rng) for i in range(60)]
    windows = {tuple(video_files.frames_of(record["video"])) for record in records}
    assert windows == {(s, s + 3, s + 6, s + 9) for s in range(5)}
    assert {record["caption"].split()[0] for record in records} == {"first", "second"}
    assert any("too short" in line for record in records for line in record["skipped"])
    assert len(toy_clips(tfds_dir, source_fps=None, fps=8.0)[0]["video"]) == 5


def test_tfds_survives_pickling_and_tells_parts_apart(tfds_dir):
    whole, part = toy_clips(tfds_dir), toy_clips(tfds_dir, split="train[:30%]")
    copy = pickle.loads(pickle.dumps(part))
    assert len(copy) == 3 and repr(copy) == repr(part) != repr(whole)
    np.testing.assert_array_equal(copy[1]["video"], part[1]["video"])


@pytest.mark.parametrize(
    "options, rule",
    [
        (dict(video_key=None), "video_key must name a video feature, got None; .* clip, encoded"),
        (dict(video_key="label"), "video_key must name a video feature, got 'label'"),
        (dict(caption_key="label"), "caption_key must name a caption feature.* fit: text, texts"),
        (dict(split="dev"), "split must be one of train, test or a part of one"),
        (dict(split="train[:0]"), "must hold at least one record, got none"),
        (dict(source_fps=0.0), "source_fps must be positive, got 0.0"),
    ],
)
def test_tfds_names_what_is_wrong(tfds_dir, options, rule):
    with pytest.raises(ValueError, match=rule):
        toy_clips(tfds_dir, **options)


def test_tfds_names_what_is_missing(tfds_dir, tmp_path):
    with pytest.raises(ValueError, match="found no version of 'other' under"):
        tfds.TfdsSource("other", data_dir=tfds_dir, frames=2, **SIZE)
    shutil.copytree(tfds_dir, tmp_path / "copy")
    next((tmp_path / "copy/toy_clips/1.0.0").glob("*train.array_record*")).unlink()
    with pytest.raises(ValueError, match="prepare the dataset with file_format='array_record'"):
        toy_clips(tmp_path / "copy")


# The configured source.


def test_make_source_makes_toyworld():
    config = DataConfig(toyworld=ToyworldConfig(num_scenes=5), frames=9, height=32, width=32)
    train, heldout = (sources.make_source(config, s, seed=3) for s in ("train", "heldout"))
    assert len(train) == 5 and repr(train) != repr(heldout)
    record = train[4]
    assert record["video"].shape == (9, 32, 32, 3) and record["video"].dtype == np.uint8
    assert record["caption"] and record["index"] == 4


def test_make_source_splits_a_folder(five_clips):
    config = DataConfig(
        source="folder", folder=FolderConfig(path=str(five_clips)), frames=9, height=16, width=16
    )
    train, heldout = (sources.make_source(config, s, seed=0) for s in ("train", "heldout"))
    assert (len(train), len(heldout)) == (4, 1)
    assert (train.start, heldout.start) == ("random", "first")
    assert isinstance(train, sources.Source)


def test_make_source_splits_tfds(tfds_dir):
    config = DataConfig(
        source="tfds",
        tfds=TfdsConfig(
            path=str(tfds_dir), name="toy_clips", video_key="clip", caption_key="text"
        ),
        frames=9, height=16, width=16,
    )  # fmt: skip
    train, heldout = (sources.make_source(config, s, seed=0) for s in ("train", "heldout"))
    assert (len(train), len(heldout)) == (10, 2)
    assert train[9]["video"].shape == (9, 16, 16, 3)


@pytest.mark.parametrize("records, last", [(10, 1), (99, 4), (1, 1)])
def test_tfds_without_other_splits_holds_out_the_end_of_train(tmp_path, records, last):
    info = dict(name="films", splits=[dict(name="train", shardLengths=[str(records)])])
    home = tmp_path / "films/1.0.0"
    home.mkdir(parents=True)
    (home / "dataset_info.json").write_text(json.dumps(info))
    choose = functools.partial(tfds.choose_split, "films", tmp_path)
    assert (choose("train"), choose("heldout")) == (f"train[:-{last}]", f"train[-{last}:]")


def test_read_heldout_leaves_out_what_cannot_be_read(five_clips):
    whole = DataConfig(
        source="folder", folder=FolderConfig(path=str(five_clips)), frames=9, height=16, width=16
    )
    videos, captions = sources.read_heldout(whole, 8, seed=0)
    assert videos.shape == (1, 9, 16, 16, 3) and len(captions) == 1
