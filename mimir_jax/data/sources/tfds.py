# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A prepared TensorFlow Datasets dataset as a data source, without TensorFlow.

Only the video and the caption of a record are read; its other features may be of any kind. TFDS
cannot build its `Video` feature without TensorFlow, but stores one as a sequence of encoded
images, which is decoded here.
"""

import io
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from array_record.python import array_record_data_source
from jaxtyping import UInt8
from PIL import Image
from tensorflow_datasets.core import dataset_info, features, naming, splits

from mimir_jax import files, image_files
from mimir_jax.data import clips, video_io
from mimir_jax.errors import InputError

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class TfdsSource(clips.ClipSource):
    """A TFDS dataset prepared in ArrayRecord format.

    The video is a `Video` feature or a uint8 `Tensor` of (frames, height, width, channels) with
    one or three channels; the caption is a `Text` or a `Sequence` of `Text` to draw from. TFDS
    stores each number of a `Tensor` on its own unless it has `encoding="zlib"` or `"bytes"`.
    """

    def __init__(
        self,
        name: str,
        *,
        data_dir: str | os.PathLike,
        split: str = "train",
        video_key: str | None = None,
        caption_key: str | None = None,
        source_fps: float | int | None = None,
        **geometry: Any,
    ):
        """Finds the dataset, its shards and its two features.

        Args:
            name: `name`, `name/config` or either with `/version`; without one, the newest.
            data_dir: Folder in which TFDS prepared datasets.
            split: A split or a part of one, such as `train[:90%]`.
            video_key: The video feature; None takes the only one there is.
            caption_key: The caption feature; None takes the only one there is.
            source_fps: Frames per second of the stored videos; None means `fps`, so that
                every stored frame is taken.
            **geometry: `frames`, `height`, `width`, `fps`, `start`, `short` of `ClipSource`.

        Raises:
            ValueError: for a dataset, split or feature that is not there or does not fit.
        """
        super().__init__(**geometry)
        self._require(
            source_fps is None or source_fps > 0, f"source_fps must be positive, got {source_fps}"
        )
        folder = _find_dataset(files.expand_path(data_dir), name)
        info = dataset_info.read_proto_from_builder_dir(folder)
        part = _find_split(folder, info, split)
        stored = files.read_json(folder / "features.json", "dataset description")
        self._require("featuresDict" in stored, f"features.json of {folder} must list the features")
        specs = stored["featuresDict"]["features"]
        self.source_fps = None if source_fps is None else float(source_fps)
        self.video_key = _find_feature(specs, video_key, "video", _is_video)
        self.caption_key = _find_feature(specs, caption_key, "caption", _is_text)
        self._encoded = _kind(specs[self.video_key]) == "Video"
        self._features = features.FeaturesDict(
            {
                self.video_key: features.Sequence(features.Text())  # bytes, image by image
                if self._encoded
                else features.FeatureConnector.from_json(specs[self.video_key]),
                self.caption_key: features.FeatureConnector.from_json(specs[self.caption_key]),
            }
        )
        self._records = array_record_data_source.ArrayRecordDataSource(part.file_instructions)
        self._part = (
            "/".join(filter(None, (info.name, info.config_name, info.version))) + f":{split}"
        )
        self._size = sum(int(stored.num_bytes) for stored in info.splits)

    def __len__(self) -> int:
        return len(self._records)

    def name(self, index: int) -> str:
        """Returns the dataset, split and number of a clip."""
        return f"{self._part} record {index}"

    def _identity(self) -> str:
        return (
            f"{self._part!r}, bytes={self._size}, video_key={self.video_key!r}, "
            f"caption_key={self.caption_key!r}, source_fps={self.source_fps}"
        )

    def _measure(self, index: int) -> tuple[video_io.Timeline, tuple[int | float, int | float]]:
        stored = self._read(index)[self.video_key]
        return self._timeline(stored), self._frame(stored[0]).shape[:2]

    def _read(self, index: int) -> dict[str, Any]:
        """Returns the stored video and captions of a clip, of one frame or more."""
        try:
            record = self._features.deserialize_example_np(self._records[index])
        except (KeyError, RuntimeError, ValueError) as error:  # a damaged shard
            raise video_io.UnreadableClip(str(error).splitlines()[0]) from error
        if not len(record[self.video_key]):
            raise video_io.UnreadableClip("holds no frames")
        return record

    def _timeline(self, stored: Any) -> video_io.Timeline:
        rate = self.source_fps or self.fps or 1.0
        return video_io.Timeline(np.arange(len(stored)) / rate, len(stored) / rate)

    def _load(
        self, index: int, pick: video_io.Pick
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], tuple[str, ...]]:
        record = self._read(index)
        stored = record[self.video_key]
        chosen = pick(self._timeline(stored))
        frames = {i: self._fit(self._frame(stored[i])) for i in np.unique(chosen).tolist()}
        texts = record[self.caption_key]
        texts = [texts] if isinstance(texts, bytes) else list(texts)
        captions = tuple(text.decode(errors="replace") for text in texts)
        if not any(captions):
            raise video_io.UnreadableClip("holds no caption")
        return np.stack([frames[i] for i in chosen.tolist()]), captions  # (f, h, w, 3)

    def _frame(self, stored: bytes | UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
        if self._encoded:
            try:
                with Image.open(io.BytesIO(stored)) as image:
                    return image_files.as_rgb(image)
            except (OSError, SyntaxError, ValueError) as error:
                raise video_io.UnreadableClip(str(error)) from error
        return np.repeat(stored, 3, axis=-1) if stored.shape[-1] == 1 else stored


def _find_dataset(data_dir: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the folder of one version of a dataset."""
    home = data_dir / name
    if (home / "dataset_info.json").is_file():
        return home
    versions = [
        (tuple(map(int, match.groups())), path)
        for path in (home.iterdir() if home.is_dir() else ())
        if (match := _VERSION.fullmatch(path.name)) and (path / "dataset_info.json").is_file()
    ]
    if not versions:
        raise InputError(
            f"TfdsSource needs a prepared dataset, found no version of {name!r} under "
            f"{str(data_dir)!r}; pass data_dir, and the config as name/config if it has one"
        )
    return max(versions)[1]


