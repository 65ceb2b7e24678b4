# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The README's commands run as printed; published weights are tiny random folders of their layout.

Each command gets what a test cannot spare appended: fewer steps, smaller sizes.
"""

import dataclasses
import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest

from mimir_jax import weights
from mimir_jax.config import LLMConfig, RopeConfig
from tests import commands, test_launch
from tests.data import video_files
from tests.models import dit_reference, llm_reference, vae_reference
from tests.sampling import test_cogvideox

README = pathlib.Path(__file__).parent.parent / "README.md"
DIT = dataclasses.replace(test_cogvideox.VARIANTS["5b"], sample_height=8, sample_width=8)
PHI = LLMConfig(
    vocab_size=2432, width=24, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=12, mlp_dim=40,
    rope=RopeConfig(max_length=512, original_max_length=512),
)  # fmt: skip


def fields(prefix, config, names):
    return [f"--config.{prefix}.{name}={getattr(config, name)}" for name in names.split()]


SIZES = "num_layers num_heads head_dim in_channels out_channels text_width text_length time_width"
SIZES = f"{SIZES} sample_frames sample_height sample_width"
CLIPS = [
    *("--config.steps=2", "--config.eval_every=0", "--config.sample_every=0"),
    *("--config.data.frames=9", "--config.data.height=16", "--config.data.width=16"),
    *("--config.batch_size=8", "--config.optimizer.grad_accumulation=1"),
    *fields("system.vae", test_cogvideox.VAE, "latent_channels layers_per_block norm_groups"),
    "--config.system.vae.block_channels=(8,8,8)",
    *("--config.system.vae.sample_height=48", "--config.system.vae.sample_width=40"),
    f"--config.system.text.length={DIT.text_length}",
    *("--config.system.sampler.steps=2", "--config.system.heldout_clips=8"),
    "--config.system.sample_prompts=0",
]
MIMIR = [
    *CLIPS,
    *fields("system.model.dit", DIT, SIZES),
    *(
        f"--config.system.model.{part}.t5_width={DIT.text_width}"
        for part in ("fuser", "stabilizer")
    ),
    *(f"--config.system.model.{part}.llm_width={PHI.width}" for part in ("fuser", "stabilizer")),
    *("--config.system.text.num_answers=2", "--config.system.text.answer_length=4"),
    "--config.system.text.instruction_length=160",
]
FEW = ["--config.data.toyworld.num_scenes=8", "--config.system.heldout_clips=8"]
APPENDED = {
    "train --config cogvideox:5b-lora": [*CLIPS, *fields("system.dit", DIT, SIZES)],
    "train --config mimir:5b --workdir runs/5b": MIMIR,
    "train --config mimir:5b --workdir runs/pod": [
        *MIMIR,
        "--config.system.model.dit.attention=xla",
    ],
    "precompute": FEW,
    "train --workdir runs/fast": [*FEW, "--config.steps=2", "--config.judge.scenes=0"],
    "sample --checkpoint $COG": ["--frames", 9, "--height", 16, "--width", 16, "--steps", 2],
    "sample --checkpoint runs/mimir": ["--steps", 2],
    "train --config cogvideox:tiny-i2v": [*FEW, "--config.steps=2", "--config.data.frames=9"],
    "sample --checkpoint package:tiny/i2v": ["--steps", 2],
    "convert": [],
    "train --config divot:tiny": [*FEW, "--config.steps=2", "--config.data.frames=9"],
    "sample --checkpoint package:tiny/divot --reconstruct": ["--steps", 2],
    "sample --checkpoint package:tiny/divot --describe": [],
    "sample --checkpoint package:tiny/vimi": ["--steps", 2],
    "index --out memory --query": [],
    "index --out memory": ["--scenes", 8],
    "evaluate toyworld": ["--scenes", 1, "--steps", 2],
}
"""What a command gets appended, by its beginning."""

ELSEWHERE = {
    "compile": "needs libtpu",
    "ablate": "tests/evaluation",
    "recipe": "hours",
    "prepare": "footage",
}
"""What is not run here, by its beginning, and why."""


def job_commands():
    """Returns the commands of the section Jobs, without the program's name."""
    (_, jobs) = README.read_text().split("\n## Jobs\n")
    blocks = re.findall(r"```bash\n(.*?)```", jobs.split("\n## ")[0], re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").replace("&&", "\n").splitlines()
    lines = [" ".join(line.split()) for line in lines]
    return [line.removeprefix("mimir-jax ") for line in lines if line.startswith("mimir-jax ")]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Returns the folders behind the variables that the README sets."""
    diffusers = pytest.importorskip("diffusers")
    root = tmp_path_factory.mktemp("published")
    diffusers.CogVideoXPipeline(
        tokenizer=test_cogvideox.make_tokenizer(root / "tokenizer"),
        text_encoder=test_cogvideox.make_text_encoder(),
        vae=vae_reference.make_reference(test_cogvideox.VAE),
        transformer=dit_reference.make_reference(DIT),
        scheduler=test_cogvideox.make_scheduler("dpm", 1.0),
    ).save_pretrained(root / "cog")
    llm_reference.build("phi3", PHI).save_pretrained(root / "phi")
    for file in weights.resolve("package:tiny/llm").glob("tokenizer*"):
        shutil.copy(file, root / "phi")
    (root / "clips").mkdir()
    for number in range(24):
        images = [np.full((32, 32, 3), 4 * (i + number), np.uint8) for i in range(27)]
        video_files.write_video(root / "clips" / f"{number}.mp4", images)
        (root / "clips" / f"{number}.txt").write_text("a grey square grows brighter")
    heart = README.parent / "docs/heart.png"
    return {
        "$COG": root / "cog", "$PHI": root / "phi", "$CLIPS": root / "clips",
        "docs/heart.png": heart,
    }  # fmt: skip


@pytest.mark.slow
def test_jobs_run_as_printed(published, tmp_path, monkeypatch):
    test_launch.enter(tmp_path, monkeypatch)
    code, _, err = commands.call(
        "train", *FEW, "--config.steps=2", "--config.judge.scenes=0", "--config.data.frames=9"
    )
    assert code == 0, err
    seen = set()
    for line in job_commands():
        if line.startswith(tuple(ELSEWHERE)):
            continue
        start = next(start for start in APPENDED if line.startswith(start))
        seen.add(start)
        words = shlex.split(line)
        for variable, folder in published.items():
            words = [word.replace(variable, str(folder)) for word in words]
        code, _, err = commands.call(*words, *APPENDED[start])
        assert code == 0, f"{line}\n{err}"
    assert seen == set(APPENDED)
