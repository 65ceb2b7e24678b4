# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import pytest

from mimir_jax import config as c
from mimir_jax.config import bridge, checks, registry
from mimir_jax.errors import InputError
from mimir_jax.systems.mimir import presets
from mimir_jax.weights import native

HERE = pathlib.Path(__file__).parent
SYSTEMS = [
    c.MimirSystemConfig(),
    c.CogVideoXSystemConfig(),
    c.VAESystemConfig(),
    c.LanguageSystemConfig(model=c.TINY_T5),
    c.LanguageSystemConfig(kind="llm", model=c.TINY_LLM),
]


def a_run(**fields):
    return c.TrainConfig(**{"system": c.MimirSystemConfig()} | fields)


def test_config_imports_no_jax():
    code = "import sys; from mimir_jax import config as c; from mimir_jax.config import registry\n"
    code += "registry.find_config('mimir:tiny'), registry.system_classes()\n"
    code += "[getattr(c, name) for name in dir(c)]\n"
    code += "assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_round_trip_through_flags_and_json():
    run = a_run(optimizer=c.OptimizerConfig(lr_scale=(("^fuser/", 10.0),), freeze=("dit",)))
    assert bridge.from_config_dict(c.TrainConfig, bridge.to_config_dict(run)) == run
    assert bridge.from_values(c.TrainConfig, json.loads(bridge.to_json(run))) == run


@pytest.mark.parametrize("system", SYSTEMS)
def test_systems_are_found_by_their_kind(system):
    run = c.TrainConfig(system=system)
    assert bridge.from_values(c.TrainConfig, json.loads(bridge.to_json(run))) == run


def test_a_new_folder_is_a_new_system(tmp_path, monkeypatch):
    from mimir_jax import systems

    folder = tmp_path / "probe"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "config.py").write_text(
        "import dataclasses\nfrom typing import Literal\n"
        "from mimir_jax.config.registry import SystemConfig\n\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class ProbeConfig(SystemConfig):\n"
        "    kind: Literal['probe'] = 'probe'\n    size: int = 1\n\n"
        "    def check_run(self, run):\n        pass\n"
    )
    (folder / "presets.py").write_text(
        "from mimir_jax import config as c\n"
        "from mimir_jax.systems.probe.config import ProbeConfig\n\n"
        "PRESETS = {'one': lambda: c.TrainConfig(system=ProbeConfig())}\n\n"
        "def get_config(preset='one'):\n    return c.pick_preset(PRESETS, preset)\n"
    )
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(tmp_path)])
    values = c.find_config("probe")
    values.system.size = 3
    assert bridge.from_config_dict(c.TrainConfig, values).system.size == 3
    for name in [name for name in sys.modules if name.startswith("mimir_jax.systems.probe")]:
        del sys.modules[name]


