# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Speed of Divot's tokenizer in mimir_jax and in PyTorch on the same weights and frames.

    python benchmarks/divot_tokenizer.py [--case miniature] [--device cpu] [--rounds 5]

PyTorch has transformers' CLIP for the image tower, its own encoder layers for both transformers,
which run as one fused call each where their activation allows it, and fused attention in the
resampler. On a GPU both sides compute in bfloat16. On a CPU that runs other programs too, start it
with `taskset -c 0`: a thread of PyTorch that waits for a busy core holds up all others. Writes
docs/results/. Needs the `test` extra.
"""

import dataclasses
import json
import os
import pathlib
import re
import sys
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks`, which is no package of the distribution

from benchmarks import harness  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import (  # noqa: E402
    DivotTokenizerConfig,
    ResamplerConfig,
    SpaceTimeConfig,
    TemporalConfig,
    ViTConfig,
)

PHASES = ("image tower", "temporal transformer and pool", "space-time transformer", "resampler")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and how many clips it reads.

    Attributes:
        config: The tokenizer.
        clips: Clips in a batch.
    """

    config: DivotTokenizerConfig
    clips: int


def sized(width: int, layers: int, heads: int, **others: Any) -> dict[str, Any]:
    """Returns the sizes of the blocks of a part."""
    return dict(width=width, num_layers=layers, num_heads=heads, mlp_dim=4 * width, **others)


_TOWER = dict(activation="gelu", post_norm=False)
CASES = {
    "miniature": Case(
        DivotTokenizerConfig(
            frame_size=64,
            pool=4,
            vit=ViTConfig(image_size=64, patch=8, **sized(128, 4, 4), **_TOWER),
            temporal=TemporalConfig(**sized(128, 2, 4)),
            space_time=SpaceTimeConfig(**sized(128, 2, 4)),
            resampler=ResamplerConfig(
                in_width=128, out_width=32, num_queries=16, **sized(128, 2, 4, head_dim=32)
            ),
        ),
        clips=16,
    ),
    "half": Case(  # a tower of half the width, and the rest of Divot
        DivotTokenizerConfig(vit=ViTConfig(image_size=224, patch=14, **sized(640, 8, 8), **_TOWER)),
        clips=1,
    ),
    "full": Case(DivotTokenizerConfig(), clips=4),
}


def make(case: Case, folder: pathlib.Path, device: str) -> None:
    """Saves random weights in the published layout."""
    del device
    import torch

    torch.manual_seed(0)
    states = [twin(case.config).state_dict(), tower(case.config.vit).state_dict()]
    torch.save(states, folder / "theirs.pt")
    state = {published(name): value for name, value in states[0].items()}
    torch.save(state, folder / "Divot_tokenizer.bin")
    parts: dict[str, list] = {}
    for name, value in sorted(states[1].items(), key=lambda item: order(item[0])):
        if target := openclip(name):
            parts.setdefault(f"visual.{target}", []).append(value)
    joined = {name: torch.cat(values) for name, values in parts.items()}
    torch.save(joined, folder / "open_clip_pytorch_model.bin")
    from mimir_jax.weights import divot_tokenizer

    stated = divot_tokenizer.Tokenizer().write_config(case.config, "DivotTokenizer")
    (folder / "config.json").write_text(json.dumps(stated))


