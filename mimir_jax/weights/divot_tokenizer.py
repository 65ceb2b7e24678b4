# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's tokenizer of clips, as published.

    Divot_tokenizer.bin              `temporal_encoder.`, `norm.`, `image_proj_model.`
    open_clip_pytorch_model.bin      the frozen image tower, `visual.`, here, in a folder below, or
                                     in CLIP-ViT-H-14-laion2B-s32B-b79K beside

A file may hold the tower too, below `vit_model.model.visual.`; such tensors stand above those of
OpenCLIP's own file. Tensors tell all sizes but the widths of attention heads, which are those of
Divot where they fit. A `config.json` beside, with fields of `DivotTokenizerConfig`, states others;
our exports add one.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from mimir_jax import files as files_lib
from mimir_jax.config import (
    DivotTokenizerConfig,
    ResamplerConfig,
    SpaceTimeConfig,
    TemporalConfig,
    ViTConfig,
)
from mimir_jax.errors import InputError
from mimir_jax.models.divot import tokenizer
from mimir_jax.weights import family, openclip, resampler, tensors
from mimir_jax.weights.rules import LINEAR, Rule, in_blocks, inside, linear, norm, patch
from mimir_jax.weights.tensors import Tensor, Tensors

KIND = "divot_tokenizer"
FILE = "Divot_tokenizer.bin"
TOWER_FILE = "open_clip_pytorch_model.bin"
TOWER = "vit_model.model.visual."
"""Where the tower is in Divot's own file."""

_TOWER_HOME = "CLIP-ViT-H-14-laion2B-s32B-b79K"
_TOWER_FILES = (TOWER_FILE, "open_clip_model.safetensors")
_OPENCLIP = "visual."
_TEMPORAL, _PROJECT = "temporal_encoder.", "image_proj_model."
_RESAMPLER = f"{_PROJECT}down_sampler."
_PARTS = ("vit", "temporal", "space_time", "resampler")


