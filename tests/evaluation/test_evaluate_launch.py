# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from mimir_jax.config import MimirSystemConfig, TrainConfig, bridge
from tests.test_launch import errors, run


@pytest.mark.parametrize(
    "suite, fails",
    [("loss", "system.vae_path must name"), ("features", "needs at least 4 prompts and 4 runs")],
)
def test_folders_are_claimed_before_anything_is_computed(suite, fails, tmp_path):
    work = tmp_path / "run"
    (work / "checkpoints" / "7").mkdir(parents=True)  # empty: nothing can be computed
    (work / "config.json").write_text(bridge.to_json(TrainConfig(system=MimirSystemConfig())))
    (tmp_path / "file").touch()
    common = ["--suite", suite, "--checkpoint", work, "--runs", 2]

    code, _, err = run("evaluate.py", *common, "--out", tmp_path / "file" / "x")
    assert code == 1 and "x must be writable: Not a directory" in errors(err)[0]

    code, _, err = run("evaluate.py", *common)
    assert code == 1 and fails in errors(err)[0]
    assert not (work / "evaluation" / f"{suite}-7").exists()
