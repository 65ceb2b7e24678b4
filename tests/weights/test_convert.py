# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import mimir_jax
from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.models import functional, t5
from mimir_jax.models.mimir import model as model_lib

ROOT = pathlib.Path(__file__).parents[2]
WIDE = c.T5Config(vocab_size=4096, width=512, num_layers=4, num_heads=8, head_dim=64, mlp_dim=2048)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A published T5 of 90 MB, so that a conversion takes a while."""
    root = tmp_path_factory.mktemp("wide")
    model = functional.build(t5.T5Encoder, WIDE)
    params = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), model.abstract_params)
    weights.save(root / "native", "t5", WIDE, params)
    weights.convert(root / "native", root / "published", to="transformers")
    return root


@pytest.mark.slow
def test_mimir_goes_out_as_a_transformer_and_a_conditioner(tmp_path):
    dit = dataclasses.replace(c.TINY_DIT, num_layers=1)
    part = dict(t5_width=128, llm_width=160)
    config = c.MimirConfig(
        dit=dit, fuser=c.FuserConfig(**part), stabilizer=c.StabilizerConfig(**part)
    )
    params = jax.jit(functional.build(model_lib.Mimir, config).init)(jax.random.key(0))
    weights.save(tmp_path / "mimir", "mimir", config, params)
    weights.convert(tmp_path / "mimir", tmp_path / "out", to="diffusers")
    model, found = mimir_jax.load(tmp_path / "out" / "transformer")
    assert model.config == dataclasses.replace(dit, remat="full")
    jax.tree.map(np.testing.assert_array_equal, found, params["dit"])
    rest = load_file(tmp_path / "out" / "mimir" / "model.safetensors")
    expected = weights.flatten({k: v for k, v in params.items() if k != "dit"})
    assert rest.keys() == {name.replace("/", ".") for name in expected}
    for name, value in expected.items():
        np.testing.assert_array_equal(rest[name.replace("/", ".")], value)
    header = json.loads((tmp_path / "out" / "mimir" / "config.json").read_text())
    assert header["fuser"]["t5_width"] == 128 and "dit" not in header


def test_only_the_library_of_a_network_is_offered(wide, tmp_path):
    with pytest.raises(ValueError, match="must be native or transformers for a t5"):
        weights.convert(wide / "published", tmp_path / "x", to="diffusers")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match="must not exist"):
        weights.convert(wide / "published", tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_dtype_is_what_is_stored_and_computed_in(wide, tmp_path):
    weights.convert(wide / "published", tmp_path / "half", dtype="bfloat16")
    model, params = mimir_jax.load(tmp_path / "half")
    assert model.config.dtype == "bfloat16"
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"bfloat16"}
    model, params = mimir_jax.load(tmp_path / "half", dtype="float32")
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"float32"}


CONVERT = (
    "import sys; from mimir_jax import weights; weights.convert(*sys.argv[1:3], to=sys.argv[3])"
)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["native", pytest.param("transformers", marks=pytest.mark.slow)])
def test_a_kill_in_the_middle_leaves_nothing_by_that_name(wide, tmp_path, to):
    source = wide / ("published" if to == "native" else "native")
    target = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", CONVERT, str(source), str(target), to])
    while process.poll() is None and not any(
        file.stat().st_size > 1000 for file in tmp_path.rglob("*") if file.is_file()
    ):
        assert not target.exists()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if target.exists():  # it was faster than the kill: then it must be whole
        mimir_jax.load(target)
    else:
        weights.convert(source, target, to=to)  # what was left behind is not in the way
        mimir_jax.load(target)


LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that may not grow fails like a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
runpy.run_path("launch/convert.py", run_name="__main__")
"""


@pytest.mark.parametrize("to", ["native", pytest.param("transformers", marks=pytest.mark.slow)])
def test_a_full_disk_leaves_nothing(wide, tmp_path, to):
    source = wide / ("published" if to == "native" else "native")

    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(source), str(tmp_path / "out"), f"--to={to}"],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
    )
    assert done.returncode == 1
    if to != "native":  # threads of Orbax complain about writes that were still under way
        assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "could not be written" in lines[0], done.stderr
    assert not list(tmp_path.iterdir())
