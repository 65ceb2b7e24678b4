# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's public folders from the command line: clips again from their tokens, prompts to clips."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.config import DIVOT_REFERENCE
from mimir_jax.diffusion import schedules
from mimir_jax.models import functional
from mimir_jax.models.divot import agent as agent_lib
from mimir_jax.models.divot import model as model_lib
from mimir_jax.sampling import agents, video
from mimir_jax.systems.divot import published as divot
from mimir_jax.systems.divot_llm import published as divot_llm
from mimir_jax.weights import (
    divot_detokenizer,
    divot_pair,
    divot_tokenizer,
    initialization,
    opening,
    rules,
    tensors,
)
from tests import commands, runs
from tests.systems import agents as tiny_agents

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

DETOKENIZER = c.PublishedDetokenizerConfig(
    resampler=c.ResamplerConfig(
        in_width=6, out_width=8, num_queries=6, width=16, num_layers=1, num_heads=2, head_dim=8,
        mlp_dim=16,
    ),
    unet=runs.UNET,
    vae=runs.IMAGE_VAE,
)  # fmt: skip
VIDEO_BEGINS = 2432  # the first of the tokens that the tokenizer of text lacks
FIRST, SECOND = divot_detokenizer.FILES


def named(kind, cfg, seed):
    """Returns random tensors of a network under its public names, and its config."""
    known = opening.FAMILIES[kind]
    table = known.rules(cfg, known.classes[0])
    draw = np.random.default_rng(seed).normal
    shapes = rules.expected_shapes(table, known.abstract(cfg))
    values = {n: (0.2 * draw(size=shape)).astype("f4") for n, shape in shapes.items()}
    return values, known.write_config(cfg, known.classes[0])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder of tokenizer and de-tokenizers, tiny and random, and a clip."""
    root = tmp_path_factory.mktemp("public")
    folder = root / divot_pair.FOLDER
    folder.mkdir()
    values, stated = named("divot_tokenizer", tiny_agents.TOKENIZER, 0)
    for file, part in divot_tokenizer.split(values).items():
        tensors.write_torch(folder / file, part)
    for seed, file in enumerate((FIRST, SECOND), 1):
        values, more = named("divot_detokenizer", DETOKENIZER, seed)
        levels = schedules.make_schedule(c.DiffusionConfig()).alphas_cumprod
        tensors.write_torch(folder / file, values | {"alphas_cumprod": levels.astype("f2")})
    (folder / "config.json").write_text(json.dumps(more | stated))
    clip = np.random.default_rng(0).integers(0, 255, (16, 16, 16, 3), np.uint8)
    video.write_mp4(root / "clip.mp4", clip, fps=8.0)
    return root


@pytest.fixture(scope="module")
def llm(root):
    """An LLM that begins a clip after any text, in its public folder, with its tokenizer."""
    text = root / divot_llm.TEXT
    text.mkdir()
    for file in weights.resolve("package:tiny/llm").glob("tokenizer*"):
        (text / file.name).write_bytes(file.read_bytes())
    draw = np.random.default_rng(0).normal
    abstract = functional.build(agent_lib.Agent, tiny_agents.MODEL).abstract_params
    params = jax.tree.map(lambda x: 0.2 * draw(size=x.shape).astype("f4"), abstract)
    params = tiny_agents.prefer(jax.device_put(params), VIDEO_BEGINS)
    weights.save(root / "native", "divot_llm", tiny_agents.MODEL, params)
    weights.convert(root / "native", root / "Divot_sft_gen", to="divot")
    return root / "Divot_sft_gen"


@pytest.mark.slow
def test_the_folder_reconstructs_as_the_published_code_does(root, tmp_path):
    code, _, err = commands.call(
        "sample", "--checkpoint", root / divot_pair.FOLDER, "--reconstruct",
        root / "clip.mp4", "--steps", 2, "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    record = json.loads((tmp_path / "out/000.json").read_text())
    wanted = dataclasses.asdict(dataclasses.replace(DIVOT_REFERENCE, steps=2))
    assert record["sampler"] == wanted and record["checkpoint"].endswith(FIRST)
    assert (record["frames"], record["height"], record["width"]) == (16, 16, 16)
    assert (tmp_path / "out/000-clip.mp4").is_file()


@pytest.mark.slow
def test_levels_of_the_file_belong_to_the_reference(root):
    read = divot.read(root / divot_pair.FOLDER / FIRST)
    run = read.config
    assert run.system.model.detokenizer == DETOKENIZER.network
    computed = schedules.make_schedule(run.system.diffusion).alphas_cumprod
    given = read.make_sampler(run.system.sampler)
    np.testing.assert_array_equal(given.schedule.alphas_cumprod, computed.astype("f2"))
    clean = dataclasses.replace(run.system.sampler, variant="clean")
    sampler = read.make_sampler(clean)
    np.testing.assert_array_equal(sampler.schedule.alphas_cumprod, computed)


def test_stages_are_chosen_by_what_they_draw(root, tmp_path):
    folder = root / divot_pair.FOLDER
    assert divot_pair.find_detokenizer(folder, generates=True).name == SECOND
    assert divot_pair.find_detokenizer(folder, generates=False).name == FIRST
    assert divot_pair.find_detokenizer(folder / SECOND, generates=False).name == SECOND
    assert divot_pair.is_published(folder / SECOND) and not divot_pair.is_published(tmp_path)


def test_steps_beyond_the_noise_levels_are_refused_before_weights_are_read():
    sampler = dataclasses.replace(DIVOT_REFERENCE, steps=3)
    with pytest.raises(ValueError, match="got 1..1000 with .* and 3 steps; choose another number"):
        divot.make_sampler(DETOKENIZER, sampler)


def test_an_llm_finds_what_it_reads_beside_it(root, llm, tmp_path):
    run = agents.read_run(llm)
    sizes = {"denoiser_width": tiny_agents.MODEL.denoiser_width, "denoiser_layers": 1}  # of no file
    assert dataclasses.replace(run.system.model, **sizes) == tiny_agents.MODEL
    assert run.system.form == "instruct"
    assert run.system.clip_tokenizer_path == str(root / divot_pair.FOLDER)
    assert run.system.tokenizer_path == str(root / divot_llm.TEXT)
    alone = tmp_path / "alone/Divot_pretrain"
    shutil.copytree(llm, alone)
    with pytest.raises(ValueError, match=f"must have the folder {divot_pair.FOLDER}"):
        agents.read_run(alone)
    for name in (divot_pair.FOLDER, divot_llm.TEXT):
        (alone.parent / name).symlink_to(root / name)
    assert agents.read_run(alone).system.form == "pretrain"


@pytest.mark.slow
def test_training_starts_from_the_files(root):
    """The tokenizer, resampler and U-Net of the run, and the VAE as its frozen one."""
    folder = root / divot_pair.FOLDER
    read = divot.read(folder / FIRST)
    model = functional.build(model_lib.Divot, read.config.system.model)
    loaded = initialization.read_init(f"{folder},{folder / FIRST}", model)
    whole = read.load()
    jax.tree.map(np.testing.assert_array_equal, loaded, whole)
    vae, _ = weights.load(folder / FIRST, kind="image_vae")
    assert vae.config == runs.IMAGE_VAE


@pytest.mark.slow
def test_a_published_llm_writes_describes_and_reconstructs(root, llm, tmp_path):
    args = ("--checkpoint", llm, "--steps", 2)
    code, _, err = commands.call("sample", *args, "--prompt", "a red circle", "--out",
                                 tmp_path / "prompt")  # fmt: skip
    assert code == 0, err
    record = json.loads((tmp_path / "prompt/000.json").read_text())
    assert record["checkpoint"].endswith(SECOND) and record["tokens_content"]
    code, _, err = commands.call("sample", *args, "--reconstruct", root / "clip.mp4", "--out",
                                 tmp_path / "again")  # fmt: skip
    assert code == 0, err
    record = json.loads((tmp_path / "again/000.json").read_text())
    assert record["checkpoint"].endswith(FIRST)
    code, out, err = commands.call("sample", *args[:2], "--describe", root / "clip.mp4")
    assert code == 0 and out, err


@pytest.mark.slow
def test_what_cannot_be_opened_is_one_line(root, tmp_path):
    folder = root / divot_pair.FOLDER
    args = ("--reconstruct", root / "clip.mp4", "--out", tmp_path / "none")
    line = commands.error_of("sample", "--checkpoint", folder, "--step", 3, *args)
    assert "must be a run to have a start and steps" in line
    line = commands.error_of("sample", "--checkpoint", folder, "--lora", "x", *args)
    assert "has no video transformer for adapters" in line
    line = commands.error_of("sample", "--checkpoint", folder, "--height", 20, *args)
    assert "--height must be a multiple of 8" in line
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    wider = dataclasses.replace(
        DETOKENIZER, resampler=dataclasses.replace(DETOKENIZER.resampler, in_width=7)
    )
    tensors.write_torch(other / FIRST, named("divot_detokenizer", wider, 1)[0])
    line = commands.error_of("sample", "--checkpoint", other, *args)
    assert "must read the tokens of 6 numbers that its tokenizer makes, it reads 7" in line
