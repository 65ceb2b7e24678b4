# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The VAE of Stable Diffusion: its original names, as in Divot, and by way of these diffusers."""

import re
from collections.abc import Mapping

from mimir_jax.config import ImageVAEConfig
from mimir_jax.errors import listed, require
from mimir_jax.models.vae import image
from mimir_jax.weights import family
from mimir_jax.weights.rules import CONV, SAME, Rule
from mimir_jax.weights.tensors import Tensor, Tensors

PREFIX = "first_stage_model."

_STAGE_ATTENTION = r"(encoder\.down|decoder\.up)\w*\.\d+\.att"
_PARTS = r"(encoder|decoder|quant_conv|post_quant_conv)\."
_DIFFUSERS = (
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.(group_)?norm\.", "mid.attn_1.norm."),
    (r"mid_block\.attentions\.0\.(?:to_(?=[qkv]\.)|(?=query|key|value))([qkv])\w*\.",
     r"mid.attn_1.\1."),
    (r"mid_block\.attentions\.0\.(?:to_out\.0|proj_attn)\.", "mid.attn_1.proj_out."),
    (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"up_blocks\.(\d+)\.resnets\.", r"up.\1.block."),
    (r"up_blocks\.(\d+)\.upsamplers\.0\.", r"up.\1.upsample."),
    (r"conv_shortcut\.", "nin_shortcut."),
    (r"conv_norm_out\.", "norm_out."),
)  # fmt: skip


class ImageVAE(family.Published):
    """Both halves; parameter paths follow the original names."""

    kind = "image_vae"
    module = image.ImageVAE
    library = "divot"
    classes = ("LatentDiffusionVAE", "AutoencoderKL")
    stem = "vae"
    compute = "float32"
    reports_extra = True

    def matches(self, tensors: Tensors) -> bool:
        """Whether the tensors are those of this VAE, with or without their prefix."""
        known = ("encoder.conv_in.weight", "decoder.conv_in.weight", "post_quant_conv.weight")
        bare = {name.removeprefix(PREFIX) for name in tensors}
        return any(name in bare for name in known)

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Gives every tensor its original name behind the prefix that it has in Divot."""
        del raw
        bare = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
        if any(".mid_block." in name for name in bare):
            bare = _from_diffusers(bare)
        return {(PREFIX + n if re.match(_PARTS, n) else n): x for n, x in bare.items()}

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> ImageVAEConfig:
        """Reads the sizes from the tensors, and what they do not tell from `raw`."""
        family.demand(raw, act_fn="silu", shift_factor=None, latents_mean=None, latents_std=None)
        return infer(tensors, raw)

    def write_config(self, config: ImageVAEConfig, name: str) -> family.Raw:
        """Writes what no tensor tells."""
        return {"_class_name": name, **stated(config)}

    def rules(self, config: ImageVAEConfig, name: str) -> list[Rule]:
        """Returns the table."""
        return [_rule(path, PREFIX) for path in self.abstract(config)]

    def export_class(self, config: ImageVAEConfig, name: str | None) -> str:
        """Returns the original form, whatever was read."""
        del config, name
        return self.classes[0]

    def licence(self, config: ImageVAEConfig) -> str:
        """The weights come with models of several licences."""
        return "as the model it comes with; Stable Diffusion: CreativeML Open RAIL-M"


def table(config: ImageVAEConfig) -> list[Rule]:
    """Returns the rules of the VAE inside a checkpoint of Divot."""
    return ImageVAE().rules(config, ImageVAE.classes[0])


def stated(config: ImageVAEConfig) -> family.Raw:
    """Returns what no tensor tells, under the names of diffusers."""
    return {"norm_num_groups": config.norm_groups, "scaling_factor": config.scaling_factor}


def infer(tensors: Mapping[str, Tensor], raw: family.Raw, prefix: str = PREFIX) -> ImageVAEConfig:
    """Returns the config of a VAE whose tensors begin with `prefix`.

    Args:
        tensors: A checkpoint.
        raw: Fields that no tensor tells, under the names of diffusers.
        prefix: Beginning of the names.

    Raises:
        InputError: if tensors are missing without which the sizes are unknown, or there is
            attention outside the middle.
    """
    sizes = family.Sizes(tensors, prefix)
    attention = [n for n in tensors if re.match(_STAGE_ATTENTION, n.removeprefix(prefix))]
    require(
        not attention,
        f"a VAE must have attention in its middle alone, got {listed(attention)}; use a VAE of "
        "Stable Diffusion 1 or 2",
    )
    leaves = ("conv1.weight", "conv1.bias", "conv2.weight")
    levels = range(1 + sizes.last("encoder.down."))
    base = ImageVAEConfig()
    return ImageVAEConfig(
        in_channels=sizes.of(("encoder.conv_in.weight", 1)),
        out_channels=sizes.of(("decoder.conv_out.weight", 0), ("decoder.conv_out.bias", 0)),
        latent_channels=sizes.of(("decoder.conv_in.weight", 1), ("post_quant_conv.bias", 0)),
        block_channels=tuple(
            sizes.of(*((f"encoder.down.{i}.block.0.{leaf}", 0) for leaf in leaves)) for i in levels
        ),
        layers_per_block=1 + sizes.last("encoder.down.0.block."),
        norm_groups=raw.get("norm_num_groups", base.norm_groups),
        scaling_factor=float(raw.get("scaling_factor", base.scaling_factor)),
    )


def _rule(path: str, prefix: str) -> Rule:
    *parts, leaf = path.split("/")
    if parts[-1] in ("downsample", "upsample"):
        parts.append("conv")
    name = {"kernel": "weight", "scale": "weight", "bias": "bias"}[leaf]
    return Rule(path, (prefix + ".".join([*parts, name]),), CONV if leaf == "kernel" else SAME)


def _from_diffusers(tensors: Tensors) -> Tensors:
    """Renames tensors of diffusers, whose decoder counts its stages the other way."""
    indices = [m[1] for name in tensors if (m := re.match(r"decoder\.up_blocks\.(\d+)\.", name))]
    last = max(map(int, indices), default=0)
    out: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, target in _DIFFUSERS:
            name = re.sub(pattern, target, name)
        name = re.sub(r"\.up\.(\d+)\.", lambda m: f".up.{last - int(m[1])}.", name)
        if ".attn_1." in name and name.endswith(".weight") and len(tensor.shape) == 2:
            tensor = _pointwise(tensor)
        out[name] = tensor
    return out


def _pointwise(tensor: Tensor) -> Tensor:
    """Returns a linear as a convolution with a kernel of one."""
    shape = (*tensor.shape, 1, 1)
    return Tensor(shape, tensor.dtype, lambda: tensor.read().reshape(shape))
