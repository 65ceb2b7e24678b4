# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tensors of published checkpoints, read one at a time: safetensors, torch files, and writing.

Nothing in a file is executed: pickles go through torch's weights-only reader, and only where torch
is installed.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from mimir_jax.errors import InputError, listed, reason
from mimir_jax.weights import copying

PICKLES = (".bin", ".ckpt", ".pth", ".pt")
"""Endings of files of torch."""

FOLDER_ENDINGS = ("safetensors", "bin", "ckpt", "pth")
"""Endings of what a folder of weights holds, the ones that are read first in front."""

SHARD_BYTES = 10_000_000_000
"""Size above which a written checkpoint is split into files."""

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
_STEMS = ("model", "pytorch_model", "diffusion_pytorch_model")  # of transformers and diffusers
_WRAPS = ("module", "state_dict", "model_state_dict", "model")  # keys that hold all tensors
_MAX_WRAPS = 4
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that has not been read yet.

    Attributes:
        shape: Its shape.
        dtype: Its stored dtype.
        read: Returns the values; every call reads them again.
        scratch: Bytes that exist beside the values while they are read; None stands for as many as
            the values have.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    scratch: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def peak(self) -> int:
        """Bytes that exist while the values are read, those of the values included."""
        return self.nbytes + (self.nbytes if self.scratch is None else self.scratch)


Tensors = dict[str, Tensor]


def of_array(array: np.ndarray) -> Tensor:
    """Wraps values that are in memory already."""
    return Tensor(array.shape, array.dtype, lambda: array)


def is_floating(dtype: np.dtype) -> bool:
    """Whether a dtype is one of floating-point numbers, bfloat16 included."""
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def finite(name: str, tensor: Tensor, source: str) -> Tensor:
    """Returns a tensor whose values are checked when they are read.

    Args:
        name: Its name, for the error.
        tensor: The tensor.
        source: Where it is, likewise.
    """

    def read() -> np.ndarray:
        value = tensor.read()
        if is_floating(value.dtype) and not _all_finite(value):
            count = int(np.sum(~np.isfinite(value.astype(np.float32))))
            raise InputError(
                f"weights {source} must be finite, {count} of {value.size} values of {name} are "
                "not; take a copy or a checkpoint from before"
            )
        return value

    return dataclasses.replace(tensor, read=read)


def cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns values in another dtype.

    Raises:
        InputError: if one is too large for it.
    """
    if value.dtype == dtype:
        return value
    with np.errstate(over="ignore"):
        out = value.astype(dtype)
    if is_floating(dtype) and dtype.itemsize < value.dtype.itemsize or dtype == np.float16:
        if not _all_finite(out) and _all_finite(value):
            largest = float(np.abs(value.astype(np.float64)).max())
            raise InputError(
                f"{name} must fit {dtype}, its largest value is {largest:.4g}; use bfloat16 or "
                "float32"
            )
    return out


def _all_finite(value: np.ndarray) -> bool:
    """Whether every value is finite; a sum of squares would overflow, so exponents are read."""
    bits = {2: np.uint16, 4: np.uint32}.get(value.dtype.itemsize)
    if bits is None or not value.size:
        return bool(np.isfinite(value).all())
    masks = {"bfloat16": 0x7F80, "float16": 0x7C00, "float32": 0x7F800000}
    mask = bits(masks[str(value.dtype)])
    flat = np.ascontiguousarray(value).reshape(-1).view(bits)
    step = 1 << 22
    parts = (flat[i : i + step] for i in range(0, flat.size, step))
    return not any(((part & mask) == mask).any() for part in parts)


def open_folder(folder: pathlib.Path) -> tuple[Tensors, list[pathlib.Path]]:
    """Lists the tensors of a checkpoint folder without reading them.

    Returns:
        Tensors by name, and the files they lie in.

    Raises:
        ValueError: if there is no checkpoint, a shard is absent or a file is damaged.
    """
    for ending in FOLDER_ENDINGS:
        for pattern, reader in (
            (f"*.{ending}.index.json", open_sharded),
            (f"*.{ending}", open_single),
            (f"*.{ending}.index.*.json", open_sharded),  # shards of a variant, fp16 say
        ):
            found = sorted(p for p in folder.glob(pattern) if not p.name.startswith("."))
            if reader is open_single:
                if shards := [p for p in found if _SHARD.search(p.name)]:
                    return _open_shards(folder, shards)
                found = [p for p in found if "." not in p.stem] or found  # before a variant
                if len(found) > 1:  # before those of trainers, training_args.bin say
                    found = [p for p in found if p.stem in _STEMS] or found
            if len(found) > 1:
                raise InputError(
                    f"weights folder {folder} must hold one checkpoint, found "
                    f"{listed([p.name for p in found])}; keep one of them"
                )
            if found:
                return reader(found[0])
    raise InputError(
        f"weights folder {folder} must hold *.{', *.'.join(FOLDER_ENDINGS)}, found none; download "
        "it whole"
    )


def is_folder(folder: pathlib.Path) -> bool:
    """Whether a folder holds a checkpoint, to be read by `open_folder`."""
    return any(any(folder.glob(f"*.{ending}")) for ending in FOLDER_ENDINGS)


def open_single(path: pathlib.Path) -> tuple[Tensors, list[pathlib.Path]]:
    """Lists the tensors of one file."""
    reader = _open_torch if path.suffix in PICKLES else _open_safetensors
    return reader(path), [path]


def open_sharded(index: pathlib.Path) -> tuple[Tensors, list[pathlib.Path]]:
    """Lists the tensors that an index file names, checking that each lies where it says."""
    try:
        where: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        if not all(isinstance(name, str) for name in where.values()):
            raise TypeError("its values are no file names")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"index {index} must be JSON with a weight_map: {error!r:.160}") from None
    home = index.parent
    where = {name: os.path.relpath(home / file, home) for name, file in where.items()}
    names = sorted(set(where.values()))
    files = [home / name for name in names]
    outside = [name for name in names if pathlib.PurePath(name).name != name]
    if outside:
        raise InputError(f"index {index} must name files beside it, got {outside[0]!r}")
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        raise InputError(
            f"index {index} names {len(files)} files of which {len(absent)} are absent: "
            f"{listed(absent)}; download them"
        )
    tensors, homes = _join(files)
    wrong = [name for name, home in where.items() if homes.get(name) != home]
    if wrong:
        raise InputError(
            f"index {index} names {len(wrong)} tensors that are not in the file it gives, such as "
            f"{wrong[0]} in {where[wrong[0]]}; download the folder again"
        )
    return tensors, files


def _open_shards(
    folder: pathlib.Path, shards: list[pathlib.Path]
) -> tuple[Tensors, list[pathlib.Path]]:
    """Lists the tensors of numbered shards whose index is not there."""
    numbers = [_SHARD.search(path.name) for path in shards]
    counts = {int(m[2]) for m in numbers}
    if len(counts) > 1 or sorted(int(m[1]) for m in numbers) != list(range(1, len(shards) + 1)):
        raise InputError(
            f"weights folder {folder} must hold every shard of one checkpoint, found "
            f"{listed([path.name for path in shards])}; download them all"
        )
    if counts != {len(shards)}:
        raise InputError(
            f"weights folder {folder} must hold {counts.pop()} shards, found {len(shards)}: "
            f"{listed([path.name for path in shards])}; download the others"
        )
    return _join(shards)[0], shards


def _join(files: list[pathlib.Path]) -> tuple[Tensors, dict[str, str]]:
    """Lists the tensors of several files, and the name of the file of each."""
    tensors: Tensors = {}
    homes: dict[str, str] = {}
    for path in files:
        for name, tensor in open_single(path)[0].items():
            if name in tensors:
                raise InputError(f"tensor {name} must lie in one shard, is in {homes[name]} too")
            tensors[name], homes[name] = tensor, path.name
    return tensors, homes


def _open_safetensors(path: pathlib.Path) -> Tensors:
    def read(start: int, end: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        try:
            values = np.fromfile(path, np.uint8, end - start, offset=start)
        except OSError as error:
            raise InputError(f"file {path} must be readable: {reason(error)}") from None
        if len(values) != end - start:
            raise InputError(
                f"file {path} must keep its {end} bytes while it is read; download it again"
            )
        return values.view(dtype).reshape(shape)

    tensors: Tensors = {}
    with _safetensors(path) as file:  # checks the header
        ranges = _byte_ranges(path)
        for name in file.keys():  # noqa: SIM118
            view = file.get_slice(name)
            code = view.get_dtype()
            if code not in _DTYPES:
                raise InputError(
                    f"tensor {name} of {path} must be of 16 bits or more to be read, got {code}; "
                    "take a copy in bfloat16"
                )
            shape, dtype = tuple(view.get_shape()), _DTYPES[code]
            values = functools.partial(read, *ranges[name], dtype, shape)
            tensors[name] = Tensor(shape, dtype, values, scratch=0)
    return tensors


def _byte_ranges(path: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Returns where each tensor of a safetensors file starts and ends."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    offsets = {n: x["data_offsets"] for n, x in header.items() if n != "__metadata__"}
    return {name: (8 + length + start, 8 + length + end) for name, (start, end) in offsets.items()}


def metadata(path: pathlib.Path) -> dict[str, str]:
    """Returns what the header of a safetensors file says beside its tensors; {} for others."""
    if path.suffix != ".safetensors":
        return {}
    with _safetensors(path) as file:
        return dict(file.metadata() or {})


def _safetensors(path: pathlib.Path) -> safe_open:
    try:
        return safe_open(path, "np")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"file {path} must be whole and in safetensors format: {error}; download it again"
        ) from None


def _open_torch(path: pathlib.Path) -> Tensors:
    state = _unwrap(_load_torch(path))
    if not isinstance(state, dict):
        raise InputError(f"file {path} must hold a dict of tensors, got {type(state).__name__}")
    return {
        name: _of_torch(path, name, value)
        for name, value in state.items()
        if isinstance(name, str) and _is_torch(value)
    }


def _load_torch(path: pathlib.Path) -> Any:
    """Returns what a pickle of torch holds, mapped where that is possible; runs none of its code.

    Raises:
        InputError: without torch, or for a file that is damaged or holds objects.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError(
            f"file {path} is a pickle, which takes torch to read safely; install torch, or use a "
            "safetensors copy"
        ) from None
    try:
        mapped = _check_archive(path)
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # the reader raises whatever a damaged or hostile file provokes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"file {path} must be a torch checkpoint of plain tensors: "
            f"{reason.partition('. ')[0][:160]}; download it again, or save its tensors alone"
        ) from None


