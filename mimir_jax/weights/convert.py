# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts weights between published forms and ours, one parameter in memory at a time."""

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from absl import logging
from jax.typing import DTypeLike

from mimir_jax import files, hashing
from mimir_jax.config import DiTConfig, MimirConfig
from mimir_jax.errors import InputError
from mimir_jax.models import lora as lora_lib
from mimir_jax.weights import (
    adapter_files,
    adapters,
    dit,
    divot,
    divot_detokenizer,
    divot_tokenizer,
    exported,
    family,
    gguf,
    llm,
    native,
    opening,
    rules,
    runs,
    tensors,
)

Form = Literal["native", "run", "transformers", "diffusers", "divot"]

# What travels with encoders besides their weights, and with anything that has a licence.
_COMPANIONS = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "spiece.model", "vocab.*",
    "merges.txt", "chat_template*", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "LICENSE*", "NOTICE*",
)  # fmt: skip


class Report(NamedTuple):
    """What a conversion wrote.

    Attributes:
        kind: Kind of network.
        num_params: Its parameters.
        licence: What is known of the licence of its weights, None for our own.
    """

    kind: str
    num_params: int
    licence: str | None


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: Form = "native",
    dtype: DTypeLike | None = None,
    lora: Sequence[str | os.PathLike[str]] = (),
) -> Report:
    """Converts the weights at `source` to the folder `target`, complete or not at all.

    Args:
        source: Anything that `load` opens.
        target: Folder to write; must not exist.
        to: Our own format, a `run` to sample and evaluate (config and weights, with the networks
            that it reads and without what it takes to train on), or the format of a library. Mimir
            goes to diffusers as two folders: `transformer`, and `mimir` with fuser and stabilizer.
        dtype: Stored dtype; None keeps every tensor's own, byte for byte.
        lora: Files of adapters to merge, each `FILE` or `FILE:SCALE`.

    Raises:
        ValueError: if `source` cannot be opened or has no such form, or `target` exists or cannot
            be written.
    """
    target = files.expand_path(target)
    with files.atomic_directory(target) as folder:
        opened = adapters.merged(opening.open_weights(source), lora)
        cast = None if dtype is None else np.dtype(dtype)
        licence = None
        if isinstance(opened.family, family.Published) and opened.class_name:
            licence = opened.family.licence(opened.config)
        if to == "native":
            _write_native(folder, opened, cast, licence)
        elif to == "run":
            _write_run(folder, opened, cast)
        elif opened.family.kind == "mimir" and to == "diffusers":
            _write_mimir(folder, opened, cast)
        elif opened.family.kind == divot.Agent.kind and to == "divot":
            _write_agent(folder, opened, cast)
        elif getattr(opened.family, "library", None) == to == "divot":
            _write_divot(folder, opened, cast)
        elif isinstance(opened.family, family.Published) and opened.family.library == to:
            _write_published(folder, opened.family, opened, cast)
        else:
            library = getattr(opened.family, "library", "diffusers")
            raise InputError(
                f"--to must be native or {library} for a {opened.family.kind}, got {to!r}"
            )
        count = sum(math.prod(tensor.shape) for tensor in opened.params.values())
    return Report(opened.family.kind, count, licence)


def convert_adapters(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    dtype: DTypeLike | None = None,
) -> Report:
    """Writes the adapters of a run alone to the folder `target`, complete or not at all.

    The folder holds `pytorch_lora_weights.safetensors`, which diffusers loads, and in `mimir` the
    fuser and stabilizer that trained beside them.

    Args:
        source: A run with adapters.
        target: Folder to write; must not exist.
        dtype: Stored dtype; None keeps that of training.

    Raises:
        ValueError: if `source` is no such run, or `target` exists or cannot be written.
    """
    target = files.expand_path(target)
    cast = None if dtype is None else np.dtype(dtype)
    with files.atomic_directory(target) as folder:
        system, stored = runs.open_adapters(opening.resolve(source))
        if not isinstance(getattr(system, "dit", None), DiTConfig):
            raise InputError(
                f"--adapters takes a run of a video transformer, got one of {system.kind}; convert "
                "it whole, without --adapters"
            )
        values = {
            p: x.read() for p, x in stored.tensors.items() if p.startswith(f"{lora_lib.NAME}/")
        }
        factors = {
            n: tensors.of_array(x)
            for n, x in adapters.export(system.dit, system.lora, values).items()
        }
        _write_tensors(folder, adapter_files.FILE, factors, cast)
        if isinstance(system.network, MimirConfig):
            home = opening.resolve(source)
            _write_conditioners(folder, system.network, stored.tensors, cast, home)
        count = sum(math.prod(tensor.shape) for tensor in factors.values())
    return Report("lora", count, None)


