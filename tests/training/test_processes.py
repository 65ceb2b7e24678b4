# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""`launch/train.py` in two real processes."""

import json
import signal
import time

import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.config import bridge
from mimir_jax.training import loop
from mimir_jax.weights import runs
from tests import processes

CONFIG = """
import json
import pathlib
from mimir_jax import config as c
from mimir_jax.config import bridge

def get_config():
    text = pathlib.Path("run.json").read_text()
    return bridge.to_config_dict(bridge.from_values(c.TrainConfig, json.loads(text)))
"""


def train(folder, run, *flags, of_1=()):
    """Two processes of launch/train.py with the same run, in a folder."""
    (folder / "run.json").write_text(bridge.to_json(run))
    (folder / "run.py").write_text(CONFIG)

    def command(address, index):
        place = ["--coordinator", address, "--num_processes", "2", "--process_id", str(index)]
        script = [str(processes.ROOT / "launch/train.py"), "--config", "run.py"]
        return [*script, *flags, *place, *(of_1 if index else ())]

    return processes.Pair(command, folder, JAX_COMPILATION_CACHE_DIR=str(folder / "cache"))


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_processes_of_different_configs_stop_with_the_same_line(vae_run, tmp_path):
    with train(tmp_path, vae_run, of_1=["--config.seed=3"]) as pair:
        ends = pair.wait()
    lines = [error.splitlines()[-1] for _, _, error in ends]
    assert [code for code, _, _ in ends] == [1, 1]
    assert lines[0] == lines[1]
    assert lines[0].startswith("error: processes must run the same: config.seed is 0 on process 0 ")
    assert "and 3 on process 1" in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def bucket_run(mimir_run, replace):
    """Returns the config of a Mimir run with two buckets."""
    buckets = c.BucketsConfig(listed=((9, 32, 32), (1, 32, 64, 16)), weight="token")
    return replace(mimir_run, data=replace(mimir_run.data, buckets=buckets))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae_run", "mimir_run", "bucket_run"])
def test_two_processes_train_go_on_together_and_leave_the_rest_to_one(
    kind, request, tmp_path, replace
):
    run = request.getfixturevalue(kind)
    optimizer = replace(run.optimizer, warmup_steps=0)  # or it would depend on `steps`
    run = replace(run, optimizer=optimizer, mesh=replace(run.mesh, data=1, fsdp=-1))
    run = replace(run, steps=3, checkpoint_every=2)
    both, alone = tmp_path / "both", tmp_path / "alone"
    with train(tmp_path, run, "--workdir", str(both)) as pair:
        ends = pair.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "step 3/3" in ends[0][1] and f"{both}/checkpoints/3" in ends[0][1]
    assert "step" not in ends[1][1] and "checkpoint" not in ends[1][1]
    assert list(both.glob("samples/*/sheet.png"))
    with train(tmp_path, replace(run, steps=4), "--workdir", str(both)) as pair:
        ends = pair.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert list(losses(both)) == [1, 2, 3, 4]

    loop.train(replace(run, steps=5, mesh=replace(run.mesh, data=2, fsdp=-1)), both)
    loop.train(replace(run, steps=5), alone)
    assert list(losses(both)) == list(losses(alone)) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(losses(both).values()), list(losses(alone).values()), rtol=1e-5)


@pytest.mark.slow
def test_signal_to_one_process_stops_both_after_the_same_step(vae_run, tmp_path, replace):
    workdir = tmp_path / "run"
    run = replace(vae_run, steps=100_000)
    with train(tmp_path, run, "--workdir", str(workdir)) as pair:
        deadline = time.monotonic() + 900
        metrics = workdir / "metrics.jsonl"
        while time.monotonic() < deadline and not (metrics.exists() and losses(workdir)):
            time.sleep(0.2)
        pair.all[1].send_signal(signal.SIGINT)
        ends = pair.wait()
    assert [code for code, _, _ in ends] == [75, 75], ends
    step = runs.latest_step(workdir)
    assert f"stopped at step {step} and saved" in ends[0][1]
    assert max(losses(workdir)) == step
