# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of videos as a source: timing, geometry, broken files, splits."""

import collections.abc
import os
import pickle
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import video_files
from PIL import Image

from mimir_jax.config import (
    BucketsConfig,
    ClipWindowConfig,
    DataConfig,
    FolderConfig,
    ToyworldConfig,
)
from mimir_jax.data import sources, transforms, video_io, video_stream
from mimir_jax.data.sources import folder

SIZE = dict(height=12, width=16)
FORMATS = ("mp4", "webm", "gif", "webp", "mkv", "mov", "avi")


def one_clip(path, **geometry):
    """Returns the record of a folder that holds one file."""
    video_files.write_captions(path.parent, {path.name: "a clip"})
    return folder.VideoFolder(path.parent, **{**SIZE, **geometry})[0]


@pytest.mark.parametrize(
    "count, short, expected",
    [
        (20, "follow", list(range(20))),
        (18, "follow", [*range(16), 16, 16, 17, 17]),
        (20, "fill", [number // 2 for number in range(32)]),
        (48, "fill", [6 * window + number for window in range(8) for number in range(4)]),
    ],
)
def test_a_video_is_read_in_windows(count, short, expected, tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", count)
    cut = ClipWindowConfig(frames=4, stride=1, max_windows=8, short=short)
    record = one_clip(tmp_path / "a.mp4", frames=64, windows=cut)
    assert video_files.frames_of(record["video"]) == expected


@pytest.mark.parametrize(
    "cut", [None, ClipWindowConfig(frames=2, stride=1)], ids=["cut", "windows"]
)
def test_videos_of_small_or_long_frames_are_left_out(cut, tmp_path):
    sizes = {"a": (24, 24), "b": (40, 40), "c": (40, 160), "d": (160, 40)}
    for name, size in sizes.items():
        video_files.write_video(tmp_path / f"{name}.mp4", [video_files.gray(50, *size)] * 4, fps=8)
    video_files.write_captions(tmp_path, {f"{name}.mp4": name for name in sizes})
    made = dict(frames=2, windows=cut, **SIZE)
    whole = folder.VideoFolder(tmp_path, **made)
    assert [whole[i]["caption"] for i in range(4)] == list(sizes)
    source = folder.VideoFolder(tmp_path, min_side=32, min_aspect=0.3, **made)
    assert [source[i]["caption"] for i in range(4)] == ["b"] * 4
    skipped = {name: reason for i in range(4) for name, reason in source[i]["skipped"]}
    assert skipped == {
        "a.mp4": "must have at least 32 pixels along the shorter side, has 24",
        "c.mp4": "must have a shorter side of at least 0.3 of the longer one, has 160 x 40",
        "d.mp4": "must have a shorter side of at least 0.3 of the longer one, has 40 x 160",
    }
    assert repr(source) != repr(whole)
    groups = source.assign(BucketsConfig(listed=((2, 16, 16),)))
    assert [list(group) for group in groups] == [[1]] and source.left_out == skipped
    with pytest.raises(ValueError, match="needs at least two readable videos"):
        folder.VideoFolder(tmp_path, split="train", min_side=64, **made)
    data = DataConfig(
        source="folder", folder=FolderConfig(path=str(tmp_path)), frames=2, min_side=64
    )
    with pytest.raises(ValueError, match="needs at least two readable videos"):
        sources.make_source(data, "train", seed=0, windows=cut)


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
    images = [video_files.gray(10 + 5 * i) for i in range(len(times))]
    video_files.write_video(path, images, milliseconds=times)
    video = one_clip(path, frames=6, fps=4.0)["video"]
    assert video_files.frames_of(video) == [0, 2, 3, 4, 5, 5]


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4", "mov"])
def test_a_video_may_start_late(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    images = [video_files.gray(10 + 5 * i) for i in range(8)]
    times = [5000 + 125 * i for i in range(8)]
    video_files.write_video(path, images, milliseconds=times)
    timeline = video_io.list_frames(path).timeline
    np.testing.assert_allclose(timeline.times, np.arange(8) / 8, atol=2e-3)
    assert video_files.frames_of(one_clip(path, frames=4, fps=4.0)["video"]) == [0, 2, 4, 6]


def test_folder_follows_the_durations_of_an_animation(tmp_path):
    path = tmp_path / "a.webp"
    images = [video_files.gray(10 + 5 * i) for i in range(4)]
    video_files.write_animation(path, images, [100, 500, 100, 300])
    video = one_clip(path, frames=5, fps=5.0)["video"]
    assert video_files.frames_of(video) == [0, 1, 1, 2, 3]


def test_folder_takes_every_frame_without_a_rate(tmp_path):
    video_files.write_clip(tmp_path / "a.webm", 12, fps=30)
    assert video_files.frames_of(one_clip(tmp_path / "a.webm", frames=12)["video"]) == [*range(12)]


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_folder_windows_are_exact_anywhere_in_a_clip(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    images = [video_files.gray(10 + 5 * i) for i in range(48)]
    video_files.write_video(path, images, codec="libx264", options={"g": "8"})
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
    image = video_files.gray(0, 48, 96)
    image[:, 24:72] = 200
    video_files.write_video(tmp_path / "a.mp4", [image] * 2)
    video = one_clip(tmp_path / "a.mp4", frames=1, height=24, width=24)["video"]
    assert np.abs(video[:, 2:-2, 2:-2].astype(int) - 200).max() < 12


@pytest.mark.parametrize("degrees, corner", [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_folder_turns_sideways_video(tmp_path, degrees, corner):
    image = video_files.gray(0, 48, 64)
    image[:16, :16] = 255
    video_files.write_video(tmp_path / "a.mp4", [image] * 2, rotation=degrees)
    height, width = (48, 64) if degrees == 180 else (64, 48)
    video = one_clip(tmp_path / "a.mp4", frames=1, height=height, width=width)["video"]
    assert video[0][corner].mean() > 200
    assert video.mean() < 40


def test_folder_squares_anamorphic_pixels(tmp_path):
    image = video_files.gray(0, 48, 48)
    image[12:36, 12:36] = 255
    path = tmp_path / "a.mp4"
    video_files.write_video(path, [image] * 2, pixel_aspect=Fraction(2, 1))
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
        images = [frame.image() for frame in shown]
    for found in (video, images):
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
    images = [video_files.gray(10 + 5 * i) for i in range(40)]
    if suffix in ("gif", "webp"):
        video_files.write_animation(target, images, 50)
    else:
        video_files.write_video(target, images, faststart=True)
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
    ((found, reason),) = record["skipped"]
    assert found == name and reason and "\n" not in reason
    assert source[1]["index"] == 1 and source[1]["skipped"] == ()


def test_folder_wraps_around_and_names_every_broken_clip(five_clips):
    for name in "de":
        video_files.break_file(five_clips / f"{name}.mp4", "noise")
    record = folder.VideoFolder(five_clips, frames=9, **SIZE)[3]
    assert record["index"] == 0
    assert [name for name, _ in record["skipped"]] == ["d.mp4", "e.mp4"]


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
    reason = "too short for 9 frames at 8.0 fps, has 5 frames, 0.62 s"
    assert record["skipped"] == (("c.mp4", reason),)
    for fps in (8.0, None):
        source = folder.VideoFolder(five_clips, frames=9, fps=fps, short="repeat", **SIZE)
        record = source.read(2, np.random.default_rng(0))
        assert record["index"] == 2
        assert video_files.frames_of(record["video"]) == [0, 1, 2, 3, 4, 4, 4, 4, 4]


def test_folder_never_shows_frames_built_on_damage(tmp_path):
    path = tmp_path / "a.mp4"
    images = [np.roll(video_files.gray(10 + i, 48, 64), i, 1) for i in range(48)]
    for i, image in enumerate(images):
        image[8:40, i : i + 16] = 255 - 3 * i
    video_files.write_video(path, images, options={"g": "12", "bf": "0"})
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
    images = [np.roll(np.eye(48, 64, dtype=np.uint8), 2 * i, 1) * 200 for i in range(48)]
    images = [np.repeat(image[..., None], 3, -1) for image in images]
    options = {"x264-params": "keyint=8:open-gop=1:bframes=3:scenecut=0"}
    video_files.write_video(path, images, options=options)
    fit = lambda frame, aspect: np.ascontiguousarray(frame)  # noqa: E731
    whole = video_io.read_clip(path, lambda line: np.arange(len(line.times)), fit)
    assert len(whole) == 48
    for start in range(44):
        chosen = np.arange(start, start + 4)
        part = video_io.read_clip(path, lambda line, chosen=chosen: chosen, fit)
        np.testing.assert_array_equal(part, whole[chosen])


# Identity, splits and validation.


def test_avi_keeps_the_times_of_dropped_frames(tmp_path):
    kept = [i for i in range(40) if not 8 <= i < 20]
    images = [video_files.gray(10 + 5 * i) for i in kept]
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.bit_rate = 4_000_000
        for i, image in zip(kept, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
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


@pytest.mark.parametrize("wrong", [dict(frames=0), dict(height=0), dict(width=-1), dict(fps=0.0)])
def test_folder_refuses_a_bad_geometry(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"VideoFolder {next(iter(wrong))} must be"):
        folder.VideoFolder(tmp_path, **{"frames": 2, **SIZE, **wrong})


def test_read_clip_reports_missing_files_and_films_without_video(tmp_path):
    with pytest.raises(video_io.UnreadableClip, match="No such file"):
        video_io.read_clip(tmp_path / "a.mp4", lambda line: np.zeros(1, int), lambda f, a: f)


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


def test_read_heldout_leaves_out_what_cannot_be_read(five_clips):
    whole = DataConfig(
        source="folder", folder=FolderConfig(path=str(five_clips)), frames=9, height=16, width=16
    )
    videos, captions = sources.read_heldout(whole, 8, seed=0)
    assert videos.shape == (1, 9, 16, 16, 3) and len(captions) == 1
