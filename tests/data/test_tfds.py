# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips of tensorflow-datasets."""

import functools
import io
import json
import pickle
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds_lib
import video_files
from PIL import Image

from mimir_jax.config import DataConfig, TfdsConfig
from mimir_jax.data import sources
from mimir_jax.data.sources import tfds

SIZE = dict(height=12, width=16)


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
            images = [video_files.gray(10 + 5 * k, 24, 32) for k in range(5 + i)]
            yield (
                i,
                {
                    "clip": np.stack(images),
                    "encoded": [encode_png(image) for image in images],
                    "label": i % 2,
                    "mask": np.stack(images)[:, ::4, ::4, :1],
                    "text": f"clip {i}",
                    "texts": [f"first {i}", f"second {i}"],
                },
            )


def encode_png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "png")
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


def test_small_frames_are_left_out(tfds_dir):
    for fields, message in (
        (dict(min_side=25), "at least 25 pixels along the shorter side, has 24"),
        (dict(min_aspect=0.8), "at least 0.8 of the longer one, has 32 x 24"),
    ):
        with pytest.raises(ValueError, match=message):
            toy_clips(tfds_dir, **fields)[0]


def test_tfds_resamples_draws_and_skips(tfds_dir):
    source = toy_clips(tfds_dir, source_fps=24.0, fps=8.0, frames=4, caption_key="texts")
    rng = np.random.default_rng(0)
    records = [source.read(i % 10, rng) for i in range(60)]
    windows = {tuple(video_files.frames_of(record["video"])) for record in records}
    assert windows == {(s, s + 3, s + 6, s + 9) for s in range(5)}
    assert {record["caption"].split()[0] for record in records} == {"first", "second"}
    assert any("too short" in reason for record in records for _, reason in record["skipped"])
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
