# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The loader: one batch order whatever the workers, processes and restarts."""

import json

import jax
import numpy as np
import pytest
import video_files
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from mimir_jax.data import loader
from mimir_jax.data.sources import folder
from mimir_jax.parallel import mesh as mesh_lib

STEPS = 12


class Numbers:
    """A cheap source whose records also hold a drawn number."""

    def __init__(self, count=10):
        self.count = count

    def __len__(self):
        return self.count

    def __repr__(self):
        return f"Numbers({self.count})"

    def __getitem__(self, index):
        raise AssertionError("the loader must prefer read")

    def read(self, index, rng):
        video = np.full((2, 4, 4, 3), index, np.uint8)
        return {
            "video": video,
            "caption": f"number {index}",
            "index": index,
            "draw": float(rng.random()),
        }


class Plain(list):
    """A source without `read`."""


def make(source=None, **options):
    source = Numbers() if source is None else source
    return loader.make_loader(source, **{"global_batch": 4, "seed": 7, **options})


def take(batches, count=STEPS):
    """Returns `count` batches as rows of (index, caption, draw)."""
    out = [next(batches) for _ in range(count)]
    batches.close()
    return [
        list(zip(b["index"].tolist(), b["caption"], b["draw"].tolist(), strict=True)) for b in out
    ]


@pytest.fixture(scope="module")
def reference():
    return take(make())


def test_loader_batches_have_the_documented_form():
    batch = next(make())
    assert batch["video"].shape == (4, 2, 4, 4, 3) and batch["video"].dtype == np.uint8
    assert batch["index"].dtype == np.int32 and batch["draw"].dtype == np.float32
    assert batch["caption"] == [f"number {i}" for i in batch["index"]]
    np.testing.assert_array_equal(batch["video"][:, 0, 0, 0, 0], batch["index"])


@pytest.mark.parametrize("options", [dict(num_threads=0), dict(num_threads=5, prefetch=3)], ids=str)
def test_loader_batches_do_not_depend_on_threads(reference, options):
    assert take(make(**options)) == reference


@pytest.mark.slow
def test_loader_batches_do_not_depend_on_worker_processes(reference):
    assert take(make(num_workers=2, start_batch=2), STEPS - 2) == reference[2:]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_loader_rows_of_processes_join_to_the_global_batch(reference, processes):
    parts = [take(make(process_index=p, process_count=processes)) for p in range(processes)]
    joined = [sum((part[k] for part in parts), []) for k in range(STEPS)]
    assert joined == reference


@pytest.mark.parametrize("before, after", [(1, 4), (4, 2), (2, 1)])
def test_loader_resumes_on_another_process_count(reference, before, after):
    first = make(process_index=before - 1, process_count=before)
    for _ in range(5):
        next(first)
    state = json.loads(json.dumps(first.state()))
    first.close()
    assert state["batch"] == 5
    parts = []
    for p in range(after):
        batches = make(process_index=p, process_count=after)
        next(batches)
        batches.restore(state)
        parts.append(take(batches, STEPS - 5))
    joined = [sum((part[k] for part in parts), []) for k in range(STEPS - 5)]
    assert joined == reference[5:]


def test_loader_restores_far_ahead_at_once():
    batches = make()
    batches.restore({**batches.state(), "batch": 10**12})
    far = take(batches, 2)
    assert far == take(make(start_batch=10**12), 2) and far[0] != far[1]
    assert batches.state()["batch"] == 10**12 + 2


