# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A network in an ONNX file, run by onnxruntime, with `extractor.json` beside it.

{"input": "frames", "layout": "bcthw", "frames": 16,
 "output": "logits", "values": "logits",
 "resize": [224, 224], "resample": "bilinear",
 "scale": 0.00784313725490196, "mean": [1, 1, 1], "std": [1, 1, 1]}

model     file of the network; `model.onnx` by default
input     name of its float32 input; its other inputs must have defaults
layout    order of the axes of the input: b batch, t frames, c channels, h rows, w columns;
          without t it reads images
frames    frames of a clip, where the layout has t
channels  `rgb` by default, or `bgr`
resize    the shorter side, or height and width; without it frames keep their size
crop      height and width of the centre that is kept; without it all is kept
resample  `bilinear` or `bicubic`, antialiased; where there is a resize
scale     factor of the pixels, which are 0..255
mean, std subtracted from the scaled pixels, and divided by, in the order of channels
output    name of the output, of shape (batch, width)
places    `rows` or `columns` where the output has an axis of places, such as boxes, before or
          behind that of its width: of each column the highest value is taken
values    what it holds: `features`, `logits` or `probabilities` of classes, or `scores`
column    column of the output that is the score, from 0, where a network of several scores frames
"""

import dataclasses
import functools
import importlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from mimir_jax import files, hashing
from mimir_jax.config import ImageConfig
from mimir_jax.encoders import images as images_lib
from mimir_jax.errors import InputError, require

FILE = "extractor.json"

_RESAMPLE = {"bilinear": 2, "bicubic": 3}
_VALUES = ("features", "logits", "probabilities", "scores")
_PLACES = {"rows": 1, "columns": 2}  # axis of the output
_REQUIRED = ("input", "layout", "scale", "mean", "std", "output", "values")
_OPTIONAL = ("model", "frames", "channels", "resize", "crop", "resample", "places", "column")
_CLIPS, _IMAGES = 4, 32  # at a time, where the network leaves it open


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contract:
    """What `extractor.json` says.

    Attributes:
        model: File of the network.
        input, output: Names of its input and output.
        layout: Order of the axes of the input.
        frames: Frames of a clip; None for images.
        channels: Order of colours.
        pixels: How frames are resized and normalised.
        values: What the output holds.
        places: Axis of the output over which the highest values are taken; None without one.
        column: Column of the output that is the score; None where it is no score, or the only one.
    """

    model: str
    input: str
    output: str
    layout: str
    frames: int | None
    channels: Literal["rgb", "bgr"]
    pixels: ImageConfig
    values: Literal["features", "logits", "probabilities", "scores"]
    places: Literal[1, 2] | None
    column: int | None

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of what the network reads; empty where they are those of the frames."""
        resize = self.pixels.resize
        return self.pixels.crop or (resize if len(resize) == 2 else ())


def read_contract(path: pathlib.Path) -> Contract:
    """Reads `extractor.json`.

    Raises:
        InputError: naming the field that is missing, unknown or of another form.
    """
    raw = files.read_json(path, "extractor")
    try:
        return _parse(raw)
    except InputError as error:
        raise InputError(f"extractor {path}: {error}") from None


def _parse(raw: Mapping[str, Any]) -> Contract:
    known = (*_REQUIRED, *_OPTIONAL)
    if unknown := sorted(set(raw) - set(known)):
        raise InputError(f"fields must be of {', '.join(known)}, got {unknown[0]}; remove it")
    if missing := [name for name in _REQUIRED if name not in raw]:
        raise InputError(f"{missing[0]} must be given, got none; add it")
    layout = _text(raw, "layout", "")
    axes = "bchw" if "t" not in layout else "bcthw"
    require(
        sorted(layout) == sorted(axes) and layout.startswith("b"),
        f"layout must be b and then c, h, w and, for clips, t in some order, got {layout!r}; "
        "correct it",
    )
    frames = raw.get("frames")
    require(
        (frames is not None) == ("t" in layout),
        f"frames must be given where the layout has t, and only there, got {frames!r} with "
        f"{layout!r}; correct one",
    )
    require(
        frames is None or _is_size(frames),
        f"frames must be a whole number above 0, got {frames!r}; correct it",
    )
    require(
        ("resample" in raw) == ("resize" in raw),
        "resample must be given with resize, and only there; correct one",
    )
    std = _numbers(raw, "std", 3)
    require(min(std) > 0, f"std must be above 0, got {min(std)}; correct it")
    pixels = ImageConfig(
        resize=_sizes(raw, "resize", (1, 2)),
        crop=_sizes(raw, "crop", (2,)),
        resample=_RESAMPLE[_text(raw, "resample", "bilinear", tuple(_RESAMPLE))],
        scale=_numbers(raw, "scale", 1)[0],
        mean=_numbers(raw, "mean", 3),
        std=std,
    )
    model = _text(raw, "model", "model.onnx")
    require(
        pathlib.PurePath(model).name == model,
        f"model must be a file beside it, got {model!r}; move the file",
    )
    return Contract(
        model=model,
        input=_text(raw, "input", ""),
        output=_text(raw, "output", ""),
        layout=layout,
        frames=frames,
        channels=_text(raw, "channels", "rgb", ("rgb", "bgr")),
        pixels=pixels,
        **_output(raw),
    )


