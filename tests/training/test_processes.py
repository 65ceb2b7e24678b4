# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Real processes on this machine: `launch/train.py` twice, two fake devices each, over gloo."""

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

from mimir_jax.config import bridge
from mimir_jax.training import checkpoint, loop

ROOT = pathlib.Path(__file__).parents[2]

CONFIG = """
import pathlib
from mimir_jax import config as c
from mimir_jax.config import bridge

def get_config():
    text = pathlib.Path("run.json").read_text()
    return bridge.to_config_dict(bridge.from_json(c.TrainConfig, text))
"""


class Processes:
    """Two processes of launch/train.py with the same run, in a folder."""

    def __init__(self, folder, run, *flags, of_1=()):
        (folder / "run.json").write_text(bridge.to_json(run))
        (folder / "run.py").write_text(CONFIG)
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        }
        command = [sys.executable, str(ROOT / "launch/train.py"), "--config", "run.py", *flags]
        command += ["--coordinator", f"127.0.0.1:{port}", "--num_processes", "2", "--process_id"]
        self.all = [
            subprocess.Popen(
                [*command, *more],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for more in (["0"], ["1", *of_1])
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.all:
            process.kill()
            process.communicate()

    def wait(self):
        """Returns exit code, stdout and stderr of each."""
        outputs = [process.communicate(timeout=1800) for process in self.all]
        return [(p.returncode, *o) for p, o in zip(self.all, outputs, strict=True)]


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_processes_of_different_configs_stop_with_the_same_line(vae_run, tmp_path):
    with Processes(tmp_path, vae_run, of_1=["--config.seed=3"]) as processes:
        ends = processes.wait()
    lines = [error.splitlines()[-1] for _, _, error in ends]
    assert [code for code, _, _ in ends] == [1, 1]
    assert lines[0] == lines[1]
    assert lines[0].startswith("error: processes must run the same: config.seed is 0 on process 0 ")
    assert "and 3 on process 1" in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae_run", "mimir_run"])
def test_two_processes_train_and_one_goes_on(kind, request, tmp_path, replace):
    run = request.getfixturevalue(kind)
    run = replace(run, mesh=replace(run.mesh, data=1, fsdp=-1), steps=3, checkpoint_every=2)
    both, alone = tmp_path / "both", tmp_path / "alone"
    with Processes(tmp_path, run, "--workdir", str(both)) as processes:
        ends = processes.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "step 3/3" in ends[0][1] and f"{both}/checkpoints/3" in ends[0][1]
    assert "step" not in ends[1][1] and "checkpoint" not in ends[1][1]
    assert list(both.glob("samples/*/sheet.png"))

    loop.train(replace(run, steps=5, mesh=replace(run.mesh, data=2, fsdp=-1)), both)
    loop.train(replace(run, steps=5), alone)
    assert list(losses(both)) == list(losses(alone)) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(losses(both).values()), list(losses(alone).values()), rtol=1e-5)


@pytest.mark.slow
def test_signal_to_one_process_stops_both_after_the_same_step(vae_run, tmp_path, replace):
    workdir = tmp_path / "run"
    run = replace(vae_run, steps=100_000)
    with Processes(tmp_path, run, "--workdir", str(workdir)) as processes:
        deadline = time.monotonic() + 900
        while time.monotonic() < deadline and not (workdir / "metrics.jsonl").exists():
            time.sleep(0.2)
        time.sleep(1.0)
        processes.all[1].send_signal(signal.SIGINT)
        ends = processes.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    step = checkpoint.latest_step(workdir)
    assert f"stopped at step {step} and saved" in ends[0][1]
    assert max(losses(workdir)) == step
