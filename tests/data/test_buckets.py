# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Buckets: which clip goes where, and in which order batches come."""

import collections
import dataclasses

import numpy as np
import pytest
import video_files
from PIL import Image

from mimir_jax import config as c
from mimir_jax.data import buckets, loader, schedule, sources

TWO = c.BucketsConfig(listed=((5, 32, 32), (1, 32, 64)))
STEPS = 40


def measure(height, width, frames):
    return buckets.Measure(height, width, lambda wanted: wanted <= frames)


@pytest.mark.parametrize(
    "clip, sizes, name",
    [
        (measure(480, 720, 49), ((9, 64, 96), (17, 64, 96)), "17x64x96"),  # most frames
        (measure(480, 720, 10), ((9, 64, 96), (17, 64, 96)), "9x64x96"),
        (measure(480, 720, 49), ((9, 64, 64), (9, 64, 96), (9, 96, 64)), "9x64x96"),  # least crop
        (measure(100, 100, 49), ((9, 64, 64), (9, 96, 96), (9, 128, 128)), "9x96x96"),  # largest
        (measure(32, 32, 49), ((9, 64, 64), (9, 96, 96)), "9x64x64"),  # enlarged least
        (measure(480, 720, 3), ((9, 64, 64), (17, 64, 64)), None),  # too short
        (measure(100, 300, 49), ((9, 64, 64),), None),  # two thirds would go
    ],
)
def test_a_clip_goes_to_the_bucket_of_least_loss(clip, sizes, name):
    config = c.BucketsConfig(listed=sizes)
    number = buckets.choose(clip, config)
    assert (None if number is None else config.sizes[number].name) == name


def test_the_rule_makes_each_length_in_each_aspect():
    config = c.BucketsConfig(area=64 * 96, aspects=(1.5, 1.0, 1 / 1.5), frames=(1, 17))
    names = [size.name for size in config.sizes]
    assert names[:3] == ["1x64x96", "1x80x80", "1x96x64"]
    assert names[3:] == ["17x64x96", "17x80x80", "17x96x64"]


@pytest.mark.parametrize(
    "fields, rule",
    [
        (dict(listed=((17, 64),)), r"listed must hold \(frames, height, width\) or .*, got \(17, "),
        (dict(listed=((1, 8, 8), (1, 8, 8))), "a bucket once, got 1x8x8 again"),
        (dict(listed=((1, 8, 8),), area=64), "listed must be left out with area"),
        (dict(area=64), "frames and aspects must not be empty"),
        (dict(listed=((1, 8, 8), (9, 8, 8)), most=1), "most, for each of which .*, got 2 and 1"),
    ],
)
def test_buckets_that_cannot_be_are_refused(fields, rule):
    with pytest.raises(ValueError, match=rule):
        c.BucketsConfig(**fields)


def test_a_schedule_takes_every_clip_equally_often():
    made = schedule.make([120, 60, 0], [4, 6, 4], seed=3)
    assert made.counts == (30, 10, 0)
    found = [made.bucket(k) for k in range(80)]
    assert collections.Counter(found) == {0: 60, 1: 20} and found[:40] != found[40:]
    assert made.before(57) == (found[:57].count(0), found[:57].count(1), 0)
    assert sorted(made.next_buckets(3, 100)) == [0, 1] and made.next_buckets(3, 1) == [found[3]]
    rows = schedule.Rows(made, (4, 6, 4))
    listed = [(k, row) for k in range(80) for row in range(rows.size(k))]
    assert [rows.find(n) for n in range(len(listed))] == listed
    assert all(listed[rows.first(k)] == (k, 0) for k in range(80))
    endless = schedule.make([1 << 30, 1 << 20], [8, 8], seed=0)
    assert sum(endless.counts) <= schedule.BLOCK + 1 and min(endless.counts) == 1


class Numbers:
    """Two dozen clips of any size, every other one for either bucket."""

    def __init__(self, shape=()):
        self.shape = shape

    def __len__(self):
        return 24

    def __repr__(self):
        return "Numbers()"

    def resized(self, frames, height, width, clips=None):
        return Numbers((frames, height, width, 3))

    def assign(self, config):
        return tuple(range(n, 24, 2) for n in range(2))

    def read(self, index, rng):
        return {"video": np.zeros(self.shape, np.uint8), "index": index, "draw": rng.random()}


def numbers():
    return buckets.BucketSource(Numbers(), TWO)


def take(source, count=STEPS, first=0, **options):
    """Returns shape, numbers and draws of each batch."""
    batches = loader.make_loader(source, global_batch=(4, 2), seed=7, start_batch=first, **options)
    found = []
    for _ in range(count):
        batch = next(batches)
        found.append((batch["video"].shape[1:], batch["index"].tolist(), batch["draw"].tolist()))
    batches.close()
    return found


