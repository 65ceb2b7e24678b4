# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CogVideoX transformers of diffusers in all five variants, and of SAT by way of their names."""

from collections.abc import Mapping

from mimir_jax.config import COGVIDEOX, DiTConfig
from mimir_jax.errors import InputError
from mimir_jax.models import dit
from mimir_jax.weights import family, sat
from mimir_jax.weights.rules import (
    BATCHED,
    LINEAR,
    Rule,
    expected_shapes,
    in_blocks,
    linear,
    norm,
    patch,
)
from mimir_jax.weights.tensors import Tensor, Tensors

ANCHOR = r"transformer_blocks\.0\.norm1\.linear\.weight"
"""Name of a tensor that every transformer has."""

_PATCH = "patch_embed.proj.weight"
_PATCH_BIAS = "patch_embed.proj.bias"
_TABLE = "patch_embed.pos_embedding"
_FIXED = {  # what the network has in one form only
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "norm_elementwise_affine": True,
    "attention_bias": True,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
}


class DiT(family.Published):
    """The video transformer."""

    kind = "dit"
    module = dit.DiT
    library = "diffusers"
    classes = ("CogVideoXTransformer3DModel",)
    stem = "diffusion_pytorch_model"
    stems = ("cogvideo", "transformer3d")
    anchor = ANCHOR

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> DiTConfig:
        """Reads a config of diffusers.

        Tensors have the word where released configs lie or are silent: `patch_bias` is false in the
        1.5 files, whose patch projection has a bias, and a learned position table or an `ofs`
        embedding may be there unannounced.
        """
        family.demand(raw, **_FIXED)
        temporal_patch = raw.get("patch_size_t")
        if temporal_patch is None and tensors and _PATCH_BIAS not in tensors:
            family.demand(raw, patch_bias=True)
        frames = raw.get("sample_frames", 49)
        ofs = raw.get("ofs_embed_dim")
        if ofs is None and (table := tensors.get("ofs_embedding.linear_1.weight")):
            ofs = table.shape[1]
        learned = raw.get("use_learned_positional_embeddings", False) or _TABLE in tensors
        rotary = raw.get("use_rotary_positional_embeddings", False)
        if learned and not rotary:
            raise InputError(
                "config.json must set use_rotary_positional_embeddings beside a learned position "
                "table, as CogVideoX-5B-I2V does, got False"
            )
        compression = raw.get("temporal_compression_ratio", 4)
        return DiTConfig(
            num_layers=raw.get("num_layers", 30),
            num_heads=raw.get("num_attention_heads", 30),
            head_dim=raw.get("attention_head_dim", 64),
            in_channels=raw.get("in_channels", 16),
            out_channels=raw.get("out_channels") or 16,
            patch=raw.get("patch_size", 2),
            temporal_patch=temporal_patch,
            position="rope+learned" if learned else "rope" if rotary else "sincos",
            rope_grid="crop" if temporal_patch is None else "integer",
            sample_frames=(frames - 1) // compression + 1,
            sample_height=raw.get("sample_height", 60),
            sample_width=raw.get("sample_width", 90),
            spatial_interpolation=float(raw.get("spatial_interpolation_scale", 1.875)),
            temporal_interpolation=float(raw.get("temporal_interpolation_scale", 1.0)),
            text_width=raw.get("text_embed_dim", 4096),
            text_length=raw.get("max_text_seq_length", 226),
            time_width=raw.get("time_embed_dim", 512),
            ofs_width=ofs,
            norm_eps=float(raw.get("norm_eps", 1e-5)),
        )

    def write_config(self, config: DiTConfig, name: str) -> family.Raw:
        """Writes a config of diffusers, with `patch_bias` as the tensors have it."""
        return {
            "_class_name": name,
            "_diffusers_version": "0.31.0",
            **_FIXED,
            "attention_head_dim": config.head_dim,
            "dropout": 0.0,
            "in_channels": config.in_channels,
            "max_text_seq_length": config.text_length,
            "norm_eps": config.norm_eps,
            "num_attention_heads": config.num_heads,
            "num_layers": config.num_layers,
            "ofs_embed_dim": config.ofs_width,
            "out_channels": config.out_channels,
            "patch_bias": True,
            "patch_size": config.patch,
            "patch_size_t": config.temporal_patch,
            "sample_frames": 4 * (config.sample_frames - 1) + 1,
            "sample_height": config.sample_height,
            "sample_width": config.sample_width,
            "spatial_interpolation_scale": config.spatial_interpolation,
            "temporal_compression_ratio": 4,
            "temporal_interpolation_scale": config.temporal_interpolation,
            "text_embed_dim": config.text_width,
            "time_embed_dim": config.time_width,
            "use_learned_positional_embeddings": config.position == "rope+learned",
            "use_rotary_positional_embeddings": config.position != "sincos",
        }

    def rules(self, config: DiTConfig, name: str) -> list[Rule]:
        """Returns the table; 1.0 models embed patches by a convolution, 1.5 by a linear."""
        at = "transformer_blocks.{i}"
        blocks = [
            *_linear("norm1/linear", f"{at}.norm1.linear"),
            *norm("norm1/norm", f"{at}.norm1.norm", bias=True),
            *(r for n in "qkv" for r in _linear(f"attention/{n}", f"{at}.attn1.to_{n}")),
            *_linear("attention/out", f"{at}.attn1.to_out.0"),
            *norm("attention/norm_q", f"{at}.attn1.norm_q", bias=True),
            *norm("attention/norm_k", f"{at}.attn1.norm_k", bias=True),
            *_linear("norm2/linear", f"{at}.norm2.linear"),
            *norm("norm2/norm", f"{at}.norm2.norm", bias=True),
            *_linear("mlp/up", f"{at}.ff.net.0.proj"),
            *_linear("mlp/down", f"{at}.ff.net.2"),
        ]
        conv = config.temporal_patch is None
        embed = patch(config.in_channels, config.patch) if conv else LINEAR
        rules = [
            Rule("patch/kernel", (_PATCH,), embed),
            Rule("patch/bias", (_PATCH_BIAS,)),
            *_linear("text", "patch_embed.text_proj"),
            *_linear("time/up", "time_embedding.linear_1"),
            *_linear("time/down", "time_embedding.linear_2"),
            *in_blocks(blocks),
            *norm("head/norm_final", "norm_final", bias=True),
            *_linear("head/linear", "norm_out.linear"),
            *norm("head/norm", "norm_out.norm", bias=True),
            *_linear("head/proj", "proj_out"),
        ]
        if config.ofs_width is not None:
            rules += _linear("ofs/up", "ofs_embedding.linear_1")
            rules += _linear("ofs/down", "ofs_embedding.linear_2")
        if config.position == "rope+learned":
            rules.append(Rule("positions", (_TABLE,), BATCHED))
        return rules

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Gives the tensors of a SAT checkpoint the names of diffusers."""
        tensors = sat.transformer(tensors)
        if raw.get("use_rotary_positional_embeddings", False):
            return tensors
        # 2B adds a fixed table, computed here, which some checkpoints store all the same.
        return {name: x for name, x in tensors.items() if name != _TABLE}

    def licence(self, config: DiTConfig) -> str:
        """The 2B model is free, the 5B family is not."""
        if config.width <= COGVIDEOX["2b"]["num_heads"] * 64:
            return "CogVideoX-2B: Apache-2.0"
        return (
            "CogVideoX-5B family: CogVideoX licence; free for research, commercial use takes "
            "registration, and the notice must travel with every copy"
        )


def released_config(tensors: Mapping[str, Tensor]) -> family.Raw:
    """Returns the config of the released model with these tensors; SAT files come without one.

    Raises:
        ValueError: if there is none.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    known = DiT()
    for overrides in COGVIDEOX.values():
        config = DiTConfig(**overrides)
        if expected_shapes(known.rules(config, ""), known.abstract(config)) == shapes:
            return known.write_config(config, known.classes[0])
    raise InputError(
        f"a checkpoint without config.json must be one of {', '.join(COGVIDEOX)} of CogVideoX, got "
        f"other tensors ({len(shapes)}); put the config.json of diffusers beside it"
    )


def _linear(path: str, name: str) -> list[Rule]:
    return linear(path, name, bias=True)
