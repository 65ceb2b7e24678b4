# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from mimir_jax.parallel import distributed


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