def inputs(case: Case) -> dict[str, np.ndarray]:
    """Draws the input of every phase, channels last."""
    cfg, rng = case.config, np.random.default_rng(0)
    size, frames = cfg.vit.image_size, case.clips * cfg.frames
    shapes = {
        PHASES[0]: (frames, size, size, 3),
        PHASES[1]: (case.clips, cfg.frames, cfg.grid**2, cfg.vit.width),
        PHASES[2]: (case.clips, cfg.frames, cfg.pool**2, cfg.space_time.width),
        PHASES[3]: (case.clips, cfg.frames * cfg.pool**2, cfg.resampler.in_width),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


class Ours:
    """The side of mimir_jax."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        host.prepare_host()
        import jax
        import jax.numpy as jnp

        import mimir_jax
        from mimir_jax.models import functional, resampler, vit
        from mimir_jax.models.divot import tokenizer

        dtype = jnp.float32 if device == "cpu" else jnp.bfloat16
        model, params = mimir_jax.load(folder, dtype=dtype)
        cfg = model.config
        parts = {
            PHASES[0]: (functional.build(vit.ViT, cfg.vit).apply, params["vit"]),
            PHASES[1]: (model.pooled, params),
            PHASES[2]: (
                functional.build(tokenizer.SpaceTimeTransformer, cfg).apply, params["space_time"]
            ),
            PHASES[3]: (
                functional.build(resampler.Resampler, cfg.resampler).apply, params["resampler"]
            ),
        }  # fmt: skip
        self._parts = {name: (jax.jit(run), values) for name, (run, values) in parts.items()}
        self._inputs = {name: jnp.asarray(x, dtype) for name, x in inputs(case).items()}

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        call, params = self._parts[phase]
        return np.asarray(call(params, self._inputs[phase]), np.float32)


class Theirs:
    """The side of PyTorch."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str):
        import torch

        self._torch = torch
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        states = torch.load(folder / "theirs.pt")
        parts = twin(case.config), tower(case.config.vit)
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        self._twin, self._tower = (part.to(device, dtype).eval() for part in parts)
        self._inputs = {n: torch.tensor(x).to(device, dtype) for n, x in inputs(case).items()}
        self._inputs[PHASES[0]] = self._inputs[PHASES[0]].permute(0, 3, 1, 2).contiguous()

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase and waits for it."""
        x = self._inputs[phase]
        with self._torch.inference_mode():
            match PHASES.index(phase):
                case 0:
                    out = self._tower(x).last_hidden_state
                case 1:
                    out = self._twin.pooled(x)
                case 2:
                    out = self._twin.space_time(x)
                case _:
                    out = self._twin.resampler(x)
            return out.float().cpu().numpy()


def tower(cfg: ViTConfig) -> Any:
    """Returns a random image tower of transformers."""
    import transformers

    return transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            image_size=cfg.image_size, patch_size=cfg.patch, hidden_size=cfg.width,
            num_hidden_layers=cfg.num_layers, num_attention_heads=cfg.num_heads,
            intermediate_size=cfg.mlp_dim, hidden_act=cfg.activation,
        )
    )  # fmt: skip


def order(name: str) -> int:
    """Returns the place of q, k or v among them, 0 for all else."""
    found = re.search(r"self_attn\.([qkv])_proj", name)
    return "qkv".index(found[1]) if found else 0


def openclip(name: str) -> str | None:
    """Returns the name in OpenCLIP of a tensor of a tower, of several for q, k and v."""
    name = name.removeprefix("vision_model.")
    if name.startswith("post_layernorm") or name.endswith("position_ids"):
        return None
    for pattern, target in (
        (r"embeddings\.class_embedding", "class_embedding"),
        (r"embeddings\.patch_embedding\.weight", "conv1.weight"),
        (r"embeddings\.position_embedding\.weight", "positional_embedding"),
        (r"pre_layrnorm\.", "ln_pre."),
        (r"encoder\.layers\.", "transformer.resblocks."),
        (r"layer_norm(\d)", r"ln_\1"),
        (r"self_attn\.[qkv]_proj\.", "attn.in_proj_"),
        (r"self_attn\.out_proj", "attn.out_proj"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
    ):
        name = re.sub(pattern, target, name)
    return name


def published(name: str) -> str:
    """Returns the published name of a tensor of the twin."""
    for pattern, target in (
        (r"temporal\.(\d+)\.self_attn\.", r"temporal_encoder.transformer.resblocks.\1.attn."),
        (r"temporal\.(\d+)\.norm", r"temporal_encoder.transformer.resblocks.\1.ln_"),
        (r"temporal\.(\d+)\.linear1", r"temporal_encoder.transformer.resblocks.\1.mlp.c_fc"),
        (r"temporal\.(\d+)\.linear2", r"temporal_encoder.transformer.resblocks.\1.mlp.c_proj"),
        (r"blocks\.(\d+)\.self_attn\.in_proj_", r"image_proj_model.blocks.\1.attn.qkv."),
        (r"blocks\.(\d+)\.self_attn\.out_proj", r"image_proj_model.blocks.\1.attn.proj"),
        (r"blocks\.(\d+)\.norm", r"image_proj_model.blocks.\1.norm"),
        (r"blocks\.(\d+)\.linear", r"image_proj_model.blocks.\1.mlp.fc"),
        (r"resampler\.", "image_proj_model.down_sampler."),
        (r"last_norm\.", "image_proj_model.norm."),
        (r"pos_embed_", "image_proj_model.pos_embed_"),
        (r"(input_proj|output_proj|ln_final|positional_embedding)", r"temporal_encoder.\1"),
    ):
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", target, name)
    return name


def twin(cfg: DivotTokenizerConfig) -> Any:
    """Returns the trained parts of a random tokenizer in PyTorch."""
    from benchmarks import divot_twin

    return divot_twin.Tokenizer(cfg)


def describe(case: Case, device: str) -> str:
    """Describes a case."""
    cfg = case.config
    cores = len(os.sched_getaffinity(0))
    where = f"Threads on {cores} of {os.cpu_count()} cores. " if device == "cpu" else ""
    return where + (
        f"{case.clips} clip{'s' * (case.clips > 1)} of {cfg.frames} frames of "
        f"{cfg.vit.image_size} x {cfg.vit.image_size} pixels; image tower of "
        f"{cfg.vit.num_layers} layers, width "
        f"{cfg.vit.width}; temporal transformer of {cfg.temporal.num_layers}, width "
        f"{cfg.temporal.width}; space-time transformer of {cfg.space_time.num_layers}, width "
        f"{cfg.space_time.width}; resampler of {cfg.resampler.num_layers}, width "
        f"{cfg.resampler.width}."
    )


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="divot-tokenizer",
            sides={"ours": Ours, "PyTorch": Theirs},
            phases=PHASES,
            cases=CASES,
            make=make,
            describe=describe,
            peers=("torch", "transformers"),
        )
    )
