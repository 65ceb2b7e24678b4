# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Records of prepared features on disk."""

import numpy as np
import pytest

from mimir_jax.data import feature_store, loader

CONTENT = {"source": "Numbers(7)", "text": {"length": 6}, "llm": None}


def make_record(number):
    rng = np.random.default_rng(number)
    mask = np.arange(6) < np.array([[2], [6]])  # (k, n)
    return {
        "mean": rng.normal(size=(1, 2, 2, 3)).astype(np.float32),
        "t5": rng.normal(size=(6, 4)).astype(np.float32),  # pads are not zero
        "t5_mask": mask[0],
        "llm": rng.normal(size=(2, 6, 5)).astype(np.float32) * mask[..., None],
        "llm_mask": mask,
        "index": number,
        "skipped": [["a: 1.mp4", "empty"]] if number == 2 else [],
    }


def write(folder, records=7, dtype="float32"):
    manifest = feature_store.Manifest(CONTENT, records, False, 3, dtype)
    feature_store.claim(folder, manifest)
    for number in manifest.missing(folder):
        rows = map(make_record, manifest.shard_rows(number))
        feature_store.write_shard(folder, manifest, number, rows)
    return manifest


def test_record_survives_and_its_llm_states_are_cut_to_their_mask():
    record = make_record(2)
    back = feature_store.unpack(feature_store.pack(record, "float32"))
    assert back.keys() == record.keys() and back["skipped"] == record["skipped"]
    for name, value in record.items():
        np.testing.assert_array_equal(back[name], value)
    longer = {**record, "llm": np.ones((2, 6, 5), np.float32)}
    cut = len(feature_store.pack(longer, "float32")) - len(feature_store.pack(record, "float32"))
    assert cut >= 4 * 5 * 4  # four pads of five float32


def test_float16_halves_a_record_and_refuses_what_it_cannot_hold():
    record = {"t5": np.full((64, 128), 3.0, np.float32)}
    assert len(feature_store.pack(record, "float16")) < 0.51 * len(
        feature_store.pack(record, "float32")
    )
    assert feature_store.unpack(feature_store.pack(record, "float16"))["t5"].dtype == np.float32
    with pytest.raises(ValueError, match="t5 must be finite in float16, its largest value is 1e"):
        feature_store.pack({"t5": np.full((1, 1), 1e5, np.float32)}, "float16")


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}], ids=str)
def test_loader_reads_features_in_the_order_of_their_source(tmp_path, options):
    write(tmp_path / "f")
    source = feature_store.FeatureSource(tmp_path / "f", CONTENT)
    batches = loader.make_loader(source, global_batch=4, seed=7, **options)
    plain = loader.make_loader([{"index": i} for i in range(7)], global_batch=4, seed=7)
    for _ in range(4):
        batch = next(batches)
        np.testing.assert_array_equal(batch["index"], next(plain)["index"])
        expected = np.stack([make_record(i)["llm"] for i in batch["index"].tolist()])
        np.testing.assert_array_equal(batch["llm"], expected)
    batches.close()
    plain.close()
    assert set(batches.skipped) == {"a: 1.mp4: empty"}


def test_skipped_clips_are_told_from_their_reasons_also_in_lines_of_old_folders(tmp_path):
    manifest = feature_store.Manifest(CONTENT, 1, False, 1, "float32")
    feature_store.claim(tmp_path / "f", manifest)
    record = {**make_record(2), "skipped": [["a: 1.mp4", "cut: at 3"], "b.mp4: cut: at 3"]}
    feature_store.write_shard(tmp_path / "f", manifest, 0, [record])
    found = feature_store.FeatureSource(tmp_path / "f", CONTENT)[0]
    assert found["skipped"] == [("a: 1.mp4", "cut: at 3"), ("b.mp4", "cut: at 3")]


def test_failed_shard_leaves_nothing_behind(tmp_path):
    manifest = feature_store.Manifest(CONTENT, 3, False, 3, "float16")
    feature_store.claim(tmp_path / "f", manifest)

    def rows():
        yield make_record(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feature_store.write_shard(tmp_path / "f", manifest, 0, rows())
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["manifest.json"]


def test_damage_is_one_line(tmp_path):
    manifest = write(tmp_path / "f")
    shard = tmp_path / "f" / manifest.shard(1)
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match="must be whole, reading them failed with"):
        feature_store.FeatureSource(tmp_path / "f", CONTENT)
    (tmp_path / "f" / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a manifest of prepared features: it is not of"):
        feature_store.read_manifest(tmp_path / "f")