def choose_split(name: str, data_dir: str | os.PathLike, split: Literal["train", "heldout"]) -> str:
    """Returns the TFDS split to train or evaluate on: `validation`, `test` or the end of `train`.

    Without the first two, a twentieth of `train` is held out, and at least one record.
    """
    folder = _find_dataset(files.expand_path(data_dir), name)
    parts = dataset_info.read_proto_from_builder_dir(folder).splits
    sizes = {part.name: sum(part.shard_lengths) for part in parts}
    for heldout in ("validation", "test"):
        if heldout in sizes:
            return heldout if split == "heldout" else "train"
    last = max(1, sizes.get("train", 0) // 20)
    return f"train[-{last}:]" if split == "heldout" else f"train[:-{last}]"


def _find_split(
    folder: pathlib.Path, info: Any, split: str
) -> splits.SplitInfo | splits.SubSplitInfo:
    """Returns the split after checking that its ArrayRecord files are there."""
    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name=info.name, filetype_suffix="array_record"
    )
    available = splits.SplitDict.from_proto(info.splits, template)
    try:
        part = available[split]
    except (KeyError, ValueError) as error:
        raise InputError(
            f"split must be one of {', '.join(available)} or a part of one in {str(folder)!r}, got "
            f"{split!r}; pass for example split='{next(iter(available), 'train')}[:90%]'"
        ) from error
    missing = [i.filename for i in part.file_instructions if not os.path.exists(i.filename)]
    if missing:
        raise InputError(
            f"TfdsSource reads ArrayRecord files, found {info.file_format or 'other files'} and "
            f"no {missing[0]!r}; prepare the dataset with file_format='array_record'"
        )
    if not part.num_examples:
        raise InputError(
            f"split {split!r} in {str(folder)!r} must hold at least one record, got none; "
            "pass another"
        )
    return part


def _find_feature(
    specs: Mapping[str, Any], key: str | None, role: str, fits: Callable[[Any], bool]
) -> str:
    """Returns `key` if it fits the role, or the only feature that does."""
    fitting = [name for name in sorted(specs) if fits(specs[name])]
    if key is None and len(fitting) == 1:
        return fitting[0]
    if key not in fitting:
        raise InputError(
            f"{role}_key must name a {role} feature, got {key!r}; of {', '.join(sorted(specs))} "
            f"these fit: {', '.join(fitting) or 'none'}"
        )
    return key


def _kind(spec: Mapping[str, Any]) -> str:
    return spec["pythonClassName"].rpartition(".")[2]


def _is_video(spec: Mapping[str, Any]) -> bool:
    if _kind(spec) == "Video":
        return True
    tensor = spec.get("tensor", {})
    shape = tensor.get("shape", {}).get("dimensions", [])
    return tensor.get("dtype") == "uint8" and len(shape) == 4 and shape[-1] in ("1", "3")


def _is_text(spec: Mapping[str, Any]) -> bool:
    if _kind(spec) == "Sequence":
        spec = spec.get("sequence", {}).get("feature", {"pythonClassName": ""})
    return _kind(spec) == "Text"
