# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from mimir_jax import config as c
from mimir_jax.parallel import topology
from mimir_jax.training import ahead


@pytest.fixture
def sharded(mimir_run):
    return dataclasses.replace(mimir_run, mesh=c.MeshConfig(data=2, fsdp=2, tensor=2))


def test_a_train_step_is_compiled_for_a_mesh(sharded):
    place = topology.find("cpu:8")
    report = ahead.compile_run(sharded, place, "train")
    assert report.mesh == {"data": 2, "fsdp": 2, "context": 1, "tensor": 2}
    assert report.memory["total"] == sum(v for k, v in report.memory.items() if k != "total")
    assert report.memory["optimizer"] > report.memory["parameters"] == report.memory["average"]
    assert report.executed_flops == report.flops > 0
    assert report.traffic["all-reduce"].count > 0
    assert report.fits is None and report.least_seconds is None
    told = ahead.text(report)
    assert "8 devices (data 2, fsdp 2, tensor 2), batch 8" in told and "all-reduce" in told

    whole = dataclasses.replace(sharded, mesh=c.MeshConfig(strategy="replicated"))
    assert (
        report.memory["parameters"] < ahead.compile_run(whole, place, "train").memory["parameters"]
    )


def test_chips_bound_the_time():
    chip = topology.Chip(memory=100.0, flops=10.0, bandwidth=1.0, link=2.0)
    report = ahead.Report(
        what="train", topology="t", devices=2, mesh={"data": 2}, batch_size=2,
        memory={"parameters": 90, "total": 120}, capacity=chip.memory, flops=30,
        executed_flops=40, traffic={}, compute_seconds=2.0, link_seconds=3.0, compile_seconds=1.0,
    )  # fmt: skip
    assert report.fits is False and report.least_seconds == 3.0
    told = ahead.text(report)
    assert "does NOT fit" in told and "bound by links" in told and "at most 50 %" in told


def test_what_cannot_be_compiled_is_named(sharded, vae_run):
    place = topology.find("cpu:8")
    odd = dataclasses.replace(sharded, batch_size=6)
    with pytest.raises(ValueError, match="batch_size must be a multiple of data x fsdp = 4"):
        ahead.compile_run(odd, place, "train")
    with pytest.raises(ValueError, match="needs a text_to_video run, got 'vae'"):
        ahead.compile_run(vae_run, place, "sample")
    dit = dataclasses.replace(sharded.task.model.dit, attention="pallas")
    model = dataclasses.replace(sharded.task.model, dit=dit)
    task = dataclasses.replace(sharded.task, model=model)
    with pytest.raises(ValueError, match="dit.attention=pallas needs tpu devices, got cpu"):
        ahead.compile_run(dataclasses.replace(sharded, task=task), place, "train")
    language = dataclasses.replace(sharded, task=c.LanguageTaskConfig(model=c.TINY_T5, kind="t5"))
    with pytest.raises(ValueError, match="text_to_video or vae to be compiled ahead, got 't5'"):
        ahead.compile_run(language, place, "train")
