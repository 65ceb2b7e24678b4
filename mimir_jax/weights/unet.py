# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The video U-Net of DynamiCrafter and Divot; files have no config, so tensors tell the sizes."""

import re
from collections.abc import Iterator, Mapping, Sequence

from absl import logging

from mimir_jax.config import UNetConfig
from mimir_jax.errors import InputError, listed, require
from mimir_jax.models.unet import unet
from mimir_jax.weights import family
from mimir_jax.weights.rules import CONV, Layout, Rule, linear, norm
from mimir_jax.weights.tensors import Tensor, Tensors

PREFIX = "diffusion_model."

_STORED = ("head_dim", "text_length", "frame_rows", "norm_groups")  # what no tensor tells
_OTHER = r"\.transformer_blocks\.[1-9]|\.relative_position"
_POINTWISE = Layout(lambda x: x[..., 0].T, lambda x: x.T[..., None])
"""Convolution with a kernel of one, [out, in, 1], to a linear [in, out]."""


class UNet(family.Published):
    """The network alone."""

    kind = "unet"
    module = unet.UNet
    library = "divot"
    classes = ("DynamiCrafterUNet",)
    stem = "unet"
    compute = "float32"
    reports_extra = True

    def matches(self, tensors: Tensors) -> bool:
        """Whether the tensors are those of a U-Net, with or without their prefix."""
        return any(_bare(name).startswith("input_blocks.0.0.") for name in tensors)

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Gives every tensor of the U-Net the prefix that it has in Divot."""
        del raw
        return {_prefixed(name): tensor for name, tensor in tensors.items()}

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> UNetConfig:
        """Reads the sizes from the tensors, and what they do not tell from `raw`."""
        return infer(tensors, raw)

    def write_config(self, config: UNetConfig, name: str) -> family.Raw:
        """Writes what no tensor tells."""
        return {"_class_name": name, **stated(config)}

    def rules(self, config: UNetConfig, name: str) -> list[Rule]:
        """Returns the table."""
        return table(config)

    def licence(self, config: UNetConfig) -> str:
        """The layout is shared by two models."""
        return "Divot: see its model card; DynamiCrafter: Apache-2.0"


def stated(config: UNetConfig) -> family.Raw:
    """Returns what no tensor tells."""
    return {name: getattr(config, name) for name in _STORED}


def table(cfg: UNetConfig, prefix: str = PREFIX) -> list[Rule]:
    """Returns the rules of a U-Net whose tensors begin with `prefix`."""
    rules = []
    for ours, theirs in (("time", "time_embed"), ("stride", "fps_embedding")):
        rules += linear(f"{ours}/up", f"{prefix}{theirs}.0", bias=True)
        rules += linear(f"{ours}/down", f"{prefix}{theirs}.2", bias=True)
    rules += conv("conv_in", f"{prefix}input_blocks.0.0")
    first = cfg.first_heads * cfg.head_dim
    rules += _transformer("first", f"{prefix}init_attn.0", first, cross=False, pointwise=True)
    for ours, theirs, width in _places(cfg):
        rules += _part(ours, prefix + theirs, width)
    rules += norm("norm_out", f"{prefix}out.0", bias=True)
    return [*rules, *conv("conv_out", f"{prefix}out.2")]


def conv(path: str, name: str) -> list[Rule]:
    """Returns the rules of a convolution at `path` from the layer `name`."""
    return [
        Rule(f"{path}/kernel", (f"{name}.weight",), CONV),
        Rule(f"{path}/bias", (f"{name}.bias",)),
    ]


def _places(cfg: UNetConfig) -> Iterator[tuple[str, str, int]]:
    """Yields (our path, published prefix, channels) of every part between first and last layer.

    A part without channels is the convolution between two levels. A shortcut is listed by itself
    where there is one.
    """
    index, dim, skips = 1, cfg.width, [cfg.width]
    last = len(cfg.widths) - 1
    for level, width in enumerate(cfg.widths):
        for step in range(cfg.blocks_per_level):
            yield from _step(f"down/{level}/steps/{step}", f"input_blocks.{index}",
                             dim, width, cfg.attended[level])  # fmt: skip
            index, dim = index + 1, width
            skips.append(dim)
        if level < last:
            yield f"down/{level}/resample", f"input_blocks.{index}.0.op", 0
            index += 1
            skips.append(dim)
    yield from _step("middle/first", "middle_block", dim, dim, True)
    yield "middle/last/residual", "middle_block.3", dim
    index = 0
    for level in range(last, -1, -1):
        width, attended = cfg.widths[level], cfg.attended[level]
        for step in range(cfg.blocks_per_level + 1):
            at = f"output_blocks.{index}"
            yield from _step(
                f"up/{last - level}/steps/{step}", at, dim + skips.pop(), width, attended
            )
            index, dim = index + 1, width
        if level:
            yield f"up/{last - level}/resample", f"{at}.{3 if attended else 1}.conv", 0


def _step(
    path: str, name: str, in_dim: int, width: int, attended: bool
) -> Iterator[tuple[str, str, int]]:
    yield f"{path}/residual", f"{name}.0", width
    if in_dim != width:
        yield f"{path}/residual/shortcut", f"{name}.0.skip_connection", 0
    if attended:
        yield f"{path}/pixels", f"{name}.1", width
        yield f"{path}/frames", f"{name}.2", width


def _part(path: str, name: str, width: int) -> list[Rule]:
    if not width:
        return conv(path, name)
    if path.endswith("/residual"):
        return _residual(path, name)
    return _transformer(path, name, width, cross=path.endswith("/pixels"))


def _residual(path: str, name: str) -> list[Rule]:
    rules = [
        *norm(f"{path}/norm1", f"{name}.in_layers.0", bias=True),
        *conv(f"{path}/conv1", f"{name}.in_layers.2"),
        *linear(f"{path}/time", f"{name}.emb_layers.1", bias=True),
        *norm(f"{path}/norm2", f"{name}.out_layers.0", bias=True),
        *conv(f"{path}/conv2", f"{name}.out_layers.3"),
    ]
    for index, last in enumerate((2, 3, 3, 3)):
        part = f"{name}.temopral_conv.conv{index + 1}"  # spelt as published
        rules += norm(f"{path}/temporal/{index}/norm", f"{part}.0", bias=True)
        rules += conv(f"{path}/temporal/{index}", f"{part}.{last}")
    return rules


def _transformer(
    path: str, name: str, width: int, *, cross: bool, pointwise: bool = False
) -> list[Rule]:
    into, out = (
        [Rule(f"{path}/{ours}/kernel", (f"{name}.{theirs}.weight",), _POINTWISE),
         Rule(f"{path}/{ours}/bias", (f"{name}.{theirs}.bias",))]
        if pointwise else linear(f"{path}/{ours}", f"{name}.{theirs}", bias=True)
        for ours, theirs in (("into", "proj_in"), ("out", "proj_out"))
    )  # fmt: skip
    block, at = f"{path}/block", f"{name}.transformer_blocks.0"
    second = _cross if cross else _self_attention
    return [
        *norm(f"{path}/norm", f"{name}.norm", bias=True),
        *into,
        *norm(f"{block}/first_norm", f"{at}.norm1", bias=True),
        *_self_attention(f"{block}/first", f"{at}.attn1", width),
        *norm(f"{block}/second_norm", f"{at}.norm2", bias=True),
        *second(f"{block}/second", f"{at}.attn2", width),
        *norm(f"{block}/mlp_norm", f"{at}.norm3", bias=True),
        *linear(f"{block}/mlp/up", f"{at}.ff.net.0.proj", bias=True),
        *linear(f"{block}/mlp/down", f"{at}.ff.net.2", bias=True),
        *out,
    ]


def _self_attention(path: str, name: str, width: int) -> list[Rule]:
    return [
        *linear(f"{path}/qkv", *(f"{name}.to_{n}" for n in "qkv"), rows=(width,) * 3),
        *linear(f"{path}/out", f"{name}.to_out.0", bias=True),
    ]


def _cross(path: str, name: str, width: int) -> list[Rule]:
    return [
        *linear(f"{path}/q", f"{name}.to_q"),
        *linear(f"{path}/text", f"{name}.to_k", f"{name}.to_v", rows=(width,) * 2),
        *linear(f"{path}/image", f"{name}.to_k_ip", f"{name}.to_v_ip", rows=(width,) * 2),
        Rule(f"{path}/gate", (f"{name}.alpha",)),
        *linear(f"{path}/out", f"{name}.to_out.0", bias=True),
    ]


def infer(tensors: Mapping[str, Tensor], raw: family.Raw, prefix: str = PREFIX) -> UNetConfig:
    """Returns the config of a U-Net whose tensors begin with `prefix`.

    Args:
        tensors: A checkpoint.
        raw: Fields that no tensor tells; absent ones have their default.
        prefix: Beginning of the names.

    Raises:
        InputError: if tensors are missing without which the sizes are unknown, levels differ in
            their number of blocks, or transformers have more than one block or relative positions.
    """
    sizes = family.Sizes(tensors, prefix)
    odd = [name for name in tensors if name.startswith(prefix) and re.search(_OTHER, name)]
    require(
        not odd,
        "transformers of a U-Net must have one block without relative positions, as those of Divot "
        f"and DynamiCrafter, got {listed(odd)}; use one of these",
    )
    told = {name: raw.get(name, getattr(UNetConfig, name)) for name in _STORED}
    width = sizes.of(("input_blocks.0.0.weight", 0), ("time_embed.0.weight", 1))
    widths, counts, attended, fresh = [], [], [], True
    for index in range(1, 1 + sizes.last("input_blocks.")):
        at = f"input_blocks.{index}"
        if sizes.any(f"{at}.0.op."):
            fresh = True
            continue
        if fresh:
            names = ("in_layers.2.weight", "in_layers.2.bias", "out_layers.3.weight")
            widths.append(sizes.of(*((f"{at}.0.{name}", 0) for name in names)))
            attended.append(sizes.any(f"{at}.1."))
            counts.append(0)
        counts[-1] += 1
        fresh = False
    if len(set(counts)) != 1 or any(size % width for size in widths):
        raise InputError(
            f"a U-Net must have as many blocks in each level and levels of multiples of {width} "
            f"channels, got {counts} blocks of {widths} channels; its checkpoint is not whole"
        )
    first = sizes.of(("init_attn.0.proj_in.weight", 0), ("init_attn.0.proj_in.bias", 0))
    head_dim = family.field(told, "head_dim")
    if "head_dim" not in raw:
        attention = [size for size, on in zip(widths, attended, strict=True) if on]
        told["head_dim"] = head_dim = _head_dim(first, [*attention, widths[-1]])
    require(
        head_dim > 0 and first % head_dim == 0,
        f"a U-Net must have heads of {head_dim} channels, got {first} channels in its first "
        "attention; state their head_dim in a config.json beside it",
    )
    context = ("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1)
    return UNetConfig(
        in_channels=sizes.of(("input_blocks.0.0.weight", 1)),
        out_channels=sizes.of(("out.2.weight", 0), ("out.2.bias", 0)),
        width=width,
        multipliers=tuple(size // width for size in widths),
        blocks_per_level=counts[0],
        attention_scales=tuple(2**i for i, on in enumerate(attended) if on),
        first_heads=first // head_dim,
        context_width=sizes.of(context),
        **told,
    )


def _head_dim(first: int, widths: Sequence[int]) -> int:
    """Returns the width of a head, 64 where that fits every attention.

    Args:
        first: Channels of the first attention, which has 8 heads as published and so tells the
            width where 64 does not fit.
        widths: Channels of the others.
    """
    width, heads = UNetConfig.head_dim, UNetConfig.first_heads
    told = first // heads
    if not any(size % width for size in (first, *widths)):
        return width
    if not told or first % heads or any(size % told for size in widths):
        return width
    logging.warning(
        "heads of %d do not fit the U-Net's attention; taking heads of %d, %d of them in the first "
        "one, as in Divot. State another head_dim in config.json", width, told, heads,
    )  # fmt: skip
    return told


def _bare(name: str) -> str:
    return re.sub(r"^(model\.)?(diffusion_model\.)?", "", name)


def _prefixed(name: str) -> str:
    known = r"(time_embed|fps_embedding|init_attn|input_blocks|middle_block|output_blocks|out)\."
    bare = _bare(name)
    return PREFIX + bare if re.match(known, bare) else name