def test_loader_epochs_reshuffle_and_cover_everything_once(reference):
    rows = [index for batch in reference for index, _, _ in batch]
    epochs = [rows[:10], rows[10:20], rows[20:30], rows[30:40]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    draws = [draw for batch in reference for *_, draw in batch]
    assert len(set(draws)) == len(draws)


def test_loader_seed_changes_order_and_draws(reference):
    other = take(make(seed=8))
    assert [r[0] for b in other for r in b] != [r[0] for b in reference for r in b]
    assert not {r[2] for b in other for r in b} & {r[2] for b in reference for r in b}


def test_loader_keeps_the_order_of_the_source_without_shuffle():
    batches = make(Plain({"index": i} for i in range(3)), shuffle=False)
    assert [next(batches)["index"].tolist() for _ in range(2)] == [[0, 1, 2, 0], [1, 2, 0, 1]]


def test_loader_transform_is_keyed_like_the_record(reference):
    def transform(record, rng):
        return {"index": record["index"], "extra": int(rng.integers(1 << 30)), "size": (1, 2)}

    batches = [next(b) for b in (make(transform=transform), make(transform=transform))]
    assert batches[0]["extra"].tolist() == batches[1]["extra"].tolist()
    assert batches[0]["index"].tolist() == [row[0] for row in reference[0]]
    assert batches[0]["size"] == [(1, 2)] * 4


@pytest.mark.parametrize(
    "change, rule",
    [
        (dict(seed=8), "must have seed=8 to continue this run, got 7"),
        (dict(global_batch=8), "must have global_batch=8 to continue this run, got 4"),
        (dict(shuffle=False), "must have shuffle=False to continue this run, got True"),
        (dict(source=Numbers(11)), r"must have source='Numbers\(11\)' .*, got 'Numbers\(10\)'"),
    ],
)
def test_loader_refuses_the_state_of_another_run(change, rule):
    with pytest.raises(ValueError, match=rule):
        make(**change).restore(make().state())


@pytest.mark.parametrize(
    "wrong, rule",
    [
        (dict(source=Plain()), "source must hold records, got none"),
        (dict(process_index=0, process_count=3), "multiple of the process count, got 4 and 3"),
        (dict(process_index=2, process_count=2), "process_index must be from 0 to 1, got 2"),
        (dict(global_batch=0), "global_batch must be at least 1, got 0"),
        (dict(start_batch=-1), "start_batch must be at least 0, got -1"),
        (dict(seed=-1), "seed must be a whole number from 0, got -1"),
    ],
)
def test_loader_names_what_is_wrong(wrong, rule):
    with pytest.raises(ValueError, match=rule):
        make(**wrong)


# Broken clips.


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips")
    for name in "abcdef":
        video_files.write_clip(path / f"{name}.mp4", 12)
        (path / f"{name}.txt").write_text(f"clip {name}")
    video_files.break_file(path / "c.mp4", "cut")
    return folder.VideoFolder(path, frames=5, height=12, width=16, fps=8.0)


def test_loader_batches_stay_fixed_around_a_broken_clip(clips):
    def videos(**options):
        batches = make(clips, **options)
        return [next(batches) for _ in range(6)], batches

    whole, batches = videos()
    parts = [videos(process_index=p, process_count=2)[0] for p in range(2)]
    for batch, *rows in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(batch["video"], np.concatenate([r["video"] for r in rows]))
        assert batch["caption"] == rows[0]["caption"] + rows[1]["caption"]
    assert [index for batch in whole for index in batch["index"]].count(2) == 0
    starts = {first for b in whole for first in map(tuple, map(video_files.frames_of, b["video"]))}
    assert len(starts) > 3
    (line,) = batches.skipped
    assert line.startswith("c.mp4: ") and batches.skipped[line] == 4
    assert sum((batch["skipped"] for batch in whole), []) == [tuple(line.split(": ", 1))] * 4


def test_a_name_with_a_colon_is_told_from_the_reason(tmp_path):
    for name in "abd":
        video_files.write_clip(tmp_path / f"{name}.mp4", 6)
    (tmp_path / "c: part 2.mp4").write_bytes(b"broken")
    video_files.write_captions(tmp_path, {path.name: "a clip" for path in tmp_path.iterdir()})
    batches = make(folder.VideoFolder(tmp_path, frames=5, height=12, width=16))
    batches.quarantine(tmp_path)
    next(batches)
    listed = json.loads((tmp_path / "quarantine.jsonl").read_text())
    assert listed["file"] == "c: part 2.mp4" and ": " not in listed["reason"]


def test_loader_passes_on_that_no_clip_is_readable(tmp_path):
    video_files.write_clip(tmp_path / "a.mp4", 4)
    (tmp_path / "a.txt").write_text("short")
    source = folder.VideoFolder(tmp_path, frames=5, height=12, width=16)
    batches = make(source)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"at least one readable clip, all 1 failed \(a.mp4"):
            next(batches)
    assert batches.state()["batch"] == 0


# Devices.


class FakeSharding(Sharding):
    """Rows of each device of a mesh whose devices belong to several processes."""

    def __init__(self, blocks):
        self.blocks = blocks  # (process, row block) of each device

    def devices_indices_map(self, shape):
        count = max(block for _, block in self.blocks) + 1
        size = shape[0] // count
        device = lambda process, i: type("Device", (), {"process_index": process, "id": i})()  # noqa: E731
        return {
            device(process, i): (slice(block * size, (block + 1) * size),)
            for i, (process, block) in enumerate(self.blocks)
        }


@pytest.mark.parametrize(
    "blocks, expected",
    [
        ([(0, 0), (0, 1), (1, 2), (1, 3)], [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ([(0, 0), (1, 1), (0, 2), (1, 3)], [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ([(0, 0), (1, 0), (2, 1), (3, 1)], [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2),
    ],
    ids=["blocks", "scattered", "shared"],
)
def test_process_rows_follow_the_devices(blocks, expected):
    sharding = FakeSharding(blocks)
    assert [loader.process_rows(sharding, 8, p) for p in range(len(expected))] == expected


def test_loader_reads_the_rows_of_a_sharding(monkeypatch):
    whole = next(make(global_batch=8))
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    sharding = FakeSharding([(0, 0), (1, 1), (0, 2), (1, 3)])
    part = next(make(global_batch=8, sharding=sharding))
    np.testing.assert_array_equal(part["index"], whole["index"][[2, 3, 6, 7]])
    with pytest.raises(ValueError, match="got both; pass one"):
        make(sharding=sharding, process_index=0)


@pytest.mark.parametrize("sizes", [(4, 2, 1, 1), (2, 1, 4, 1)], ids=str)
def test_device_put_splits_rows_of_a_tree(sizes):
    sharding = NamedSharding(mesh_lib.make_mesh(sizes), P(("data", "fsdp")))
    batches = make(global_batch=8, sharding=sharding)
    batch = next(batches)
    features = jax.numpy.ones((8, 3))
    with jax.transfer_guard("disallow"):
        arrays = {name: batch[name] for name in ("video", "index", "draw")}
        placed = loader.device_put({**arrays, "text": {"t5": features}}, sharding)
    assert set(placed) == {"video", "index", "draw", "text"}
    np.testing.assert_array_equal(placed["video"], batch["video"])
    assert placed["video"].sharding.is_equivalent_to(sharding, 5)
    assert placed["video"].addressable_shards[0].data.shape[0] == 8 // (sizes[0] * sizes[1])
    assert placed["text"]["t5"].sharding.is_equivalent_to(sharding, 2)