def test_presets_are_found_by_name():
    config = bridge.from_config_dict(c.TrainConfig, c.find_config("mimir:tiny/zeroconv"))
    assert config.system.ablation == "zeroconv" and config == presets.ablate(
        presets.tiny(), "zeroconv"
    )
    with pytest.raises(
        InputError,
        match="one of cogvideox, divot, divot_llm, language, mimir, vae, vimi, got 'mimi'",
    ):
        c.find_config("mimi:tiny")
    for name, listed in registry.presets().items():
        for preset in listed.values():
            assert re.search(r"Command: .*Hardware: .*Time: .*Expect: ", preset.__doc__, re.S), name


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: c.DataConfig(frames=-7), "^DataConfig.frames must be at least 1, got -7$"),
        (lambda: c.DataConfig(height=0), "height must be at least 1, got 0"),
        (lambda: c.DataConfig(fps=24.0), "fps must be 8 for Toyworld.*; leave it out"),
        (lambda: c.DataConfig(source="folder"), "folder.path must name a folder"),
        (lambda: c.DataConfig(source="tfds", tfds=c.TfdsConfig(path="x")), "tfds.name must name"),
        (lambda: c.TextConfig(answer_top_p=0.0), "answer_top_p must be above 0 and at most 1"),
        (lambda: c.TextConfig(answer_length=0), "answer_length must be at least 1, got 0"),
        (lambda: c.MimirSystemConfig(caption_dropout=1.5), "at least 0 and at most 1, got 1.5"),
        (lambda: c.MimirSystemConfig(sample_prompts=-1), "sample_prompts must be at least 0"),
        (lambda: c.OptimizerConfig(ema_decay=1.0), "at least 0 and below 1, got 1.0"),
        (lambda: c.OptimizerConfig(learning_rate=float("nan")), "must be above 0, got nan"),
        (lambda: c.OptimizerConfig(freeze=("^dit/(",)), "freeze must hold regular expressions"),
        (
            lambda: c.OptimizerConfig(delay=(("^dit/", -1),)),
            "delay must pair each pattern with a number of at least 0, got -1 for",
        ),
        (
            lambda: c.OptimizerConfig(lr_scale=(("^dit/", float("nan")),)),
            "lr_scale must pair each pattern with a number of at least 0, got nan for",
        ),
        (
            lambda: c.DiTConfig(position="rope+learned", sample_height=5),
            "^DiTConfig.sample_height .* a multiple, of patch, got 5 and 2$",
        ),
        (lambda: c.DiTConfig(sample_width=1), "sample_width must be at least .* got 1 and 2$"),
        (lambda: c.LanguageSystemConfig(kind="llm"), "kind must be the kind of the model"),
        (lambda: a_run(eval_every=-1), "eval_every must be at least 0, got -1"),
        (lambda: a_run(steps=0), "steps must be at least 1, got 0"),
        (lambda: a_run(data=c.DataConfig(height=100)), "data.height .* multiple of 16 .* is 96"),
        (
            lambda: a_run(batch_size=6, optimizer=c.OptimizerConfig(grad_accumulation=4)),
            "batch_size must be a multiple of optimizer.grad_accumulation, got 6 and 4",
        ),
        (
            lambda: c.TrainConfig(
                system=c.CogVideoXSystemConfig(dit=c.DiTConfig(attention="pallas")),
                mesh=c.MeshConfig(context_parallel="ring"),
            ),
            "system.dit.attention must be xla where mesh.context_parallel is ring",
        ),
    ],
)
def test_values_out_of_range_give_one_line(make, message):
    with pytest.raises(InputError, match=message):
        make()


def set_field(values, field, value):
    """Builds the run of nested `values` with one field set as by a flag."""
    name, _, rest = field.partition(".")
    return values | {name: set_field(values[name], rest, value) if rest else value}


def built(values):
    return bridge.from_config_dict(c.TrainConfig, values)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("steps", "many", "^steps must be int, got 'many'; set it with --config.steps$"),
        ("wings", 2, "config has no field 'wings'; it has system, data"),
        ("data.wings", 2, "config.data has no field 'wings'"),
        (
            "system",
            {"kind": "audio"},
            "system.kind must be one of aligner, captioning, clip_captioning, cogvideox, contrast,",
        ),
        (
            "data.frames",
            18,
            r"data.frames must be 8N\+1 .* got 18; the nearest is 17, set it with --config.data.fr",
        ),
        (
            "system.model.dit.head_dim",
            40,
            "^system.model.dit.head_dim must .* got 40; set it with --config.system.model.dit.head",
        ),
        (
            "system.model.fuser.t5_width",
            8,
            "either with --config.system.model.fuser.t5_width or --config.system.model.dit.text",
        ),
        (
            "system.model.stabilizer.enabled",
            False,
            "must be True in row 'mimir' .*--config.system.ablation=None chooses",
        ),
    ],
)
def test_errors_of_flags_name_the_whole_path(field, value, message):
    with pytest.raises(InputError, match=message):
        built(set_field(bridge.to_config_dict(a_run()).to_dict(), field, value))


def leaves(values, path=()):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield ".".join((*path, name)), value


