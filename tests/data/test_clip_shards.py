# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips in shards, as a source that equals the folder they were made of."""

import contextlib
import json
import pickle
import shutil

import numpy as np
import pytest
import video_files

from mimir_jax import hashing
from mimir_jax.config import DataConfig, FolderConfig, ShardsConfig
from mimir_jax.data import clip_shards, loader, sources, video_io
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.data.sources import shards as shards_lib
from mimir_jax.data.sources import splits
from mimir_jax.errors import InputError

SIZE = dict(frames=4, height=12, width=16)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of five clips, one of them too short, with one or two captions."""
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate("abcde"):
        video_files.write_clip(folder / f"{name}.mp4", 2 if name == "b" else 6 + number)
    texts = {f"{name}.mp4": [f"clip {name}", f"a longer text, {name}"] for name in "abcde"}
    video_files.write_captions(folder, texts | {"a.mp4": "ein Wörtchen"})
    return folder


@pytest.fixture
def packed(clips, tmp_path):
    """The clips in three shards."""
    source = folder_lib.VideoFolder(clips, **SIZE)
    entries = [
        clip_shards.Entry(file, (clips / file).stat().st_size, captions)
        for file, captions in zip(source.files, source.captions, strict=True)
    ]
    plan = clip_shards.plan(entries[::-1], 2 * max(entry.size for entry in entries) - 1000)
    assert [len(part) for part in plan.parts] == [2, 2, 1]
    (tmp_path / "0123-00000-of-00001.array_record").write_text("of another size")
    for number in range(3):
        assert not clip_shards.is_complete(tmp_path, plan)
        read = lambda file: (clips / file).read_bytes()  # noqa: E731
        clip_shards.write_shard(tmp_path, plan, number, read)
    clip_shards.complete(tmp_path, plan)
    assert clip_shards.is_complete(tmp_path, plan)
    assert len(list(tmp_path.iterdir())) == 5
    return tmp_path


def test_frame_limits_are_those_of_a_folder(packed):
    assert shards_lib.ClipShards(packed, min_side=48, min_aspect=0.7, **SIZE)[0]["caption"]
    with pytest.raises(ValueError, match="at least 49 pixels along the shorter side, has 48"):
        shards_lib.ClipShards(packed, min_side=49, **SIZE)[0]


def test_shards_equal_the_folder_they_were_made_of(clips, packed):
    for split in ("all", "train", "heldout"):
        there = folder_lib.VideoFolder(clips, split=split, **SIZE)
        here = pickle.loads(pickle.dumps(shards_lib.ClipShards(packed, split=split, **SIZE)))
        assert len(here) == len(there)
        for index in range(len(there)):
            one, other = (s.read(index, np.random.default_rng(index)) for s in (there, here))
            np.testing.assert_array_equal(one.pop("video"), other.pop("video"))
            assert one == other and here.name(index) == there.name(index)
    ((name, reason),) = shards_lib.ClipShards(packed, **SIZE)[1]["skipped"]
    assert name == "b.mp4" and reason.startswith("too short")


def test_batches_are_those_of_the_folder(clips, packed):
    options = dict(split="train", start="random", **SIZE)
    there, here = (
        loader.make_loader(source, global_batch=2, seed=3)
        for source in (
            folder_lib.VideoFolder(clips, **options),
            shards_lib.ClipShards(packed, **options),
        )
    )
    with contextlib.closing(there), contextlib.closing(here):
        for _ in range(4):
            one, other = next(there), next(here)
            np.testing.assert_array_equal(one["video"], other["video"])
            assert list(one["caption"]) == list(other["caption"])


def test_folders_of_shards_follow_each_other(packed, tmp_path):
    parts = tmp_path / "parts"
    for name in ("two", "one"):
        shutil.copytree(packed, parts / name, ignore=lambda *_: ["parts"])
    one, both = (shards_lib.ClipShards(folder, **SIZE) for folder in (packed, parts))
    assert len(both) == 10 and [both.name(k) for k in range(10)] == 2 * list(
        map(one.name, range(5))
    )
    assert both[7]["caption"] == one[2]["caption"] and both[7]["index"] == 7
    heldout = shards_lib.ClipShards(parts, split="heldout", **SIZE)
    train = shards_lib.ClipShards(parts, split="train", **SIZE)
    assert len(heldout) + len(train) == 10 and repr(both) != repr(one)


def test_a_config_names_shards(clips, packed):
    config = DataConfig(source="shards", shards=ShardsConfig(path=str(packed)), **SIZE)
    other = DataConfig(source="folder", folder=FolderConfig(path=str(clips)), **SIZE)
    for one, two in zip(
        sources.read_heldout(config, 2, seed=0), sources.read_heldout(other, 2, seed=0), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    train, heldout = (repr(sources.make_source(config, x, seed=0)) for x in ("train", "heldout"))
    assert train != heldout and str(packed) not in train
    with pytest.raises(ValueError, match="shards.path must name a folder of clip shards"):
        DataConfig(source="shards")


@pytest.mark.parametrize("suffix", ["avi", "gif", "m4v", "mkv", "mov", "mp4", "webm", "webp"])
def test_a_file_in_memory_is_read_as_on_disk(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    video_files.write_clip(path, 4)
    stored = video_io.Stored(path.name, path.read_bytes())
    read = [
        video_io.read_clip(x, lambda t: np.arange(len(t.times)), lambda f, _: f)
        for x in (path, stored)
    ]
    np.testing.assert_array_equal(*read)
    with pytest.raises(video_io.UnreadableClip):
        video_io.read_clip(video_io.Stored("a.mp4", b"nothing"), lambda t: 0, lambda f, _: f)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: cut(first(f)), r"must be whole: must have \d+ bytes, has \d+; copy it again"),
        (lambda f: first(f).unlink(), r"must have \d+ bytes, is missing"),
        (lambda f: (f / "manifest.json").unlink(), "must hold a manifest.json, found none"),
        (lambda f: rewrite(f / "manifest.json", format="mimir_jax clip shards 9"),
         "must be of format 'mimir_jax clip shards 1', got 'mimir_jax clip shards 9'; write"),
        (lambda f: rewrite(f / "manifest.json", shards=[{}]), "must be whole: it lacks 'clips'"),
        (lambda f: cut(f / "codes.npy"), "codes.npy of clip shards must be whole"),
        (lambda f: np.save(f / "codes.npy", np.zeros(3, np.uint32)), "must hold 5 numbers, has 3"),
    ],
    ids=["cut", "missing", "manifest", "version", "torn", "codes", "fewer"],
)  # fmt: skip
def test_damaged_shards_are_one_line(packed, damage, message):
    damage(packed)
    with pytest.raises(InputError, match=message) as caught:
        shards_lib.ClipShards(packed, **SIZE)
    assert "\n" not in str(caught.value)


def first(folder):
    return next(folder.glob("*-00000-of-00003.array_record"))


def test_a_damaged_record_is_passed_over(packed):
    data = bytearray(first(packed).read_bytes())
    place = data.index(b'{"file": "a.mp4"')
    data[place : place + 16] = b"\0" * 16
    first(packed).write_bytes(data)
    source = shards_lib.ClipShards(packed, **SIZE)
    record = source[0]
    assert record["index"] == 2 and len(record["skipped"]) == 2
    assert "-00000-of-00003.array_record record 0" in source.name(0)


def test_a_clip_that_has_changed_is_refused(clips, tmp_path):
    plan = clip_shards.plan([clip_shards.Entry("a.mp4", 7, ("x",))], 10**6)
    with pytest.raises(InputError, match="clip a.mp4 must have 7 bytes, as when it was written"):
        clip_shards.write_shard(tmp_path, plan, 0, lambda file: b"longer than it was")
    assert not list(tmp_path.iterdir())


def test_one_clip_in_twenty_is_held_out_and_stays_so():
    names = [f"{number}.mp4" for number in range(400)]
    codes = np.array([splits.code(name) for name in names], np.uint32)
    assert codes[7] == int(hashing.sha256("7.mp4")[:8], 16)
    readable = lambda k: k % 2 == 0  # noqa: E731
    heldout, train = (splits.choose(codes, x, readable) for x in ("heldout", "train"))
    assert sorted([*heldout, *train]) == list(range(400)) and 8 <= len(heldout) <= 32
    assert all(codes[k] % 20 == 0 for k in heldout)
    some = splits.choose(codes[:200], "heldout", readable)
    assert some.tolist() == [k for k in heldout.tolist() if k < 200]
    few = np.flatnonzero(codes % 20)[:5]
    least = min((k for k in range(5) if k != 3), key=lambda k: codes[few][k])
    assert splits.choose(codes[few], "heldout", lambda k: k != 3).tolist() == [least]
    assert not len(splits.choose(codes, "train", lambda k: False))
