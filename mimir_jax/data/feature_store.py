# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The feature store: encoded records of a source, themselves a source of records.

    FOLDER/manifest.json                        inputs of the features, and the layout
    FOLDER/DIGEST-00003-of-00010.array_record   shard 3: records 3 * shard_size onwards

A shard is complete or absent, and its name holds the digest of the manifest, so that processes that
share only the folder can write it together. The features of the empty caption, where a run needs
them, follow the last record.
"""

import dataclasses
import functools
import json
import math
import operator
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

import numpy as np
from array_record.python import array_record_data_source, array_record_module

from mimir_jax import files, hashing
from mimir_jax.errors import InputError

FORMAT = "mimir_jax prepared features 2"
MANIFEST = "manifest.json"
DTYPES = ("float16", "float32")
_SUFFIX = ".array_record"
_REMEDY = "launch/precompute.py with the config of this run and another --out makes others"

Record = dict[str, Any]
Content = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of features holds.

    Attributes:
        content: JSON values that the features are a function of; a mapping in it is a group.
        records: Number of records, those of the source from its first.
        empty: Whether the features of the empty caption follow them.
        shard_size: Records of every shard but the last.
        dtype: Of the stored states and latents, one of `DTYPES`.
    """

    content: Content
    records: int
    empty: bool
    shard_size: int
    dtype: str

    def __post_init__(self):
        for name in ("records", "shard_size"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}; pass a positive one")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        # As a reader of the file sees it: tuples are lists there.
        object.__setattr__(self, "content", json.loads(json.dumps(self.content)))

    @functools.cached_property
    def digest(self) -> str:
        """Hash of everything here."""
        return hashing.content_key(json.dumps(dataclasses.asdict(self), sort_keys=True)).hex()

    @property
    def rows(self) -> int:
        """Number of stored records, the empty caption included."""
        return self.records + self.empty

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return math.ceil(self.rows / self.shard_size)

    def shard(self, number: int) -> str:
        """Returns the file name of a shard."""
        return f"{self.digest[:16]}-{number:05d}-of-{self.num_shards:05d}{_SUFFIX}"

    def shard_rows(self, number: int) -> range:
        """Returns the rows of a shard."""
        first = number * self.shard_size
        return range(first, min(first + self.shard_size, self.rows))

    def present(self, folder: pathlib.Path) -> set[int]:
        """Returns the shards that `folder` has."""
        names = folder.glob(f"{self.digest[:16]}-*-of-{self.num_shards:05d}{_SUFFIX}")
        return {int(path.name.split("-")[1]) for path in names}

    def missing(self, folder: pathlib.Path) -> list[int]:
        """Returns the shards that `folder` lacks."""
        present = self.present(folder)
        return [n for n in range(self.num_shards) if n not in present]


class FeatureSource:
    """The records of a folder of features, in float32 and padded as they were.

    Attributes:
        empty: The features of the empty caption, None where the folder has none.
    """

    def __init__(self, folder: pathlib.Path, content: Content):
        """Opens a folder.

        Args:
            folder: What `launch/precompute.py` wrote.
            content: What the features of this run are a function of. A group that is None here is
                not read from the records, even if the folder has it.

        Raises:
            ValueError: if the folder is absent, unfinished, or of other content.
        """
        manifest = read_manifest(folder)
        check_content(folder, manifest.content, content)
        if missing := manifest.missing(folder):
            raise InputError(
                f"features {folder} must be complete, {len(missing)} of {manifest.num_shards} "
                "shards are missing; launch/precompute.py with the same --out makes them"
            )
        shards = [str(folder / manifest.shard(n)) for n in range(manifest.num_shards)]
        self._folder, self._manifest = folder, manifest
        try:
            self._rows = array_record_data_source.ArrayRecordDataSource(shards)
        except (RuntimeError, ValueError) as error:
            raise _damaged(folder, error) from error
        if len(self._rows) != manifest.rows:
            raise _damaged(folder, f"{len(self._rows)} records in place of {manifest.rows}")
        self.empty = self._read(manifest.records) if manifest.empty else None

    def __len__(self) -> int:
        return self._manifest.records

    def __repr__(self) -> str:
        return f"FeatureSource(digest={self._manifest.digest!r}, records={len(self)})"

    def __getitem__(self, index: SupportsIndex) -> Record:
        """Returns the record whose clip and caption were record `index` of the source."""
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        return self._read(number)

    def _read(self, row: int) -> Record:
        try:
            record = unpack(self._rows[row])
        except (RuntimeError, ValueError) as error:
            raise _damaged(self._folder, error) from error
        if "skipped" in record:
            record["skipped"] = [_pair(entry) for entry in record["skipped"]]
        return record


def _pair(entry: list[str] | str) -> tuple[str, ...]:
    """Returns name and reason of a clip passed over; folders were made that join them by ": "."""
    return tuple(entry.split(": ", 1) if isinstance(entry, str) else entry)


def claim(folder: pathlib.Path, manifest: Manifest) -> None:
    """Writes the manifest of a new folder, or checks that of an old one.

    Raises:
        InputError: if `folder` holds anything else.
    """
    require_claimable(folder, manifest)
    path = folder / MANIFEST
    if not path.exists():
        with files.writing(folder, "--out"):
            folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"format": FORMAT, **dataclasses.asdict(manifest)})
        require_claimable(folder, manifest)  # another process may have written another one


