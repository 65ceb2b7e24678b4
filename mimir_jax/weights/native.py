# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Native folders: an Orbax checkpoint in `params/` beside `config.json` and `manifest.json`.

`config.json` says what the network is; `manifest.json` where its values come from, with a checksum
of each parameter, of each smaller file and of itself. A folder is complete or absent: see
`files.atomic_directory`.
"""

import contextlib
import functools
import gc
import json
import logging
import math
import os
import pathlib
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

import mimir_jax
from mimir_jax import checksums
from mimir_jax import files as files_lib
from mimir_jax.config import KINDS, bridge
from mimir_jax.errors import InputError, reason, require
from mimir_jax.models import params as params_lib
from mimir_jax.models import quantization
from mimir_jax.models.functional import Params
from mimir_jax.weights import copying
from mimir_jax.weights.tensors import Tensor, Tensors

FORMAT = "mimir_jax"
PARAMS = "params"
MANIFEST = "manifest.json"
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")  # as TensorStore reports one
_GROUP_BYTES = 256 << 20  # small parameters are written together
_FILE_BYTES = 1 << 20  # larger files hold parameters, which have checksums of their own


class Stored(NamedTuple):
    """Parameters in an Orbax checkpoint.

    Attributes:
        tensors: Each by its path, to be read alone.
        read_all: Reads all of them at once, which is faster for small networks.
    """

    tensors: Tensors
    read_all: Callable[[], dict[str, np.ndarray]]


def write(
    folder: pathlib.Path,
    kind: str,
    config: Any,
    params: Mapping[str, Tensor],
    *,
    dtype: np.dtype | None = None,
    manifest: Callable[[], Mapping[str, Any]] = dict,
    ahead: bool = False,
) -> None:
    """Writes config, parameters and last the manifest, a few parameters at a time.

    Args:
        folder: Receives the files; the manifest covers all that are there already.
        kind: Key of `config.KINDS`.
        config: The network's dataclass.
        params: Parameters by `/`-joined path, read one group at a time.
        dtype: Stored dtype; None keeps each parameter's own.
        manifest: Returns what is known of their origin; called when the parameters are written.
        ahead: Read parameters while those before them are written, where both fit in memory. They
            must not come from Orbax, whose calls do not overlap.
    """
    context = ocp.Context()
    # Whole parameters, as they are: the values of trained weights hardly compress, and cutting them
    # up costs a copy of each in memory.
    context.array.saving.use_compression = False
    context.memory.deepcopy_host_arrays = False  # saves end before their arrays are dropped
    folder = folder.absolute()
    target = folder / PARAMS
    sums: dict[str, str] = {}
    with context:
        for group, found in copying.ahead(*_jobs(params, dtype, ahead)):
            sums |= found
            with writing():
                ocp.partial.save(target, params_lib.unflatten(group))
            del group
        with writing():
            ocp.partial.finalize(target)
            if (committed := target / "commit_success.txt").exists():
                committed.write_text("committed\n")  # Orbax names the folder it was written in
    header = {"format": FORMAT, "kind": kind, "config": json.loads(bridge.to_json(config))}
    (folder / "config.json").write_text(json.dumps(header, indent=2) + "\n")
    dtypes = {
        name: str(tensor.dtype if dtype is None else dtype) for name, tensor in params.items()
    }
    content = {
        "mimir_jax": mimir_jax.__version__,
        "num_params": sum(math.prod(tensor.shape) for tensor in params.values()),
        "dtypes": dtypes,
        **manifest(),
    }
    write_manifest(folder, content, sums)


def write_manifest(
    folder: pathlib.Path, content: Mapping[str, Any], sums: Mapping[str, str]
) -> None:
    """Writes the manifest of a folder that is otherwise complete.

    Args:
        folder: The folder.
        content: What is known of the parameters and their origin.
        sums: Checksum of each parameter.
    """
    found = [f for f in sorted(folder.rglob("*")) if f.is_file() and f != folder / MANIFEST]
    listed = {str(f.relative_to(folder)): f.stat().st_size for f in found}
    small = [name for name, size in listed.items() if size <= _FILE_BYTES]
    whole = {
        **content,
        "files": listed,
        "file_checksums": {name: checksums.of_file(folder / name) for name in small},
        "checksums": dict(sums),
    }
    whole["checksum"] = checksums.of_json(whole)
    files_lib.write_text(folder / MANIFEST, json.dumps(whole, indent=2) + "\n")


def save(
    folder: pathlib.Path,
    kind: str,
    config: Any,
    params: Params,
    *,
    dtype: str | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a native folder from parameters in memory.

    Args:
        folder: Destination; must not exist.
        kind: Key of `config.KINDS`.
        config: The network's dataclass.
        params: Nested dict of arrays.
        dtype: Stored dtype; None keeps each parameter's own.
        files: Other files to put beside them, a tokenizer say.

    Raises:
        ValueError: if `folder` exists or cannot be written, or for quantised parameters.
    """
    require(
        not quantization.is_quantized(params),
        "weights to save must be floating-point, got quantised kernels; save those of the network "
        "before it was quantised",
    )
    flat = {
        name: Tensor(np.shape(x), np.dtype(x.dtype), lambda x=x: np.asarray(x))
        for name, x in params_lib.flatten(params).items()
    }
    with files_lib.atomic_directory(folder) as temporary:
        for name, content in (files or {}).items():
            (temporary / name).write_bytes(content)
        write(temporary, kind, config, flat, dtype=None if dtype is None else np.dtype(dtype))