def _write_run(folder: pathlib.Path, opened: opening.Weights, dtype: np.dtype | None) -> None:
    if not (opened.path / runs.CONFIG_FILE).is_file() or not runs.has_checkpoint(opened.path):
        raise InputError(f"--to run needs a run to release, got {opened.path}; name its folder")
    (folder / runs.WEIGHTS).mkdir()
    stored = None if dtype is None else dtype.name
    for name, path in runs.release(opened.path, folder).items():
        is_run = runs.has_checkpoint(opening.resolve(path))
        convert(path, folder / name, to="run" if is_run else "native", dtype=stored)
    manifest = {"step": runs.latest_step(opened.path)}
    _write_native(folder / runs.WEIGHTS, opened, dtype, None, manifest)


def _write_native(
    folder: pathlib.Path,
    opened: opening.Weights,
    dtype: np.dtype | None,
    licence: str | None,
    known: Mapping[str, Any] | None = None,
) -> None:
    with contextlib.ExitStack() as stack:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        stack.callback(pool.shutdown, cancel_futures=True)
        hashes = [(file, pool.submit(hashing.sha256_file, file)) for file in opened.files]
        config = opened.config
        if dtype is not None and opened.class_name is not None:
            config = opened.family.with_dtype(config, str(dtype))  # ours keep their compute dtype
        manifest: dict[str, Any] = dict(known or {})
        if opened.class_name is not None:
            manifest["licence"] = licence
            manifest["source"] = {
                "class": opened.class_name,
                "config": opened.raw,
                "dtypes": {}
                if dtype is not None
                else {n: str(x) for n, x in opened.dtypes.items()},
            }
        _copy_companions(opened, folder)

        def finished_manifest() -> dict[str, Any]:
            if opened.class_name is not None:
                manifest["source"]["files"] = [
                    {"name": file.name, "bytes": file.stat().st_size, "sha256": digest.result()}
                    for file, digest in hashes
                ]
            return manifest

        params = opened.params
        if dtype is not None:
            params = {path: _cast(path, tensor, dtype) for path, tensor in params.items()}
        published = bool(opened.files)  # ours come from Orbax
        kind = opened.family.kind
        native.write(folder, kind, config, params, manifest=finished_manifest, ahead=published)


def _write_published(
    folder: pathlib.Path,
    known: family.Published,
    opened: opening.Weights,
    dtype: np.dtype | None,
) -> None:
    name = known.export_class(opened.config, opened.class_name)
    raw = _published_config(known, opened, name)
    table = known.table(opened.config, name, raw)
    params = opened.params
    dtypes = opened.dtypes
    if dtype is not None:
        dtypes = {}
        params = {path: _cast(path, tensor, dtype) for path, tensor in params.items()}
    if known.library == "transformers":
        kinds = [tensor.dtype for tensor in params.values()]
        raw["dtype"] = str(max(set(kinds), key=kinds.count))
        raw.pop("torch_dtype", None)
    expected = rules.export_shapes(table, params, dtypes)
    _copy_companions(opened, folder)
    if known.kind in ("llm", "t5"):
        raw |= _token_ids(folder, raw)
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    tensors.write_safetensors(
        folder, known.stem, expected, rules.export_tensors(table, params, dtypes)
    )


def _write_mimir(folder: pathlib.Path, opened: opening.Weights, dtype: np.dtype | None) -> None:
    """Writes the DiT as CogVideoX, and what conditions it as one safetensors file."""
    known = opening.FAMILIES["dit"]
    inner = {
        path.removeprefix("dit/"): tensor
        for path, tensor in opened.params.items()
        if path.startswith("dit/")
    }
    (folder / "transformer").mkdir()
    base = opening.Weights(path=opened.path, family=known, config=opened.config.dit, params=inner)
    assert isinstance(known, dit.DiT)
    _write_published(folder / "transformer", known, base, dtype)
    _write_conditioners(folder, opened.config, opened.params, dtype, opened.path)


def _write_agent(folder: pathlib.Path, opened: opening.Weights, dtype: np.dtype | None) -> None:
    """Writes the LLM as a folder of transformers, projector and head as a torch file beside it."""
    known, inner = opening.FAMILIES[divot.Agent.kind], opening.FAMILIES[divot.LLM]
    assert isinstance(known, divot.Agent) and isinstance(inner, family.Published)
    raw = opened.raw or known.write_config(opened.config, known.classes[0])
    place = opened.path / divot.LLM
    base = opening.Weights(
        path=place if place.is_dir() else opened.path,
        family=inner,
        config=opened.config.llm,
        params=_below(opened.params, "llm/"),
        class_name=llm.class_name(raw[divot.LLM]),
        raw=raw[divot.LLM],
        dtypes=_below(opened.dtypes, "llm."),
    )
    for name in (divot.LLM, divot.AGENT):
        (folder / name).mkdir()
    _write_published(folder / divot.LLM, inner, base, dtype)
    params, dtypes = opened.params, opened.dtypes
    if dtype is not None:
        params, dtypes = {path: _cast(path, tensor, dtype) for path, tensor in params.items()}, {}
    table = known.table(opened.config, known.classes[0], raw)
    rest = [rule for rule in table if not rule.path.startswith("llm/")]
    named = dict(rules.export_tensors(rest, {r.path: params[r.path] for r in rest}, dtypes))
    tensors.write_torch(folder / divot.AGENT / divot.FILE, named)
    stated = known.write_config(opened.config, known.classes[0])[divot.AGENT]
    (folder / divot.AGENT / "config.json").write_text(json.dumps(stated, indent=2) + "\n")


