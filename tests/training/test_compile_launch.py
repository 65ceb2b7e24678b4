# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--config.data.frames=9", "--config.data.height=32", "--config.data.width=32",
         "--config.system.model.dit.num_layers=1"]  # fmt: skip


def test_a_kernel_that_the_topology_lacks_is_refused_in_one_line(tmp_path):
    command = [sys.executable, ROOT / "launch/compile.py", "--topology=cpu:2"]
    done = subprocess.run(
        [*command, *SMALL, "--config.system.model.dit.attention=cudnn"], cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "dit.attention is cudnn" in done.stderr


@pytest.mark.slow
def test_a_run_is_compiled_and_told_with_its_frozen_networks(tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, ROOT / "launch/compile.py", "--topology=cpu:2", f"--json={out}"]
    done = subprocess.run(
        [*command, *SMALL], cwd=ROOT, env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["mesh"]["data"] == 2 and report["fits"] is None and report["seconds"] == {}
    size = f"frozen networks {report['memory']['frozen networks'] / 1e9:.2f} GB"
    assert size in done.stdout  # of the estimate
    assert "train on cpu:2: 2 devices" in done.stdout and "no collectives" not in done.stdout
