# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Native parameter folders: `config.json` beside `params.safetensors`."""

import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mimir_jax.config import KINDS, bridge
from mimir_jax.models.functional import Params

FORMAT = "mimir_jax"
ASSETS = pathlib.Path(__file__).parent / "assets"


def resolve(path: str) -> pathlib.Path:
    """Turns `package:NAME` into the folder that ships with the package.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = ASSETS / path.removeprefix("package:") if path.startswith("package:") else None
    folder = pathlib.Path(path).expanduser() if folder is None else folder
    if not folder.is_dir():
        raise ValueError(f"weights folder {path} must exist, found none at {folder}")
    return folder


def save(
    folder: pathlib.Path,
    kind: str,
    config: Any,
    params: Params,
    *,
    dtype: str,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a native folder, complete or not at all.

    Args:
        folder: Destination; must not exist.
        kind: Key of `config.KINDS`.
        config: The model's dataclass.
        params: Nested dict of arrays.
        dtype: Stored dtype, `float32` or `float16`.
        files: Other files to put beside them, a tokenizer say.

    Raises:
        ValueError: if `folder` exists.
    """
    if folder.exists():
        raise ValueError(f"destination {folder} must not exist; delete it or choose another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        flat = {name: np.asarray(x, dtype) for name, x in flatten(params).items()}
        save_file(flat, aside / "params.safetensors")
        header = {"format": FORMAT, "kind": kind, "config": json.loads(bridge.to_json(config))}
        (aside / "config.json").write_text(json.dumps(header, indent=2) + "\n")
        for name, content in (files or {}).items():
            (aside / name).write_bytes(content)
        (aside / "params.safetensors").chmod(0o644)
        aside.chmod(0o755)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def load(path: str, *, kind: str | None = None) -> tuple[Any, Params]:
    """Reads a native folder.

    Args:
        path: Folder, or `package:NAME`.
        kind: Refuse folders of another kind.

    Returns:
        The config dataclass and float32 parameters as a nested dict of numpy arrays.

    Raises:
        ValueError: if the folder is missing, not native, of another kind, or unreadable.
    """
    folder = resolve(path)
    try:
        header = json.loads((folder / "config.json").read_text())
        if header.get("format") != FORMAT or header.get("kind") not in KINDS:
            raise ValueError(f"its config.json names format {header.get('format')!r}")
        flat = load_file(folder / "params.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"weights folder {path} must hold config.json and params.safetensors written by "
            f"mimir_jax: {error}"
        ) from None
    if kind is not None and header["kind"] != kind:
        raise ValueError(f"weights folder {path} must hold a {kind}, got a {header['kind']}")
    config = bridge.from_config_dict(KINDS[header["kind"]], header["config"])
    return config, unflatten({name: x.astype(np.float32) for name, x in flat.items()})


def flatten(params: Params, prefix: str = "") -> dict[str, Any]:
    """Flattens a nested dict to `/`-joined names."""
    out = {}
    for name, value in params.items():
        if isinstance(value, dict):
            out.update(flatten(value, f"{prefix}{name}/"))
        else:
            out[f"{prefix}{name}"] = value
    return out


def unflatten(flat: dict[str, Any]) -> Params:
    """Inverse of `flatten`."""
    tree: Params = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def overlay(params: Params, loaded: Params, *, source: str) -> tuple[Params, list[str]]:
    """Puts `loaded` over freshly drawn `params`.

    Returns:
        The merged tree and the names that `loaded` lacks.

    Raises:
        ValueError: if `loaded` has a name or shape that `params` has not.
    """
    target, given = flatten(params), flatten(loaded)
    wrong = [
        f"{name} {tuple(np.shape(x))}"
        for name, x in given.items()
        if name not in target or tuple(target[name].shape) != tuple(np.shape(x))
    ]
    if wrong:
        raise ValueError(
            f"weights {source} must fit the model: {len(wrong)} parameters do not, "
            f"such as {', '.join(wrong[:3])}; use the config they were trained with"
        )
    return unflatten({**target, **given}), [name for name in target if name not in given]