def _write_divot(folder: pathlib.Path, opened: opening.Weights, dtype: np.dtype | None) -> None:
    """Writes a part of Divot as torch files, as it is published, and what no tensor tells."""
    known = opened.family
    assert isinstance(known, family.Published)
    name = known.export_class(opened.config, opened.class_name)
    params, dtypes = opened.params, opened.dtypes
    if dtype is not None:
        params, dtypes = {path: _cast(path, tensor, dtype) for path, tensor in params.items()}, {}
    table = known.rules(opened.config, name)
    named = dict(rules.export_tensors(table, params, dtypes))
    stems = {file.stem for file in opened.files if file.name in divot_detokenizer.FILES}
    parts = {f"{min(stems, default=known.stem)}.bin": named}
    if known.kind == divot_tokenizer.KIND:
        parts = divot_tokenizer.split(named)
    for file, part in parts.items():
        tensors.write_torch(folder / file, part)
    raw = known.write_config(opened.config, name)
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    _copy_companions(opened, folder)


def _below(values: Mapping[str, Any], start: str) -> dict[str, Any]:
    """Returns the values whose names begin with `start`, which their names lose."""
    return {n.removeprefix(start): x for n, x in values.items() if n.startswith(start)}


def _write_conditioners(
    folder: pathlib.Path,
    config: MimirConfig,
    params: tensors.Tensors,
    dtype: np.dtype | None,
    source: pathlib.Path,
) -> None:
    """Writes the folder `mimir`: fuser and stabilizer, where there is either, and the configs."""
    parts = {
        path.replace("/", "."): tensor
        for path, tensor in params.items()
        if path.startswith(("fuser/", "stabilizer/"))
    }
    (folder / runs.PARTS).mkdir()
    exported.write_config(folder, config, source)
    _write_tensors(folder / runs.PARTS, exported.STEM, parts, dtype)


def _write_tensors(
    folder: pathlib.Path, stem: str, named: tensors.Tensors, dtype: np.dtype | None
) -> None:
    if dtype is not None:
        named = {name: _cast(name, tensor, dtype) for name, tensor in named.items()}
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in named.items()}
    tensors.write_safetensors(folder, stem, expected, ((n, x.read()) for n, x in named.items()))


def _published_config(
    known: family.Published, opened: opening.Weights, name: str
) -> dict[str, Any]:
    """Returns the config as it came where it is true, or else a new one."""
    raw = dict(opened.raw)
    if raw:
        before = known.with_dtype(known.read_config(raw, {}), opened.config.dtype)
        if before == opened.config:
            if known.library == "transformers":
                raw["architectures"] = [known.architecture(opened.config, name)]
            return raw
    return known.write_config(opened.config, name)


def _token_ids(folder: pathlib.Path, raw: Mapping[str, Any]) -> dict[str, int]:
    """Returns the ids of special tokens that a config lacks, from the tokenizer in `folder`."""
    settings, words = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not (settings.is_file() and words.is_file()):
        return {}
    named = files.read_json(settings, "tokenizer config")
    tokenizer = files.read_json(words, "tokenizer")
    added = tokenizer.get("added_tokens")
    ids = {t["content"]: t["id"] for t in added} if isinstance(added, list) else {}
    vocabulary = tokenizer.get("model", {}).get("vocab")
    ids = {**(vocabulary if isinstance(vocabulary, dict) else {}), **ids}
    found = {}
    for name in ("bos", "eos", "pad"):
        token = named.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if raw.get(f"{name}_token_id") is None and token in ids:
            found[f"{name}_token_id"] = ids[token]
    return found


def _cast(name: str, tensor: tensors.Tensor, dtype: np.dtype) -> tensors.Tensor:
    read = lambda: tensors.cast(name, tensor.read(), dtype)  # noqa: E731
    return tensors.Tensor(tensor.shape, dtype, read, scratch=tensor.peak)


def _copy_companions(opened: opening.Weights, folder: pathlib.Path) -> None:
    place = opened.path
    if place.suffix == ".gguf":
        try:
            gguf.read_tokenizer(place).save_pretrained(str(folder))
        except ValueError as error:
            logging.warning("no tokenizer is written: %s", error)
        return
    here = place if place.is_dir() else place.parent
    places = [here]
    if opened.family.kind in (
        "t5",
        "llm",
        "llava",
        "divot_llm",
    ):  # pipelines of diffusers keep it beside
        places.insert(0, opened.tokenizer or here.parent / "tokenizer")
    for where in places:
        for pattern in _COMPANIONS:
            for file in sorted(where.glob(pattern)):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