def read_header(folder: pathlib.Path, header: Mapping[str, Any]) -> tuple[str, Any]:
    """Returns kind and config of a native folder.

    Raises:
        ValueError: if its config is of another version or kind.
    """
    kind = header.get("kind")
    if kind not in KINDS:
        raise InputError(
            f"weights folder {folder} must hold one of {', '.join(KINDS)}, its config.json names "
            f"{kind!r}"
        )
    return kind, bridge.from_values(KINDS[kind], header["config"])


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest, having compared the files it lists with those that are there.

    Raises:
        InputError: if it is absent or damaged, or a file is absent, damaged or of another size.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        sizes, sums = dict(manifest["files"]), dict(manifest["file_checksums"])
        claimed = manifest.pop("checksum")
        if claimed != checksums.of_json(manifest):
            raise InputError("its text is not what was written")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"weights folder {folder} must hold a whole {MANIFEST}: {reason(error)}; copy or "
            "convert it again"
        ) from None
    for name, size in sizes.items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            raise InputError(
                f"weights folder {folder} must be whole: {name} must have {size} bytes, "
                f"got {found}; copy or convert it again"
            )
        if name in sums and checksums.of_file(file) != sums[name]:
            raise InputError(
                f"weights folder {folder} must be whole: {name} has other content than was "
                "written; copy or convert it again"
            )
    return manifest


def open_params(folder: pathlib.Path) -> Stored:
    """Opens the parameters of a native folder, whose files must be whole.

    Raises:
        InputError: as `read_manifest`; and when a parameter is read that is not as it was written.
    """
    manifest = read_manifest(folder)
    return open_checkpoint(
        folder / PARAMS, sums=manifest["checksums"], remedy="copy or convert it again"
    )


def open_checkpoint(
    path: pathlib.Path,
    *,
    item: str = "AUTO",
    parts: tuple[str, ...] = (),
    sums: Mapping[str, str],
    remedy: str = "write it again",
) -> Stored:
    """Opens a tree of arrays in an Orbax checkpoint.

    Args:
        path: The checkpoint.
        item: Which of several items it has.
        sums: Checksum of each array; it is compared when the array is read.
        parts: Opens what is below these top-level keys, the first that holds a name counts; empty
            opens everything.
        remedy: What to do about a damaged one.

    Raises:
        ValueError: if it is absent or damaged.
    """
    path = path.absolute()
    with readable(path, remedy):
        whole = ocp.metadata(path, checkpointable_name=item).metadata
        if not isinstance(whole, dict):  # what the reader gives for arrays it cannot open
            raise InputError("its arrays cannot be opened")
    leaves = _by_path(whole)
    places = {path: path for path in leaves}
    if parts:
        places = {}
        for part in reversed(parts):
            found = [path for path in leaves if path.startswith(f"{part}/")]
            places |= {path.removeprefix(f"{part}/"): path for path in found}

    def load(wanted: Iterable[str]) -> dict[str, np.ndarray]:
        paths = {name: places[name] for name in wanted}
        asked_for = set(paths.values())

        def ask(where: Any, leaf: Any) -> Any:
            asked = _name(where) in asked_for
            return np.empty(leaf.shape, leaf.dtype) if asked else ocp.PLACEHOLDER

        asked = jax.tree_util.tree_map_with_path(ask, whole)
        with readable(path, remedy):
            found = _by_path(ocp.load(path, asked, checkpointable_name=item))
            for where in asked_for:
                checksums.check(sums, where, found[where])
        return {name: found[where] for name, where in paths.items()}

    tensors = {
        name: Tensor(
            tuple(leaves[where].shape),
            np.dtype(leaves[where].dtype),
            lambda name=name: load([name])[name],
        )
        for name, where in places.items()
    }
    return Stored(tensors, lambda: load(list(places)))


