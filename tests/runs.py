# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A complete Mimir run in miniature: random frozen networks, the shipped tokenizers, Toyworld."""

import dataclasses

import jax

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.models import functional, llm, t5
from mimir_jax.models.llava import model as llava
from mimir_jax.models.vae import autoencoder, image
from mimir_jax.retrieval import building, documents, memory

VAE = c.VAEConfig(
    block_channels=(8, 8, 8), layers_per_block=1, norm_groups=4, latent_channels=4,
    scaling_factor=1.0, sample_height=32, sample_width=32,
)  # fmt: skip
T5 = c.T5Config(vocab_size=896, width=24, num_layers=1, num_heads=2, head_dim=8, mlp_dim=16)
LLM = c.LLMConfig(
    vocab_size=2432, width=20, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=16
)
DIT = c.DiTConfig(
    num_layers=2, num_heads=2, head_dim=16, in_channels=4, out_channels=4, text_width=24,
    text_length=24, time_width=8, sample_frames=3, sample_height=8, sample_width=8, remat="none",
)  # fmt: skip

IMAGE_VAE = c.ImageVAEConfig(block_channels=(4, 4, 4), layers_per_block=1, norm_groups=2)
UNET = c.UNetConfig(
    width=8, multipliers=(1, 2), blocks_per_level=1, attention_scales=(2,), head_dim=8,
    first_heads=1, context_width=8, text_length=4, norm_groups=4,
)  # fmt: skip

LLAVA = c.LlavaConfig(
    vit=c.ViTConfig(image_size=32, patch=16, width=16, num_layers=1, num_heads=2, mlp_dim=16),
    llm=LLM,
    image_token=2357,
    vision_layers=(-1,),
)


def write_frozen(root):
    """Writes folders of random VAE, T5 and LLM, with tokenizers."""
    parts = {"vae": (autoencoder.VAE, VAE), "t5": (t5.T5Encoder, T5), "llm": (llm.LLM, LLM)}
    for index, (kind, (module, config)) in enumerate(parts.items()):
        params = jax.jit(functional.build(module, config).init)(jax.random.key(index))
        weights.save(root / kind, kind, config, params, dtype="float32")
        if kind != "vae":
            for file in weights.resolve(f"package:tiny/{kind}").glob("tokenizer*"):
                (root / kind / file.name).write_bytes(file.read_bytes())


def mimir_run(frozen):
    """Returns the config of a Mimir run of six steps."""
    return c.TrainConfig(
        system=c.MimirSystemConfig(
            model=c.MimirConfig(
                dit=DIT,
                fuser=c.FuserConfig(t5_width=24, llm_width=20),
                stabilizer=c.StabilizerConfig(t5_width=24, llm_width=20),
            ),
            vae=VAE,
            vae_path=str(frozen / "vae"),
            text=c.TextConfig(
                t5_path=str(frozen / "t5"),
                llm_path=str(frozen / "llm"),
                length=24,
                num_answers=2,
                answer_length=4,
                instruction_length=80,
            ),
            sampler=c.SamplerConfig(
                name="ddim", steps=2, guidance_scale=2.0, dynamic_guidance="off"
            ),
            heldout_clips=2,
            loss_bands=2,
            sample_prompts=1,
        ),
        data=c.DataConfig(
            toyworld=c.ToyworldConfig(num_scenes=32, caption_style="short"),
            frames=9,
            height=32,
            width=32,
        ),
        optimizer=c.OptimizerConfig(
            learning_rate=1e-3, warmup_steps=2, ema_decay=0.9, lr_scale=(("^fuser/", 5.0),)
        ),
        mesh=c.MeshConfig(data=1, fsdp=-1),
        steps=6,
        batch_size=8,
        log_every=1,
    )


def vae_run():
    """Returns the config of a VAE run of two steps."""
    task = c.VAESystemConfig(model=VAE, heldout_clips=1)
    data = c.DataConfig(frames=9, height=32, width=32)
    mesh = c.MeshConfig(data=2, fsdp=-1)
    return c.TrainConfig(system=task, data=data, mesh=mesh, steps=2, batch_size=8, log_every=1)