def _unwrap(state: Any) -> Any:
    """Returns the tensors inside what training wraps them in: SAT, DeepSpeed, Lightning."""
    for _ in range(_MAX_WRAPS):
        inner = [state[n] for n in _WRAPS if isinstance(state, dict) and n in state]
        inner = [value for value in inner if isinstance(value, dict)]
        if not inner:
            break
        state = inner[0]
    return state


def _is_torch(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _of_torch(path: pathlib.Path, name: str, value: Any) -> Tensor:
    """Returns a tensor of torch as ours.

    Raises:
        InputError: for one that is not plain, or larger than its file.
    """
    import torch

    value = value.detach()  # of a parameter
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise InputError(
            f"file {path} must hold plain tensors, {name} is sparse, quantised or without "
            "values; save it from float tensors"
        )
    if value.numel() * value.element_size() > path.stat().st_size:
        raise InputError(
            f"file {path} must hold the values of its tensors, {name} of shape "
            f"{tuple(value.shape)} has more bytes than the file"
        )
    return Tensor(tuple(value.shape), _torch_dtype(value), lambda: _torch_values(value))


def _check_archive(path: pathlib.Path) -> bool:
    """Returns whether a file is a zip archive, which can be mapped; before 1.6 torch wrote none.

    Raises:
        InputError: unless its members are stored as they are, as torch writes them: a compressed
            one could grow a thousandfold.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise InputError("its archive is compressed")
    if sum(m.file_size for m in members) > path.stat().st_size:
        raise InputError("its archive announces more bytes than it has")
    return True


def _harmless_globals() -> list[Any]:
    """Returns what training checkpoints hold beside tensors: arrays of NumPy and arguments."""
    reconstruct = np.zeros(0).__reduce__()[0]
    names = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [np.ndarray, np.dtype, argparse.Namespace, *dtypes, *((reconstruct, n) for n in names)]


def _torch_dtype(value) -> np.dtype:
    name = str(value.dtype).removeprefix("torch.")
    try:
        return np.dtype(name)  # bfloat16 is known since ml_dtypes was imported
    except TypeError:
        raise InputError(f"tensors of dtype {name} are not read; convert them first") from None


def _torch_values(value) -> np.ndarray:
    import torch

    if value.dtype == torch.bfloat16:
        return value.contiguous().view(torch.int16).numpy().copy().view(ml_dtypes.bfloat16)
    return value.contiguous().resolve_neg().numpy().copy()


def write_torch(path: pathlib.Path, named: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as a file that `torch.load` reads.

    Raises:
        InputError: where torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError(
            f"file {path.name} takes torch to write, it is not installed; install torch, or write "
            "a native folder"
        ) from None
    state = {}
    for name, array in named.items():
        array = np.array(array, order="C")
        if array.dtype == ml_dtypes.bfloat16:
            state[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            state[name] = torch.from_numpy(array)
    torch.save(state, path)


def write_safetensors(
    folder: pathlib.Path,
    stem: str,
    expected: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    arrays: Iterable[tuple[str, np.ndarray]],
) -> None:
    """Writes `STEM.safetensors`, or its shards and index above `SHARD_BYTES`.

    The layout of every file follows from `expected`, so arrays may come in any order and are gone
    from memory once written.

    Args:
        folder: Where the files go; must exist.
        stem: File name without suffix.
        expected: Shape and dtype by name.
        arrays: Each name of `expected` once, with its values.

    Raises:
        ValueError: unless `arrays` holds what `expected` says.
    """
    shards = _split(expected)
    names = {index: f"{stem}.safetensors" for index in range(len(shards))}
    if len(shards) > 1:
        count = len(shards)
        names = {i: f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)}
    where: dict[str, tuple[int, int]] = {}
    files = []
    try:
        for index, shard in enumerate(shards):
            file = (folder / names[index]).open("wb")
            files.append(file)
            header, offsets = _header({name: expected[name] for name in shard})
            file.write(header)
            where |= {name: (index, offset) for name, offset in offsets.items()}
        left = set(expected)
        for name, array in arrays:
            shape, dtype = expected[name]
            if array.shape != shape or array.dtype != dtype or name not in left:
                raise InputError(
                    f"tensor {name} must come once, {shape} of {dtype}, got {array.shape} of "
                    f"{array.dtype}"
                )
            left.remove(name)
            index, offset = where[name]
            files[index].seek(offset)
            files[index].write(copying.contiguous(array).reshape(-1).view(np.uint8).data)
        if left:
            raise InputError(f"{len(left)} tensors were never written, such as {min(left)}")
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files:
            file.close()
    if len(shards) > 1:
        total = sum(math.prod(shape) * dtype.itemsize for shape, dtype in expected.values())
        weight_map = {name: names[index] for name, (index, _) in sorted(where.items())}
        content = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(content, indent=2) + "\n")


def _split(expected: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, (shape, dtype) in expected.items():
        nbytes = math.prod(shape) * dtype.itemsize
        if shards[-1] and size + nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    return shards


def _header(
    expected: Mapping[str, tuple[tuple[int, ...], np.dtype]],
) -> tuple[bytes, dict[str, int]]:
    """Returns the head of a safetensors file and where each tensor starts behind it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts: dict[str, int] = {}
    end = 0
    # Widest first, so that every tensor is aligned to its item size, as the format asks.
    for name in sorted(expected, key=lambda name: -expected[name][1].itemsize):
        shape, dtype = expected[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        starts[name] = start
        entries[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    body = json.dumps(entries, separators=(",", ":")).encode()
    body += b" " * (-len(body) % 8)
    head = len(body).to_bytes(8, "little") + body
    return head, {name: len(head) + start for name, start in starts.items()}