def wrong(value):
    """Values of the same type that some check may refuse."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [-1, 7]
    if isinstance(value, float):
        return [-1.0, float("nan")]
    if isinstance(value, tuple):
        return [(), ("(",), (7,)]
    choices = {"rope": "crop", "xla": "cudnn", "ulysses": "ring", "toyworld": "tfds", "t5": "llm"}
    return ["", choices.get(value, "float16")]


@pytest.mark.parametrize(
    "system",
    [
        pytest.param(s, marks=pytest.mark.slow if s.kind in ("cogvideox", "mimir") else ())
        for s in SYSTEMS
    ],
    ids=lambda system: system.kind,
)
def test_no_message_names_a_field_that_does_not_exist(system):
    values = bridge.to_config_dict(c.TrainConfig(system=system)).to_dict()
    walked = values if system.kind == "mimir" else {"system": values["system"]}
    refused = 0
    for field, value in leaves(walked):
        for other in wrong(value):
            try:
                built(set_field(values, field, other))
            except InputError as error:
                refused += 1
                named = re.findall(r"--config\.([\w.]*\w)", str(error))
                named += re.findall(r"\b((?:system|data|optimizer|mesh)\.[\w.]*\w)", str(error))
                assert all(known(values, name) for name in named), str(error)
    assert refused > 10


def known(values, dotted):
    for part in dotted.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def test_a_field_error_can_be_mounted_anywhere():
    with pytest.raises(checks.FieldError) as caught:
        c.DiTConfig(attention="cudnn")
    mounted = str(caught.value.mounted(checks.Mount("a.b", flags=True)))
    assert mounted.startswith("a.b.dtype must have 16 bits where a.b.attention is cudnn, got")
    assert mounted.endswith("set either with --config.a.b.dtype or --config.a.b.attention")


def test_patterns_keep_their_order_and_flags_can_write_them():
    values = bridge.to_config_dict(a_run())
    values.optimizer.lr_scale = (("^dit/blocks.*", 0.1), ("^dit/", 2))
    run = bridge.from_config_dict(c.TrainConfig, values)
    assert run.optimizer.lr_scale == (("^dit/blocks.*", 0.1), ("^dit/", 2.0))
    values.optimizer.lr_scale = ("^dit/", 2.0)
    with pytest.raises(InputError, match="optimizer.lr_scale must be tuple"):
        bridge.from_config_dict(c.TrainConfig, values)


def test_parts_are_chosen_one_by_one_where_no_row_is():
    values = bridge.to_config_dict(a_run())
    values.system.model.stabilizer.enabled = False
    values.system.ablation = "None"
    network = bridge.from_config_dict(c.TrainConfig, values).system.network
    assert network.fuser.zero_conv and not network.stabilizer.enabled


def test_a_file_older_than_a_field_takes_its_default():
    run = c.TrainConfig(system=c.LanguageSystemConfig(model=c.TINY_T5), mesh=c.MeshConfig(fsdp=2))
    values = bridge.to_config_dict(run).to_dict()
    del values["mesh"]["context"], values["system"]["model"]["remat"]
    assert bridge.from_values(c.TrainConfig, values) == run
    del values["system"]
    with pytest.raises(InputError, match="must have a field 'system'"):
        bridge.from_values(c.TrainConfig, values)


def test_old_runs_are_upgraded_when_they_are_read():
    old = json.loads((HERE / "old_run.json").read_text())
    run = bridge.from_values(c.TrainConfig, old)
    assert (run.system.kind, run.system.ablation) == ("mimir", "baseline")
    assert run.system.dit.remat == "dots" and run.system.dit.num_layers == 6
    assert (run.system.sampler.guidance_scale, run.system.sampler.dynamic_guidance) == (4.0, "off")
    assert run.data.toyworld == c.ToyworldConfig(num_scenes=256, variety="single")
    assert run.optimizer.grad_accumulation == 2 and run.mesh == c.MeshConfig()
    old["data"] |= {"source": "tfds", "path": "a", "name": "b", "start": "first", "short": "repeat"}
    data = bridge.from_values(c.TrainConfig, old).data
    assert (data.tfds.path, data.tfds.name, data.folder.path) == ("a", "b", None)
    assert (data.window, data.short_clips) == ("first", "repeat")
    assert bridge.from_values(c.TrainConfig, json.loads(bridge.to_json(run))) == run


def test_old_runs_of_vimi_name_images_as_today():
    run = c.from_config_dict(c.TrainConfig, c.find_config("vimi:tiny/stage2"))
    values = json.loads(bridge.to_json(run))
    system = values["system"]
    for section, old, new in (
        (system["sampler"], "picture_guidance_scale", "image_guidance_scale"),
        (system["tasks"], "max_pictures", "max_images"),
        (system, "picture_latents", "reference_latents"),
        (system, "picture_dropout", "image_dropout"),
    ):
        section[old] = section.pop(new)
    assert bridge.from_values(c.TrainConfig, values) == run


@pytest.mark.parametrize("name", ["base", "llm", "t5", "vae"])
def test_shipped_folders_open(name):
    folder = HERE.parent / "mimir_jax" / "assets" / "tiny" / name
    header = json.loads((folder / "config.json").read_text())
    header["config"] |= {"remat": "products"} if name == "t5" else {}
    kind, config = native.read_header(folder, header)
    sizes = {
        "dit": c.TINY_DIT,
        "llm": c.TINY_LLM,
        "t5": dataclasses.replace(c.TINY_T5, remat="dots"),
        "vae": c.TINY_VAE,
    }
    assert config == sizes[kind]


def test_differences_are_dotted():
    a = a_run()
    b = dataclasses.replace(a, seed=1, data=dataclasses.replace(a.data, window="first"))
    assert bridge.differences(a, b) == ["data.window", "seed"]