def divot_run(frozen):
    """Returns the config of a Divot run of four steps: 4 tokens of width 8."""
    sizes = dict(width=16, num_layers=1, num_heads=2, mlp_dim=16)
    resample = dict(head_dim=8, **sizes)
    return c.TrainConfig(
        system=c.DivotSystemConfig(
            model=c.DivotConfig(
                tokenizer=c.DivotTokenizerConfig(
                    vit=c.ViTConfig(image_size=32, patch=16, post_norm=False, **sizes),
                    frame_size=32,
                    pool=2,
                    temporal=c.TemporalConfig(**sizes),
                    space_time=c.SpaceTimeConfig(**sizes),
                    resampler=c.ResamplerConfig(
                        in_width=16, out_width=8, num_queries=4, **resample
                    ),
                ),
                detokenizer=c.DiTDetokenizerConfig(
                    resampler=c.ResamplerConfig(
                        in_width=8, out_width=24, num_queries=6, **resample
                    ),
                    dit=DIT,
                ),
            ),
            vae=VAE,
            vae_path=str(frozen / "vae"),
            sampler=c.SamplerConfig(
                name="ddim", steps=2, guidance_scale=2.0, dynamic_guidance="off"
            ),
            caption_dropout=0.5,
            heldout_clips=2,
            loss_bands=2,
            sample_prompts=1,
        ),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=16), frames=9, height=32, width=32),
        optimizer=c.OptimizerConfig(learning_rate=1e-3, warmup_steps=2, ema_decay=0.9),
        steps=4,
        batch_size=8,
        log_every=1,
    )


def divot_unet_run(folder):
    """Returns `divot_run` with a U-Net and a VAE of images, which it writes to `folder`."""
    params = jax.jit(functional.build(image.ImageVAE, IMAGE_VAE).init)(jax.random.key(5))
    weights.save(folder / "image_vae", "image_vae", IMAGE_VAE, params)
    run = divot_run(folder)
    unet = c.UNetDetokenizerConfig(
        resampler=c.ResamplerConfig(
            in_width=8, out_width=8, num_queries=6, width=16, num_layers=1, num_heads=2,
            head_dim=8, mlp_dim=16,
        ),
        unet=UNET,
    )  # fmt: skip
    system = dataclasses.replace(
        run.system,
        model=dataclasses.replace(run.system.model, detokenizer=unet),
        vae=IMAGE_VAE,
        vae_path=str(folder / "image_vae"),
    )
    data = dataclasses.replace(run.data, frames=4, height=16, width=16)
    return dataclasses.replace(run, system=system, data=data)


def write_llava(folder):
    """Writes a random LLaVA of 4 tokens per image, with the shipped tokenizer."""
    params = jax.jit(functional.build(llava.Llava, LLAVA).init)(jax.random.key(3))
    weights.save(folder, "llava", LLAVA, params, dtype="float32")
    for file in weights.resolve("package:tiny/llava").glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())


def write_memory(folder, scenes):
    """Writes a memory of some of the scenes that `vimi_run` trains on, with its index."""
    store = memory.create(folder)
    source = ToyworldSource("train", caption_style="short", height=16, width=16)
    store.append(documents.from_toyworld(store.folder, source, scenes))
    building.build(store, c.BM25Config())


def vimi_run(frozen, llava_path, memory_path):
    """Returns the config of a run of the second stage of VIMI, of four steps."""
    base = divot_run(frozen)
    system = c.VimiSystemConfig(
        model=c.VimiConfig(
            aligner=c.AlignerConfig(
                llm_width=20, text_width=24, text_length=24, width=16, num_layers=1, num_heads=2,
                head_dim=8, mlp_dim=16,
            ),
            dit=DIT,
        ),
        multimodal=c.MultimodalConfig(path=str(llava_path), length=96),
        memory_path=str(memory_path),
        stage="instruct",
        prompts_per_clip=3,
        vae=VAE,
        vae_path=str(frozen / "vae"),
        sampler=base.system.sampler,
        heldout_clips=2,
        loss_bands=2,
        sample_prompts=1,
    )  # fmt: skip
    return dataclasses.replace(base, system=system)