def _by_path(whole: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(whole)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turns a refusal of the system, which Orbax raises as several types, into an `OSError`."""
    try:
        with QUIET:
            yield
    except OSError:
        raise
    except Exception as error:
        if match := _OS_ERROR.search(str(error)):
            code = int(match[1])
            raise OSError(code, os.strerror(code)) from error
        raise


def silence_orbax() -> None:
    """Keeps Orbax from logging what its threads raise, which `writing` and `readable` tell."""
    logger = logging.getLogger("absl")
    if _is_ours not in logger.filters:
        logger.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname.replace(os.sep, "/")


class _Quiet:
    """Silences what Orbax and its loops tell about an error that is raised all the same.

    One failed array ends the whole; the reads and writes still under way then find their event loop
    closed, and say so on threads of their own, after this has ended. So the hooks stay after a
    failure, and the loops silent. Several threads may be inside: the last one to leave restores
    what the first one found.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._failed = threading.Lock(), 0, False
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._failed = False
                self._restore = contextlib.ExitStack()
                self._hush()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        del kind, trace
        failed = isinstance(error, Exception)
        if failed:
            gc.collect()  # tasks that nobody awaits complain when they are collected
        with self._lock:
            self._inside -= 1
            self._failed |= failed
            if not self._inside and not self._failed:
                self._restore.close()

    def _hush(self) -> None:
        silence_orbax()
        for name, exception in (
            ("excepthook", lambda args: args[1]),
            ("unraisablehook", lambda args: args[0].exc_value),
        ):
            previous = getattr(sys, name)
            setattr(sys, name, _without_late(previous, exception))
            self._restore.callback(setattr, sys, name, previous)
        loops = logging.getLogger("asyncio")
        self._restore.callback(loops.setLevel, loops.level)
        loops.setLevel(logging.CRITICAL)


QUIET = _Quiet()
"""Entered by whatever reads or writes with Orbax, and while a save goes on in the background."""


def _without_late(previous: Callable, exception: Callable) -> Callable:
    """Wraps an exception hook, dropping what late callbacks raise."""

    def hook(*args: Any) -> None:
        error = exception(args)
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            previous(*args)

    return hook


@contextlib.contextmanager
def readable(path: pathlib.Path, remedy: str = "write it again") -> Iterator[None]:
    """Turns whatever a reader of checkpoints raises inside into one line about `path`.

    Args:
        path: The checkpoint.
        remedy: What to do about a damaged one.
    """
    try:
        with QUIET:
            yield
    except InputError as error:
        raise InputError(f"checkpoint {path} is damaged: {error}; {remedy}") from error
    except Exception as error:  # a damaged file surfaces as any of a dozen types
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise InputError(
            f"checkpoint {path} must be whole and of this model, reading it failed with {reason}; "
            f"{remedy}"
        ) from error


def _reason(error: Exception) -> str:
    """Returns the beginning of what an error says, on one line."""
    text = " ".join(str(error).split())
    return text.partition(" See full TensorStore details")[0][:160]  # the details are a repr


def _groups(params: Mapping[str, Tensor]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name, tensor in params.items():
        if group and size + tensor.nbytes > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += tensor.nbytes
    yield group


def _jobs(
    params: Mapping[str, Tensor], dtype: np.dtype | None, ahead: bool
) -> tuple[list[copying.Job], int]:
    """Returns the jobs that read groups of parameters and their checksums, and a memory budget."""

    def read(names: list[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        group = {name: _cast(params[name].read(), dtype) for name in names}
        return group, {name: checksums.of_array(value) for name, value in group.items()}

    jobs = []
    for names in _groups(params):
        size = sum(params[name].nbytes for name in names)
        scratch = max((params[name].peak - params[name].nbytes for name in names), default=0)
        jobs.append(copying.Job(size, size + scratch, functools.partial(read, names)))
    budget = 2 * max((job.size for job in jobs), default=0) + copying.SLACK
    return jobs, budget if ahead else 0


def _cast(value: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    return value if dtype is None else value.astype(dtype, copy=False)
