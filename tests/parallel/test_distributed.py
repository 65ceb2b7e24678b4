# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Real processes on this machine: `launch/train.py` twice, over gloo."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from ml_collections import config_dict

from mimir_jax.config import TrainConfig, bridge
from mimir_jax.parallel import distributed
from mimir_jax.training import checkpoint, loop

ROOT = pathlib.Path(__file__).parents[2]

CONFIG = """
from mimir_jax import config as c
from mimir_jax.config import bridge

MODEL = c.VAEConfig(
    block_channels=(8, 8, 8), layers_per_block=1, norm_groups=4, latent_channels=4,
    scaling_factor=1.0, sample_height=16, sample_width=16,
)


def get_config():
    return bridge.to_config_dict(c.TrainConfig(
        task=c.VAETaskConfig(model=MODEL, heldout_clips=1),
        data=c.DataConfig(frames=9, height=16, width=16, num_scenes=16),
        optimizer=c.OptimizerConfig(learning_rate=1e-3, warmup_steps=2, ema_decay=0.9),
        mesh=c.MeshConfig(data=1, fsdp=-1),
        steps=3, batch_size=8, log_every=1, checkpoint_every=2,
    ))
"""


class Processes:
    """`count` processes of launch/train.py with two fake devices each."""

    def __init__(self, folder, *flags, count=2, flags_of=None):
        (folder / "tiny.py").write_text(CONFIG)
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        }
        command = [sys.executable, str(ROOT / "launch/train.py"), "--config", "tiny.py"]
        command += ["--coordinator", f"127.0.0.1:{port}", "--num_processes", str(count), *flags]
        self.all = [
            subprocess.Popen(
                [*command, "--process_id", str(i), *(flags_of or {}).get(i, [])],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.all:
            process.kill()
            process.communicate()

    def wait(self):
        """Returns exit code, stdout and stderr of each."""
        outputs = [process.communicate(timeout=900) for process in self.all]
        return [(p.returncode, *o) for p, o in zip(self.all, outputs, strict=True)]


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def tiny_config(**changes):
    names = {}
    exec(CONFIG, names)
    values = config_dict.ConfigDict({**names["get_config"]().to_dict(), **changes})
    return bridge.from_config_dict(TrainConfig, values)


def test_processes_of_different_configs_stop_with_the_same_line(tmp_path):
    with Processes(tmp_path, flags_of={1: ["--config.seed=3"]}) as processes:
        ends = processes.wait()
    lines = [error.splitlines()[-1] for _, _, error in ends]
    assert [code for code, _, _ in ends] == [1, 1]
    assert lines[0] == lines[1]
    assert lines[0].startswith("error: processes must run the same: config.seed is 0 on process 0 ")
    assert "and 3 on process 1" in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_processes_train_and_one_goes_on(tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    with Processes(tmp_path, "--workdir", str(both)) as processes:
        ends = processes.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert f"checkpoint: {both}/checkpoints/3" in ends[0][1] and "step 3/3" in ends[0][1]
    assert "step" not in ends[1][1] and "checkpoint" not in ends[1][1]
    assert list(both.glob("samples/*/sheet.png"))

    loop.train(tiny_config(steps=5, mesh={"data": 2, "fsdp": -1}), both)
    loop.train(tiny_config(steps=5), alone)
    assert list(losses(both)) == list(losses(alone)) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(losses(both).values()), list(losses(alone).values()), rtol=1e-5)


@pytest.mark.slow
def test_signal_to_one_process_stops_both_after_the_same_step(tmp_path):
    workdir = tmp_path / "run"
    with Processes(tmp_path, "--workdir", str(workdir), "--config.steps=100000") as processes:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and not (workdir / "metrics.jsonl").exists():
            time.sleep(0.2)
        time.sleep(1.0)
        processes.all[1].send_signal(signal.SIGINT)
        ends = processes.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    step = checkpoint.latest_step(workdir)
    assert f"stopped at step {step} and saved" in ends[0][1]
    assert max(losses(workdir)) == step


@pytest.mark.slow
def test_failure_of_one_process_ends_both(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with Processes(tmp_path, "--workdir", str(tmp_path / "run")) as processes:
        ends = processes.wait()
    assert [code for code, _, _ in ends] == [1, 1]
    assert "must be empty or hold a run" in ends[0][2].splitlines()[-1]
    assert "error: stopped, as process 0 failed: ValueError: workdir" in ends[1][2]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"coordinator": "a:1"}, "given together, got no --num_processes and no --process_id"),
        ({"num_processes": 2}, "given together, got no --coordinator and no --process_id"),
        (dict(coordinator="a:1", num_processes=2, process_id=2), "from 0 to --num_processes - 1"),
        (dict(coordinator="a", num_processes=2, process_id=1), "must be HOST:PORT"),
        ({"join_seconds": 0.0}, "--join_seconds must be positive"),
    ],
)
def test_launch_refuses_flags_that_do_not_fit(values, message):
    with pytest.raises(ValueError, match=message):
        distributed.Launch(**values)


def test_slurm_is_asked_and_one_process_alone_starts_nothing(monkeypatch):
    assert distributed._find(distributed.Launch()) is None
    slurm = dict(
        SLURM_JOB_ID="4096", SLURM_STEP_NODELIST="node[07-08]", SLURM_NTASKS="2",
        SLURM_PROCID="1", SLURM_LOCALID="0",
    )  # fmt: skip
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert distributed._find(distributed.Launch()) == ("node07:61440", 2, 1)
    assert distributed._find(distributed.Launch(num_processes=1)) is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert distributed._find(distributed.Launch()) is None
