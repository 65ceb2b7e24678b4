# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mimir_jax
from mimir_jax import config as c
from mimir_jax import remote, weights
from mimir_jax.errors import InputError
from mimir_jax.models import dit, functional, lora
from mimir_jax.weights import adapter_files, adapters
from tests.helpers import relative_error
from tests.weights import references, test_sat

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
RANK = 2
ATTENTION = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
OTHERS = ("transformer_blocks.1.ff.net.0.proj", "patch_embed.text_proj", "norm_out.linear")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folder and torch model of a published transformer."""
    folder = tmp_path_factory.mktemp("base") / "transformer"
    return folder, references.save("5b", folder)


@pytest.fixture(scope="module")
def factors(base):
    """Factors of all attention layers and a few others, by layer of diffusers."""
    modules = dict(base[1].named_modules())
    count = base[1].config.num_layers
    layers = [f"transformer_blocks.{i}.{name}" for i in range(count) for name in ATTENTION]
    rng = np.random.default_rng(0)
    draw = lambda *shape: (0.3 * rng.standard_normal(shape)).astype(np.float32)  # noqa: E731
    sizes = {n: (modules[n].in_features, modules[n].out_features) for n in (*layers, *OTHERS)}
    return {n: (draw(RANK, i), draw(o, RANK)) for n, (i, o) in sizes.items()}


def attention_of(factors):
    return {name: pair for name, pair in factors.items() if ".attn1." in name}


def peft_names(factors, prefix="transformer."):
    out = {}
    for name, (a, b) in factors.items():
        out |= {f"{prefix}{name}.lora_A.weight": a, f"{prefix}{name}.lora_B.weight": b}
    return out


def old_names(factors):
    out = {}
    for name, (a, b) in factors.items():
        name = f"transformer.{name}"
        out |= {f"{name}.lora.down.weight": a, f"{name}.lora.up.weight": b}
    return out


def processor_names(factors):
    out = {}
    for name, (a, b) in attention_of(factors).items():
        name = f"transformer.{name.removesuffix('.0').replace('.to_', '.processor.to_')}_lora"
        out |= {f"{name}.down.weight": a, f"{name}.up.weight": b}
    return out


def kohya_names(factors, prefix="lora_unet_"):
    out = {}
    for name, (a, b) in factors.items():
        name = prefix + name.replace(".", "_")
        out |= {f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b / 2}
        out[f"{name}.alpha"] = np.array(2 * RANK, np.float32)
    return out


def sat_names(factors):
    out = {}
    for name, (a, b) in attention_of(factors).items():
        layer, part = re.fullmatch(
            r"transformer_blocks\.(\d+)\.attn1\.to_(\w+?)(?:\.0)?", name
        ).groups()
        inner = "dense" if part == "out" else "query_key_value"
        at = f"model.diffusion_model.transformer.layers.{layer}.attention.{inner}"
        number = 0 if part == "out" else "qkv".index(part)
        out |= {f"{at}.matrix_A.{number}": a, f"{at}.matrix_B.{number}": b}
    out["model.diffusion_model.mixins.patch_embed.proj.bias"] = np.zeros(3, np.float32)
    return out


FORMS = {
    "diffusers": peft_names,
    "bare": lambda f: peft_names(f, ""),
    "peft": lambda f: peft_names(f, "base_model.model."),
    "down": old_names,
    "processor": processor_names,
    "kohya": kohya_names,
    "kohya-double": lambda f: kohya_names(f, "lora_unet__"),
    "sat": sat_names,
}


def merged(base, factors, scale=1.0):
    state = {name: x.numpy() for name, x in base[1].state_dict().items()}
    return {f"{n}.weight": state[f"{n}.weight"] + scale * b @ a for n, (a, b) in factors.items()}


def published(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("form", FORMS)
def test_every_layout_of_names_merges_alike(base, factors, tmp_path, form):
    named = FORMS[form](factors)
    own = attention_of(factors) if form in ("processor", "sat") else factors
    file = tmp_path / "lora.safetensors"
    save_file({name: np.ascontiguousarray(x) for name, x in named.items()}, file)
    weights.convert(base[0], tmp_path / "out", to="diffusers", lora=[f"{file}:0.5"])
    found, before = published(tmp_path / "out"), published(base[0])
    expected = merged(base, own, 0.5)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected.get(name, before[name]), atol=1e-6)


def test_a_training_checkpoint_of_sat_opens_with_its_adapters_merged(base, factors, tmp_path):
    own = attention_of(factors)
    state = test_sat.to_sat(dict(base[1].state_dict()))
    adapted = ("query_key_value.weight", "attention.dense.weight")
    whole = {}
    for name, value in state.items():
        if name.endswith(adapted):
            name = name.removesuffix("weight") + "original.weight"
        whole[name] = value
    named = {n: torch.tensor(x) for n, x in sat_names(own).items() if "matrix" in n}
    torch.save({"module": whole | named}, tmp_path / "mp_rank_00_model_states.pt")
    (tmp_path / "config.json").write_text((base[0] / "config.json").read_text())
    weights.convert(tmp_path, tmp_path / "out", to="diffusers")
    found, before = published(tmp_path / "out"), published(base[0])
    expected = merged(base, own)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected.get(name, before[name]), atol=1e-6)


def test_the_merged_network_is_that_of_diffusers(base, factors, tmp_path):
    pytest.importorskip("peft")
    from diffusers import CogVideoXPipeline

    name = "5b"
    own = {n: pair for n, pair in factors.items() if n != "norm_out.linear"}
    convolution = np.random.default_rng(1).standard_normal((RANK, 4, 2, 2)).astype(np.float32)
    shape = base[1].patch_embed.proj.weight.shape
    named = peft_names(own)
    named["transformer.patch_embed.proj.lora_A.weight"] = 0.3 * convolution[:, : shape[1]]
    named["transformer.patch_embed.proj.lora_B.weight"] = np.full(
        (shape[0], RANK, 1, 1), 0.3, np.float32
    )
    settings = {"transformer.r": RANK, "transformer.lora_alpha": 6,
                "transformer.alpha_pattern": {"patch_embed.text_proj": 1},
                "transformer.target_modules": [n for n in own] + ["patch_embed.proj"]}  # fmt: skip
    header = {"lora_adapter_metadata": json.dumps(settings)}
    save_file(named, tmp_path / "pytorch_lora_weights.safetensors", header)
    reference = type(base[1]).from_pretrained(str(base[0])).eval()
    state, metadata = CogVideoXPipeline.lora_state_dict(tmp_path, return_lora_metadata=True)
    CogVideoXPipeline.load_lora_into_transformer(state, reference, metadata=metadata)
    case = references.REFERENCES[name]
    ours = case.ours(*mimir_jax.load(base[0], lora=[tmp_path]))
    plain = case.theirs(base[1])
    assert relative_error(case.theirs(reference), plain) > 0.01
    assert relative_error(ours, case.theirs(reference)) < case.tolerance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.popitem(), "must hold two factors of one rank for each layer, not so: "),
        (lambda f: f.update({"transformer.wings.lora_A.weight": np.ones((2, 3), "f"),
                             "transformer.wings.lora_B.weight": np.ones((3, 2), "f")}),
         "must be of layers of the network, 1 of 12 are not: wings"),
        (lambda f: f.update({n: x[:, :-1] for n, x in f.items() if "lora_A" in n}),
         "must fit the layers of the network, 11 do not"),
        (lambda f: f.update({"transformer.a.lora_magnitude_vector": np.ones(2, "f")}),
         "must hold pairs of low-rank factors alone, got transformer.a.lora_magnitude_vector"),
        (lambda f: f.update({"transformer.a.lora_B.bias": np.ones(2, "f")}),
         "must hold pairs of low-rank factors alone, got transformer.a.lora_B.bias"),
        (lambda f: f.update({n: np.full_like(x, np.nan) for n, x in f.items()}),
         "must be finite, "),
        (lambda f: f.update({"transformer.norm_out.linear.alpha": np.ones(0, "f")}),
         "must state alpha of norm_out_linear as one number, got shape (0,)"),
        (lambda f: f.clear(), "must hold low-rank factors of a network, got none"),
    ],
    ids=["torn", "layer", "shape", "dora", "bias", "nan", "alpha", "none"],
)  # fmt: skip
def test_adapters_that_do_not_fit_are_refused(base, factors, tmp_path, change, message):
    named = peft_names(factors)
    change(named)
    save_file({n: np.ascontiguousarray(x) for n, x in named.items()}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=re.escape(message)):
        weights.convert(base[0], tmp_path / "out", lora=[tmp_path / "a.safetensors"])
    assert not (tmp_path / "out").exists()


LAYERS = ("patch_embed.proj", "patch_embed.text_proj", "transformer_blocks.0.ff.net.0.proj")


def scales(folder, *, names=LAYERS, header=None, config=None):
    """Returns alpha over rank of each layer of a file of rank 2 with these settings."""
    shapes = {name: (np.ones((2, 3), "f"), np.ones((3, 2), "f")) for name in names}
    header = header and {"lora_adapter_metadata": json.dumps(header)}
    folder.mkdir(exist_ok=True)
    save_file(peft_names(shapes), folder / "adapter_model.safetensors", header)
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return [x.scale for x in adapter_files.open_file(folder).values()]


def test_settings_of_text_encoders_are_theirs_alone(tmp_path):
    header = {"transformer.lora_alpha": 4, "text_encoder.lora_alpha": 64}
    assert scales(tmp_path, header=header) == [2.0] * 3


def test_the_first_name_of_alpha_pattern_that_ends_a_layer_counts(tmp_path):
    config = {"lora_alpha": 2, "alpha_pattern": {"text_proj": 4, "proj": 6, "net.0.proj": 8}}
    assert scales(tmp_path / "a", config=config) == [3.0, 2.0, 3.0]
    config = {"lora_alpha": 2, "alpha_pattern": {"^patch_embed.proj": 4, "^proj": 6}}
    assert scales(tmp_path / "b", config=config) == [2.0, 1.0, 1.0]
    with pytest.raises(InputError, match="must name layers in alpha_pattern, got the pattern"):
        scales(tmp_path / "c", config={"alpha_pattern": {r".*\.net\..*": 4}})


def test_a_folder_of_adapters_has_one_file_to_read(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(peft_names({"patch_embed.proj": (np.ones((2, 3), "f"), np.ones((3, 2), "f"))}), file)
    (tmp_path / "._a.safetensors").write_bytes(b"of a Mac")
    (tmp_path / "optimizer.pt").write_bytes(b"of a trainer")
    assert list(adapter_files.open_file(tmp_path)) == ["patch_embed_proj"]
    (tmp_path / "b.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="with one LoRA file, found a.safetensors, b.safetensors;"):
        adapter_files.open_file(tmp_path)


def test_the_scale_of_a_file_is_a_number(tmp_path):
    (tmp_path / "a.pt").touch()
    assert adapters.parse(f"{tmp_path}/a.pt:-0.5") == adapters.Source(tmp_path / "a.pt", -0.5)
    for tail in ("x", "nan", ""):
        with pytest.raises(InputError, match="must be FILE or FILE:SCALE with a finite number"):
            adapters.parse(f"{tmp_path}/a.pt:{tail}")


def test_adapters_are_read_from_an_address(factors, tmp_path):
    save_file(peft_names(attention_of(factors)), tmp_path / "a.safetensors")
    store = remote.Store("memory://adapters/own")
    store.upload(tmp_path / "a.safetensors", "a.safetensors")
    for text, scale in ((store.address, 1.0), (f"{store.address}:0.5", 0.5)):
        found = adapters.parse(text)
        assert found.scale == scale and remote.origin(found.path) == store.address
        assert adapter_files.open_file(found.path)
    with pytest.raises(InputError, match="must be FILE or FILE:SCALE with a finite number"):
        adapters.parse(f"{store.address}:x")
    store.remove(["a.safetensors"])
    remote.fetch.cache_clear()


def test_training_starts_from_adapters_and_exports_them_again(base, factors, tmp_path):
    own = attention_of(factors)
    save_file(kohya_names(own), tmp_path / "a.safetensors")
    config = weights.open_weights(base[0]).config
    settings = c.LoraConfig(rank=RANK, alpha=6.0, init_from=str(tmp_path / "a.safetensors"))
    model = lora.adapt(functional.build(dit.DiT, config), settings, base="")
    flat = weights.flatten(adapters.read_start(settings.init_from, model))
    assert len(flat) == 2 * len(model.targets) == 8
    again = adapters.export(config, settings, flat)
    for name, value in peft_names(own).items():
        np.testing.assert_allclose(again[name], value, rtol=1e-6)
    for changes, message in (
        ({"rank": 3}, "must have the rank of the run, 3, got 2"),
        (
            {"targets": ("/attention/q/kernel$",)},
            "12 are of others|9 are of others|6 are of others",
        ),
        ({"targets": ("/mlp/up/kernel$",)}, "are missing: transformer_blocks.0.ff"),
    ):
        other = lora.adapt(model.plain, c.LoraConfig(**{"rank": RANK, **changes}), base="")
        with pytest.raises(InputError, match=message):
            adapters.read_start(settings.init_from, other)
