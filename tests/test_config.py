# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from mimir_jax import config as c
from mimir_jax.cli import flags
from mimir_jax.config import bridge

PALLAS = c.MimirConfig(dit=c.DiTConfig(attention="pallas"))


def test_round_trip_through_flags_and_json():
    run = c.TrainConfig(optimizer=c.OptimizerConfig(lr_scale=(("^fuser/", 10.0),), freeze=("dit",)))
    assert bridge.from_config_dict(c.TrainConfig, bridge.to_config_dict(run)) == run
    assert bridge.from_json(c.TrainConfig, bridge.to_json(run)) == run


@pytest.mark.parametrize("task", [c.VAETaskConfig(), c.LanguageTaskConfig(model=c.TINY_T5),
                                  c.LanguageTaskConfig(kind="llm", model=c.TINY_LLM)])  # fmt: skip
def test_union_fields_find_their_class(task):
    run = c.TrainConfig(task=task)
    assert bridge.from_json(c.TrainConfig, bridge.to_json(run)) == run


def test_overrides_of_a_command_can_be_typed_again(monkeypatch):
    typed = ["--config", "configs/a.py:b", "--config.steps=5", "--config.data.path", "my clips",
             "--workdir", "runs/a", "--config.data.short=repeat"]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["train.py", *typed])
    path, short = " --config.data.path 'my clips'", " --config.data.short=repeat"
    assert flags.overrides() == " --config.steps=5" + path + short
    assert flags.overrides(without="steps") == path + short


def test_counts_of_a_task_are_checked():
    with pytest.raises(ValueError, match="task.heldout_clips must be at least 1, got 0; set it"):
        c.TextToVideoConfig(heldout_clips=0)
    with pytest.raises(ValueError, match="task.sample_prompts must be at least 0, got -1"):
        c.TextToVideoConfig(sample_prompts=-1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: c.DataConfig(frames=-7), "data.frames must be at least 1, got -7; set it with"),
        (lambda: c.DataConfig(height=0), "data.height must be at least 1, got 0"),
        (lambda: c.DataConfig(fps=24.0), "data.fps must be 8 for Toyworld"),
        (lambda: c.DataConfig(source="folder", path="x", fps=0.0), "data.fps must be above 0"),
        (lambda: c.TextConfig(answer_top_p=0.0), "answer_top_p must be above 0 and at most 1"),
        (lambda: c.TextConfig(answer_length=0), "answer_length must be at least 1, got 0"),
        (lambda: c.TextToVideoConfig(caption_dropout=1.5), "at least 0 and at most 1, got 1.5"),
        (lambda: c.OptimizerConfig(ema_decay=1.0), "at least 0 and below 1, got 1.0"),
        (lambda: c.OptimizerConfig(learning_rate=float("nan")), "must be above 0, got nan"),
        (lambda: c.OptimizerConfig(freeze=("^dit/(",)), "freeze must hold regular expressions"),
        (lambda: c.TrainConfig(eval_every=-1), "eval_every must be at least 0, got -1"),
    ],
)
def test_values_out_of_range_give_one_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_patterns_keep_their_order_and_flags_can_write_them():
    values = bridge.to_config_dict(c.TrainConfig())
    values.optimizer.lr_scale = (("^dit/blocks.*", 0.1), ("^dit/", 2))
    run = bridge.from_config_dict(c.TrainConfig, values)
    assert run.optimizer.lr_scale == (("^dit/blocks.*", 0.1), ("^dit/", 2.0))
    values.optimizer.lr_scale = ("^dit/", 2.0)
    with pytest.raises(ValueError, match="config.optimizer.lr_scale must be tuple"):
        bridge.from_config_dict(c.TrainConfig, values)


def test_parts_are_chosen_one_by_one_where_no_row_is():
    values = bridge.to_config_dict(c.TrainConfig())
    values.task.model.stabilizer.enabled = False
    with pytest.raises(ValueError, match="stabilizer.enabled must be True in row 'mimir'"):
        bridge.from_config_dict(c.TrainConfig, values)
    values.task.ablation = "None"
    network = bridge.from_config_dict(c.TrainConfig, values).task.network
    assert network.fuser.zero_conv and not network.stabilizer.enabled


def test_override_is_validated():
    values = bridge.to_config_dict(c.TrainConfig())
    values.init_from = "somewhere"
    values.data.frames = 18
    with pytest.raises(ValueError, match=r"data.frames must be 8N\+1 .* got 18; the nearest is 17"):
        bridge.from_config_dict(c.TrainConfig, values)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("steps", "many", "config.steps must be int, got 'many'"),
        ("wings", 2, "config has no field 'wings'"),
        ("task", {"kind": "audio"}, "config.task.kind must be one of text_to_video, vae, t5, llm"),
    ],
)
def test_bad_values_give_one_line(field, value, message):
    values = bridge.to_config_dict(c.TrainConfig()).to_dict()
    values[field] = value
    with pytest.raises(ValueError, match=message):
        bridge.from_config_dict(c.TrainConfig, values)


def test_a_file_older_than_a_field_takes_its_default():
    run = c.TrainConfig(task=c.LanguageTaskConfig(model=c.TINY_T5), mesh=c.MeshConfig(fsdp=2))
    values = bridge.to_config_dict(run).to_dict()
    del values["mesh"]["context"], values["task"]["model"]["remat"]
    assert bridge.from_config_dict(c.TrainConfig, values) == run


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(data=c.DataConfig(height=100)), "data.height must be a multiple of 16 .* is 96"),
        (dict(batch_size=6, optimizer=c.OptimizerConfig(accumulate=4)), "must be a multiple of"),
        (dict(steps=0), "steps must be at least 1, got 0"),
        (
            dict(mesh=c.MeshConfig(sequence="ring"), task=c.TextToVideoConfig(model=PALLAS)),
            "mesh.sequence=ring computes attention itself and needs dit.attention=xla, got pallas",
        ),
    ],
)
def test_cross_field_checks(change, message):
    with pytest.raises(ValueError, match=message):
        c.TrainConfig(**change)


def test_data_sources_need_their_paths():
    with pytest.raises(ValueError, match="data.path must name a folder"):
        c.DataConfig(source="folder")
    with pytest.raises(ValueError, match="data.name must name the dataset"):
        c.DataConfig(source="tfds", path="x")


def test_differences_are_dotted():
    a = c.TrainConfig()
    b = dataclasses.replace(a, seed=1, data=dataclasses.replace(a.data, start="first"))
    assert bridge.differences(a, b) == ["data.start", "seed"]


def test_memory_that_runs_out_ends_in_one_line():
    def main(argv):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore")

    with pytest.raises(SystemExit, match="error: a device must have memory .* 9 bytes; see docs"):
        flags._one_line(main)([])
    with pytest.raises(RuntimeError, match="something else"):
        flags._one_line(lambda argv: (_ for _ in ()).throw(RuntimeError("something else")))([])


def test_an_interrupt_ends_in_one_line():
    def main(argv):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="stopped; the same command starts again"):
        flags._one_line(main)([])
