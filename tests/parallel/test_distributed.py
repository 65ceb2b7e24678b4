# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from mimir_jax.parallel import distributed
from tests import processes

SCRIPT = """
import json, signal, sys, time
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from mimir_jax.parallel import distributed, mesh
from mimir_jax.training import interrupt

index = int(sys.argv[2])
launch = distributed.Launch(coordinator=sys.argv[1], num_processes=2, process_id=index)
with distributed.session(launch, {"script": 1}):
    told = {"first": distributed.from_first(lambda: [index, "x"])}
    told["all"] = distributed.gather({"process": index})
    rows = distributed.split_rows(3)
    told["rows"] = rows
    told["joined"] = distributed.join_rows(np.array(rows) * 10, 3).tolist()
    spread = NamedSharding(mesh.make_mesh((1, -1, 1, 1)), P("fsdp"))
    whole = np.arange(8.0)
    told["host"] = distributed.to_host(
        jax.make_array_from_callback((8,), spread, lambda where: whole[where])
    ).tolist()
    with interrupt.watch_signals() as stop:
        step = 0
        while not stop.requested(step):
            step += 1
            time.sleep(0.02 + 0.01 * index)
            if step == 5 and index == 1:
                signal.raise_signal(signal.SIGINT)
    told["stopped"] = distributed.gather(step)
    print(json.dumps(told), flush=True)
    if index == 1:
        raise ValueError("disk full")
    time.sleep(600)
"""


@pytest.mark.slow
def test_processes_share_stop_after_the_same_step_and_fail_together(tmp_path):
    command = lambda address, index: ["-c", SCRIPT, address, str(index)]  # noqa: E731
    with processes.Pair(command, tmp_path) as pair:
        ends = pair.wait(500)
    for index, (code, out, error) in enumerate(ends):
        assert code == 1
        assert "stopped" in out, error
        told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
        assert told["first"] == [0, "x"]
        assert told["all"] == [{"process": 0}, {"process": 1}]
        assert told["rows"] == [[0, 1], [2, 2]][index]
        assert told["joined"] == [0, 10, 20]
        assert told["host"] == list(range(8))
        assert len(set(told["stopped"])) == 1
    assert "error: stopped, as process 1 failed: ValueError: disk full" in ends[0][2]
    assert "ValueError: disk full" in ends[1][2]


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


@pytest.mark.parametrize("place", [(4, 4), (0, None), (None, 2)])
def test_a_place_needs_both_of_its_numbers(place):
    with pytest.raises(ValueError, match="--process_id must be from 0 to --num_processes - 1, got"):
        distributed.place(*place)


def test_slurm_is_asked_and_one_process_alone_starts_nothing(monkeypatch):
    assert distributed.find_coordinator(distributed.Launch()) is None
    slurm = dict(
        SLURM_JOB_ID="4096", SLURM_STEP_NODELIST="node[07-08]", SLURM_NTASKS="2",
        SLURM_PROCID="1", SLURM_LOCALID="0",
    )  # fmt: skip
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert distributed.find_coordinator(distributed.Launch()) == ("node07:61440", 2, 1)
    assert distributed.place() == (1, 2)
    assert distributed.place(count=1) == (0, 1)
    assert distributed.place(3, 4) == (3, 4)
    assert distributed.find_coordinator(distributed.Launch(num_processes=1)) is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert distributed.find_coordinator(distributed.Launch()) is None