@pytest.fixture(scope="module")
def reference():
    return take(numbers())


def test_a_batch_holds_one_bucket_and_an_epoch_every_clip(reference):
    assert len({shape for shape, *_ in reference}) == 2
    epoch = [index for _, indices, _ in reference[:9] for index in indices]
    assert sorted(epoch) == list(range(24))
    for shape, indices, _ in reference:
        assert shape == [(5, 32, 32, 3), (1, 32, 64, 3)][indices[0] % 2]
        assert len(indices) == [4, 2][indices[0] % 2]
    first, second = ([shape for shape, *_ in reference[k : k + 9]] for k in (0, 9))
    assert first != second


def test_the_order_does_not_depend_on_threads_processes_or_the_start(reference):
    assert take(numbers(), num_threads=5, prefetch=3) == reference
    assert take(numbers(), 10, first=30) == reference[30:]
    parts = [take(numbers(), 20, process_index=p, process_count=2) for p in range(2)]
    joined = [(a[0], a[1] + b[1], a[2] + b[2]) for a, b in zip(*parts, strict=True)]
    assert joined == reference[:20]


@pytest.mark.slow
def test_the_order_does_not_depend_on_workers(reference):
    assert take(numbers(), 12, num_workers=1) == take(numbers(), 12, num_workers=3)
    assert take(numbers(), 12, num_workers=2) == reference[:12]


def test_the_position_names_batches_of_each_bucket_and_clips():
    batches = loader.make_loader(numbers(), global_batch=(4, 2), seed=7)
    assert batches.state()["global_batch"] == [4, 2]
    assert "buckets=[5x32x32, 1x32x64]" in batches.state()["source"]
    with pytest.raises(ValueError, match=r"must have global_batch=\[4, 4\] to continue"):
        loader.make_loader(numbers(), global_batch=(4, 4), seed=7).restore(batches.state())
    assert batches.ids(0) == [str(index) for index in next(batches)["index"]]
    batches.close()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of long, short and turned videos, and an image."""
    folder = tmp_path_factory.mktemp("mixed")
    gray = video_files.gray
    for name, frames, size in (
        ("long", 12, (48, 48)), ("other", 9, (40, 44)), ("turned", 3, (64, 128)),
        ("third", 9, (48, 48)), ("wide", 12, (32, 160)),
    ):  # fmt: skip
        images = [gray(10 + 5 * i, *size) for i in range(frames)]
        video_files.write_video(folder / f"{name}.mp4", images, fps=8)
    Image.fromarray(gray(90, 100, 200)).save(folder / "photo.png")
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text(f"a {path.stem} clip")
    return folder


def folder_data(path, listed=TWO.listed, **fields):
    return c.DataConfig(
        source="folder", folder=c.FolderConfig(path=str(path)), frames=5, height=32, width=32,
        window="first", buckets=c.BucketsConfig(listed=listed, **fields),
    )  # fmt: skip


def test_a_folder_of_videos_and_images_is_sorted_into_buckets(mixed):
    train = sources.make_source(folder_data(mixed), "train", seed=0)
    heldout = sources.make_source(folder_data(mixed), "heldout", seed=0)
    found = {}
    for source in (train, heldout):
        for size, group in zip(TWO.sizes, source.groups, strict=True):
            found |= {source.name(index): size.name for index in group}
    video, image = "5x32x32", "1x32x64"
    assert found == {
        "long.mp4": video, "other.mp4": video, "third.mp4": video, "turned.mp4": image,
        "photo.png": image,
    }  # fmt: skip
    left_out = {**train.left_out, **heldout.left_out}
    assert left_out == {"wide.mp4": "fits no bucket, has 12 frames of 32x160"}
    for source in (train, heldout):
        for number in range(len(source)):
            if source.name(number) in ("photo.png", "long.mp4"):
                record = source[number]
                assert found[source.name(number)] == "x".join(map(str, record["video"].shape[:3]))
                assert np.ptp(record["video"][0]) <= 1  # every frame is grey


def test_a_bucket_without_a_clip_is_one_line(mixed):
    with pytest.raises(ValueError, match="17x32x32 fits none of .*; leave it out, add clips"):
        sources.make_source(folder_data(mixed, (*TWO.listed, (17, 32, 32))), "train", seed=0)
    rule = dataclasses.replace(
        folder_data(mixed, ()), buckets=c.BucketsConfig(area=1024, frames=(1, 5, 17))
    )
    assert not sources.make_source(rule, "train", seed=0).groups[2]