def _output(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the output holds, and where."""
    values = _text(raw, "values", "", _VALUES)
    places = _PLACES[_text(raw, "places", "", tuple(_PLACES))] if "places" in raw else None
    require(
        places is None or values != "logits",
        "values must be no logits where the output has places; export their probabilities",
    )
    column = raw.get("column")
    require(
        column is None or _is_whole(column) and values != "features",
        f"column must be a whole number from 0, and only where values are no features, got "
        f"{json.dumps(column)[:40]} with {values}; correct one",
    )
    return dict(values=values, places=places, column=column)


class OnnxExtractor:
    """A network of an ONNX file that reads images or clips, as its contract says.

    Args:
        folder: Holds `extractor.json` and the network.
        threads: Threads that onnxruntime may use; None leaves it to onnxruntime.

    Attributes:
        contract: What `extractor.json` says.
        is_video: Whether it reads clips.

    Raises:
        InputError: if onnxruntime is not installed, or the file is damaged or not as the contract
            says.
    """

    def __init__(self, folder: pathlib.Path, threads: int | None = None):
        self._folder = folder
        self.contract = read_contract(folder / FILE)
        self.is_video = self.contract.frames is not None
        self._session = _open_session(folder / self.contract.model, threads)
        self._batch = self._check_model()

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Folder, hash of the network, and contract."""
        name = self.contract.model
        return {
            "extractor": self._folder.name,
            "sha256": hashing.sha256_file(self._folder / name)[:16],
            "contract": json.loads(json.dumps(dataclasses.asdict(self.contract))),
        }

    def embed_images(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Returns the output of the network for each image."""
        assert not self.is_video
        return self._run(images[:, None], _IMAGES)

    def embed_clips(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> Float32[np.ndarray, "b d"]:
        """Returns the output of the network for each clip.

        Raises:
            InputError: for clips of another number of frames.
        """
        require(
            clips.shape[1] == self.contract.frames,
            f"extractor {self._folder} must have clips of {self.contract.frames} frames, got "
            f"{clips.shape[1]}; set --clip_frames {self.contract.frames}",
        )
        return self._run(clips, _CLIPS)

    def outputs(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n ..."]:
        """Returns the output of the network for each image, of any shape: boxes, maps."""
        assert not self.is_video
        return self._run(images[:, None], _IMAGES, whole=True)

    def _run(
        self, clips: np.ndarray, usual: int, *, whole: bool = False
    ) -> Float32[np.ndarray, "b ..."]:
        size = self._batch or usual
        rows = []
        for first in range(0, len(clips), size):
            part = clips[first : first + size]
            inputs = self._prepare(part)
            if self._batch:  # what a fixed batch lacks is filled with copies
                inputs = inputs[np.minimum(np.arange(size), len(inputs) - 1)]
            out = self._call(inputs)
            if not whole:
                out = self._vectors(out, len(inputs))
            fits = out.ndim > 1 and len(out) == len(inputs) and out.size > 0
            self._require(fits, "(batch, ...)", out, len(inputs))
            rows.append(out[: len(part)])
        return np.concatenate(rows)

    def _prepare(self, clips: np.ndarray) -> Float32[np.ndarray, "..."]:
        contract = self.contract
        colours = clips if contract.channels == "rgb" else clips[..., ::-1]
        prepared = [
            np.stack([images_lib.prepare(frame, contract.pixels) for frame in clip])
            for clip in colours
        ]
        values = np.stack(prepared).astype(np.float32)  # (b, t, h, w, c)
        order = ["bthwc".index(axis) for axis in contract.layout]
        if not self.is_video:
            values, order = values[:, 0], ["bhwc".index(axis) for axis in contract.layout]
        return np.ascontiguousarray(values.transpose(order))

    def _call(self, inputs: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        contract, place = self.contract, self._folder / self.contract.model
        try:
            (out,) = self._session.run([contract.output], {contract.input: inputs})
        except Exception as error:  # onnxruntime has an exception for each of its codes
            raise InputError(f"extractor {place} could not run: {_reason(error)}") from None
        return out.astype(np.float32)

    def _vectors(self, out: Float32[np.ndarray, "..."], count: int) -> Float32[np.ndarray, "b d"]:
        """Returns the features or scores of each of `count` images or clips."""
        axis, wanted = self.contract.places, "(batch, width)"
        if axis is not None:
            wanted = "(batch, places, width)" if axis == 1 else "(batch, width, places)"
        fits = out.ndim == 2 + (axis is not None) and len(out) == count and out.size > 0
        self._require(fits, wanted, out, count)
        return out if axis is None else out.max(axis=axis)

    def _require(self, fits: bool, wanted: str, out: np.ndarray, count: int) -> None:
        require(
            fits,
            f"extractor {self._folder / self.contract.model} must have an output of shape "
            f"{wanted}, got {out.shape} for {count}; change it in the network, or correct {FILE}",
        )

    def _check_model(self) -> int | None:
        """Checks the network against the contract; returns its batch where it is fixed."""
        contract, place = self.contract, self._folder / self.contract.model
        inputs = {x.name: x for x in self._session.get_inputs()}
        outputs = [x.name for x in self._session.get_outputs()]
        for name, found in ((contract.input, list(inputs)), (contract.output, outputs)):
            require(
                name in found,
                f"extractor {place} must have {name!r}, got {', '.join(found)}; correct {FILE}",
            )
        node = inputs[contract.input]
        require(
            node.type == "tensor(float)" and len(node.shape) == len(contract.layout),
            f"extractor {place} must read float32 in the layout {contract.layout}, got "
            f"{node.type} of {len(node.shape)} axes; export it so",
        )
        fixed = {
            axis: size
            for axis, size in zip(contract.layout, node.shape, strict=True)
            if isinstance(size, int)
        }
        stated = {"c": 3, "t": contract.frames}
        stated |= dict(zip("hw", contract.size, strict=False))
        for axis, size in stated.items():
            require(
                fixed.get(axis, size) == size,
                f"extractor {place} must have {size} at axis {axis} of {contract.layout}, got "
                f"{fixed.get(axis)}; correct {FILE}",
            )
        return fixed.get("b")


def _open_session(path: pathlib.Path, threads: int | None) -> Any:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise InputError(
            f"extractor {path} must be run by onnxruntime, which is not installed; "
            "pip install 'mimir-jax[onnx]'"
        ) from None
    require(path.is_file(), f"extractor {path} must be a file, found none; put it there")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(
            str(path), options, providers=runtime.get_available_providers()
        )
    except Exception as error:  # of damaged files and unknown operators
        raise InputError(f"extractor {path} must be a network: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _is_size(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(raw: Mapping[str, Any], name: str, default: str, among: tuple[str, ...] = ()) -> Any:
    value = raw.get(name, default)
    what = f"one of {', '.join(among)}" if among else "a text"
    fits = isinstance(value, str) and value and (not among or value in among)
    require(bool(fits), f"{name} must be {what}, got {json.dumps(value)[:40]}; correct it")
    return value


def _sizes(raw: Mapping[str, Any], name: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
    if name not in raw:
        return ()
    value = raw[name]
    require(
        isinstance(value, list) and len(value) in lengths and all(map(_is_size, value)),
        f"{name} must be a list of {' or '.join(map(str, lengths))} whole numbers above 0, got "
        f"{json.dumps(value)[:40]}; correct it",
    )
    return tuple(value)


def _numbers(raw: Mapping[str, Any], name: str, length: int) -> tuple[float, ...]:
    value = [raw[name]] if length == 1 else raw[name]
    fits = isinstance(value, list) and len(value) == length
    fits = fits and all(
        isinstance(x, int | float) and not isinstance(x, bool) and np.isfinite(x) for x in value
    )
    what = "a number" if length == 1 else f"a list of {length} numbers"
    require(fits, f"{name} must be {what}, got {json.dumps(raw[name])[:40]}; correct it")
    return tuple(map(float, value))