class Tokenizer(family.Published):
    """Image tower, temporal and space-time transformers and resampler."""

    kind = KIND
    module = tokenizer.DivotTokenizer
    library = "divot"
    classes = ("DivotTokenizer",)
    stem = "Divot_tokenizer"
    ignored = (
        r"vit_model\.model\.visual\.(ln_post\.\w+|proj)",
        r"vit_model\.(?!model\.visual\.).*",
    )
    reports_extra = True
    compute = "float32"

    def matches(self, tensors: Tensors) -> bool:
        """Whether the tensors are those of a tokenizer with its tower, in a file of any name."""
        return any(name.startswith(_TEMPORAL) for name in tensors)

    def with_dtype(self, config: DivotTokenizerConfig, dtype: str) -> DivotTokenizerConfig:
        """Returns the config with every part in another compute dtype."""
        parts = {name: dataclasses.replace(getattr(config, name), dtype=dtype) for name in _PARTS}
        return dataclasses.replace(config, **parts)

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> DivotTokenizerConfig:
        """Reads sizes from tensors, and what they do not tell from `raw`, as fields of ours."""
        sizes = _Sizes(tensors, raw)
        vit, frames = _vit(sizes), sizes.of((f"{_TEMPORAL}positional_embedding", 0))
        return DivotTokenizerConfig(
            frames=frames,
            frame_size=sizes.stated("frame_size", vit.image_size * 8 // 7),  # 256 for 224
            pool=math.isqrt(sizes.of((f"{_PROJECT}pos_embed_spatial", 0))),
            vit=vit,
            temporal=_temporal(sizes),
            space_time=_space_time(sizes),
            resampler=_resampler(sizes, tensors),
        )

    def write_config(self, config: DivotTokenizerConfig, name: str) -> family.Raw:
        """Writes what tensors do not tell."""
        heads = {part: {"num_heads": getattr(config, part).num_heads} for part in _PARTS}
        heads["vit"] |= {
            "image_size": config.vit.image_size,
            "activation": config.vit.activation,
            "norm_eps": config.vit.norm_eps,
        }
        heads["resampler"] |= {"head_dim": config.resampler.head_dim}
        return {"architectures": [name], "frame_size": config.frame_size, **heads}

    def rules(self, config: DivotTokenizerConfig, name: str) -> list[Rule]:
        """Returns the table.

        Raises:
            InputError: for tokens that are tied to patches, which Divot has not.
        """
        del name
        if config.tokens != "resampler":
            raise InputError(
                "tokens of the tokenizer must come from a resampler in the published layout, got "
                f"{config.tokens}; write a native folder"
            )
        vit = config.vit
        top, end = f"{_TEMPORAL}transformer.", f"{_PROJECT}blocks.{{i}}"
        space_time = [
            *norm("attention_norm", f"{end}.norm1", bias=True),
            *linear("attention/qkv", f"{end}.attn.qkv", bias=True),
            *linear("attention/out", f"{end}.attn.proj", bias=True),
            *norm("mlp_norm", f"{end}.norm2", bias=True),
            *linear("mlp/up", f"{end}.mlp.fc1", bias=True),
            *linear("mlp/down", f"{end}.mlp.fc2", bias=True),
        ]
        parts = {
            "vit": [
                Rule("class_token", (f"{TOWER}class_embedding",)),
                Rule("positions", (f"{TOWER}positional_embedding",)),
                Rule("patch/kernel", (f"{TOWER}conv1.weight",), patch(3, vit.patch)),
                *norm("pre_norm", f"{TOWER}ln_pre", bias=True),
                *_blocks(f"{TOWER}transformer."),
            ],
            "temporal": [
                *linear("into", f"{_TEMPORAL}input_proj", bias=True),
                Rule("positions", (f"{_TEMPORAL}positional_embedding",)),
                *_blocks(top),
                *norm("norm", f"{_TEMPORAL}ln_final", bias=True),
                *linear("out", f"{_TEMPORAL}output_proj", bias=True),
            ],
            "space_time": [
                Rule("space_positions", (f"{_PROJECT}pos_embed_spatial",)),
                Rule("time_positions", (f"{_PROJECT}pos_embed_temporal",)),
                *in_blocks(space_time),
                *norm("norm", f"{_PROJECT}norm", bias=True),
            ],
            "resampler": resampler.table(_RESAMPLER),
        }
        below = [rule for part, table in parts.items() for rule in inside(table, part, "")]
        return [*below, *norm("norm", "norm", bias=True)]

    def licence(self, config: DivotTokenizerConfig) -> str:
        """Divot's own licence and that of its tower."""
        return "Divot: see its model card; OpenCLIP ViT-H/14 by LAION: MIT"


def _blocks(prefix: str) -> list[Rule]:
    """Returns the rules of blocks with torch's own attention."""
    at = f"{prefix}resblocks.{{i}}"
    fused = f"{at}.attn.in_proj_weight"
    return in_blocks(
        [
            *norm("attention_norm", f"{at}.ln_1", bias=True),
            Rule("attention/qkv/kernel", (fused,), LINEAR),
            Rule("attention/qkv/bias", (f"{at}.attn.in_proj_bias",)),
            *linear("attention/out", f"{at}.attn.out_proj", bias=True),
            *norm("mlp_norm", f"{at}.ln_2", bias=True),
            *linear("mlp/up", f"{at}.mlp.c_fc", bias=True),
            *linear("mlp/down", f"{at}.mlp.c_proj", bias=True),
        ]
    )


class _Sizes(family.Sizes):
    """Sizes that tensors tell, and settings that a config states.

    Args:
        tensors: The checkpoint.
        raw: The config.
    """

    def __init__(self, tensors: Mapping[str, Tensor], raw: family.Raw):
        super().__init__(tensors)
        self._raw = raw

    def count(self, prefix: str) -> int:
        """Returns the number of layers that are numbered behind a prefix, at least 1."""
        return max(self.last(prefix), 0) + 1

    def stated(self, place: str, default: Any) -> Any:
        """Returns a field of the config by its dotted path, or the default."""
        part, _, field = place.rpartition(".")
        values = self._raw.get(part, {}) if part else self._raw
        return values.get(field, default) if isinstance(values, dict) else default

    def heads(self, part: str, width: int, head_dim: int, number: int) -> int:
        """Returns the number of attention heads of a part.

        Args:
            part: Field of the config.
            width: Width of all heads together.
            head_dim: Width of a head of Divot, which counts where it divides `width`.
            number: Heads of Divot, which count otherwise.

        Raises:
            InputError: if neither divides `width` and the config states none.
        """
        if (heads := self.stated(f"{part}.num_heads", None)) is not None:
            return family.field({f"{part}.num_heads": heads}, f"{part}.num_heads")
        if width % head_dim == 0:
            return width // head_dim
        if width % number:
            raise InputError(
                f"config.json must give {part}.num_heads where neither heads of {head_dim} nor "
                f"{number} of them fit its width of {width}, got none; put one beside {FILE}"
            )
        logging.warning(
            "%s has no heads of %d in its width of %d; taking %d heads, as in Divot. State "
            "another number in config.json", part, head_dim, width, number,
        )  # fmt: skip
        return number


def _vit(sizes: _Sizes) -> ViTConfig:
    width, size = sizes.of((f"{TOWER}conv1.weight", 0)), sizes.of((f"{TOWER}conv1.weight", 3))
    rows = sizes.of((f"{TOWER}positional_embedding", 0))
    blocks = f"{TOWER}transformer.resblocks."
    return ViTConfig(
        image_size=sizes.stated("vit.image_size", math.isqrt(rows - 1) * size),
        patch=size,
        width=width,
        num_layers=sizes.count(blocks),
        num_heads=sizes.heads("vit", width, 80, 16),
        mlp_dim=sizes.of((f"{blocks}0.mlp.c_fc.weight", 0)),
        activation=sizes.stated("vit.activation", "gelu"),
        post_norm=False,
        norm_eps=sizes.stated("vit.norm_eps", 1e-5),
    )


def _temporal(sizes: _Sizes) -> TemporalConfig:
    width = sizes.of((f"{_TEMPORAL}input_proj.weight", 0))
    blocks = f"{_TEMPORAL}transformer.resblocks."
    return TemporalConfig(
        width=width,
        num_layers=sizes.count(blocks),
        num_heads=sizes.heads("temporal", width, 64, 12),
        mlp_dim=sizes.of((f"{blocks}0.mlp.c_fc.weight", 0)),
    )


def _space_time(sizes: _Sizes) -> SpaceTimeConfig:
    width = sizes.of((f"{_PROJECT}norm.weight", 0))
    blocks = f"{_PROJECT}blocks."
    return SpaceTimeConfig(
        width=width,
        num_layers=sizes.count(blocks),
        num_heads=sizes.heads("space_time", width, 128, 8),
        mlp_dim=sizes.of((f"{blocks}0.mlp.fc1.weight", 0)),
    )


def _resampler(sizes: _Sizes, tensors: Mapping[str, Tensor]) -> ResamplerConfig:
    inner = sizes.of((f"{_RESAMPLER}layers.0.0.to_q.weight", 0))
    heads = sizes.heads("resampler", inner, 64, 16)
    return resampler.infer(tensors, {"num_heads": heads}, _RESAMPLER)


class Opened(NamedTuple):
    """A folder of a tokenizer.

    Attributes:
        raw: What configs state, as fields of `DivotTokenizerConfig`.
        tensors: Tensors by their names in Divot's own file.
        files: What they lie in.
    """

    raw: family.Raw
    tensors: Tensors
    files: list[pathlib.Path]


def open_folder(folder: pathlib.Path) -> Opened:
    """Lists the tensors of a tokenizer and its image tower, if there is one.

    Raises:
        InputError: if there are several towers, or a file is damaged.
    """
    found, files = tensors.open_single(folder / FILE)
    home = _tower_file(folder)
    raw: family.Raw = {}
    if home is not None:
        inner, more = tensors.open_single(home)
        visual = {n: x for n, x in inner.items() if n.startswith(_OPENCLIP)}
        named = {TOWER + name.removeprefix(_OPENCLIP): x for name, x in visual.items()}
        found, files = {**named, **found}, [*files, *more]
        raw = _openclip_config(home.parent)
    if (stated := folder / "config.json").is_file():
        own = files_lib.read_json(stated, "config of the tokenizer")
        raw = {**own, "vit": {**raw.get("vit", {}), **family.field({"vit": {}} | own, "vit", dict)}}
    return Opened(raw, found, files)


def require_tower(folder: pathlib.Path, found: Tensors) -> None:
    """Raises `InputError` unless the tensors of a folder have an image tower."""
    if f"{TOWER}conv1.weight" not in found:
        raise InputError(
            f"weights folder {folder} must hold the image tower of the tokenizer, {TOWER}* in "
            f"{FILE} or {TOWER_FILE} beside it, got neither; download that of {_TOWER_HOME}"
        )


def split(named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what belongs into each published file, by file name, under the names there."""
    tower = {_OPENCLIP + n.removeprefix(TOWER): x for n, x in named.items() if n.startswith(TOWER)}
    rest = {name: x for name, x in named.items() if not name.startswith(TOWER)}
    return {FILE: rest, TOWER_FILE: tower}


def _tower_file(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file of OpenCLIP in a folder, in one below, or in its published one beside.

    Raises:
        InputError: if several folders hold one.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    for places in ([folder], below, [folder.parent / _TOWER_HOME]):
        found = [p / name for p in places for name in _TOWER_FILES if (p / name).is_file()]
        homes = {path.parent for path in found}
        if len(homes) > 1:
            raise InputError(
                f"weights folder {folder} must hold one image tower, got one in each of "
                f"{', '.join(sorted(home.name for home in homes))}; keep one of them"
            )
        if found:
            return found[0]
    return None


def _openclip_config(folder: pathlib.Path) -> family.Raw:
    """Returns what a config of OpenCLIP states of the tower."""
    if not (folder / openclip.CONFIG_FILE).is_file():
        return {}
    raw = openclip.config(files_lib.read_json(folder / openclip.CONFIG_FILE, "config of OpenCLIP"))
    return {
        "vit": {
            "num_heads": raw["num_attention_heads"],
            "image_size": raw["image_size"],
            "activation": raw["hidden_act"],
            "norm_eps": raw["layer_norm_eps"],
        }
    }