def require_claimable(folder: pathlib.Path, manifest: Manifest) -> None:
    """Raises `InputError` if `folder` holds anything else than features of `manifest`."""
    if not (folder / MANIFEST).exists():
        foreign = [p for p in folder.glob("[!.]*") if p.name != MANIFEST and p.suffix != _SUFFIX]
        if foreign or (folder.exists() and not folder.is_dir()):
            raise InputError(
                f"--out must be a new folder or one of prepared features, {folder} holds other "
                "files; choose another"
            )
        return
    stored = read_manifest(folder)
    check_content(folder, stored.content, manifest.content)
    for name in ("records", "empty", "shard_size", "dtype"):
        if getattr(stored, name) != getattr(manifest, name):
            raise _another(folder, name, getattr(stored, name), getattr(manifest, name))
    if stored != manifest:  # a group that this run does not need
        raise _another(folder, "content", stored.digest, manifest.digest)


def read_manifest(folder: pathlib.Path) -> Manifest:
    """Reads the manifest of a folder of features.

    Raises:
        ValueError: if there is none of this version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"features {folder} must hold a {MANIFEST}, found none; launch/precompute.py makes them"
        )
    try:
        values = json.loads(path.read_text())
        if values.pop("format", None) != FORMAT:
            raise InputError(f"it is not of format {FORMAT!r}")
        return Manifest(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} must be a manifest of prepared features: {error}; make them again"
        ) from None


def check_content(folder: pathlib.Path, stored: Content, content: Content) -> None:
    """Raises `ValueError`, naming the first field, unless features are valid for `content`."""
    stored, wanted = _flat(stored), _flat(content)
    unread = tuple(f"{name}." for name, value in content.items() if value is None)
    for name in (*wanted, *stored):
        if name in content and content[name] is None or name.startswith(unread):
            continue
        if stored.get(name) != wanted.get(name):
            raise _another(folder, name, stored.get(name), wanted.get(name))


def write_shard(
    folder: pathlib.Path, manifest: Manifest, number: int, records: Iterable[Record]
) -> None:
    """Writes the records of a shard, which is complete or absent.

    Raises:
        ValueError: if a value does not fit the dtype of the manifest.
    """

    with files.atomic_file(folder / manifest.shard(number)) as temporary:
        writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1")
        try:
            for record in records:
                writer.write(pack(record, manifest.dtype))
        finally:
            writer.close()


def pack(record: Record, dtype: str) -> bytes:
    """Serialises a record: one line of JSON, then its arrays one after the other.

    Floats are stored as `dtype`. Where `NAME_mask` marks positions of NAME and the others are zero,
    as for an LLM, these are left out. T5 states stay whole: the base attends to its pads.

    Raises:
        ValueError: if a number is too large for `dtype`.
    """
    values, arrays, parts = {}, [], []
    for name, value in record.items():
        if not isinstance(value, np.ndarray):
            values[name] = value
            continue
        mask = record.get(f"{name}_mask")
        cut = mask is not None and not value[~mask].any()
        stored = value[mask] if cut else value
        if stored.dtype.kind == "f":
            stored = _narrow(name, stored, dtype)
        arrays.append([name, stored.dtype.str, stored.shape, cut])
        parts.append(np.ascontiguousarray(stored).tobytes())
    header = json.dumps({"values": values, "arrays": arrays})
    return b"".join([header.encode(), b"\n", *parts])


def unpack(data: bytes) -> Record:
    """Inverts `pack`, up to the rounding to its dtype; floats are float32."""
    start = data.index(b"\n") + 1
    header = json.loads(data[:start])
    record, cuts = dict(header["values"]), []
    for name, kind, shape, cut in header["arrays"]:
        dtype, size = np.dtype(kind), math.prod(shape)
        array = np.frombuffer(data, dtype, size, start).reshape(shape)
        start += size * dtype.itemsize
        record[name] = array.astype(np.float32 if dtype.kind == "f" else dtype)
        cuts += [name] if cut else []
    for name in cuts:
        mask = record[f"{name}_mask"]
        whole = np.zeros((*mask.shape, record[name].shape[-1]), record[name].dtype)
        whole[mask] = record[name]
        record[name] = whole
    return record


def _narrow(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    if not np.isfinite(narrow).all():
        raise InputError(
            f"{name} must be finite in {dtype}, its largest value is {np.abs(values).max():.3g}; "
            "store it with --dtype float32"
        )
    return narrow


def _flat(content: Content, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in json.loads(json.dumps(content)).items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def _another(folder: pathlib.Path, name: str, there: Any, here: Any) -> ValueError:
    return InputError(
        f"features {folder} must be those of this run, {name} is {there!r} there and {here!r} "
        f"here; {_REMEDY}"
    )


def _damaged(folder: pathlib.Path, reason: object) -> ValueError:
    line = " ".join(str(reason).split())[:160]
    return InputError(
        f"features {folder} must be whole, reading them failed with {line}; delete the shard and "
        "run launch/precompute.py again"
    )
