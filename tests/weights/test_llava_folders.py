# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""LLaVAs in every form that they are published in."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mimir_jax
from mimir_jax import weights
from mimir_jax.config import LlavaConfig
from mimir_jax.encoders import frozen
from mimir_jax.errors import InputError
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import memory
from mimir_jax.weights import llava
from tests.helpers import relative_error
from tests.models.llava import llava_reference as reference

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
CFG = reference.CFG
BATCH = reference.batch(CFG, (2, 1))
FILE = "model.safetensors"


@pytest.fixture(scope="module", params=["llama", "phi3"])
def saved(request, tmp_path_factory):
    """A random LLaVA as transformers saves it, with its folder."""
    model = reference.build(request.param, CFG)
    folder = tmp_path_factory.mktemp("llava") / "saved"
    model.save_pretrained(str(folder))
    return model, folder


def hub(name):
    """The name that a tensor has on the hub, from that in memory."""
    name = name.removeprefix("model.")
    name = name.replace("vision_tower.", "vision_tower.vision_model.")
    name = name.replace("language_model.", "language_model.model.")
    return name.replace("lm_head", "language_model.lm_head")


NAMES = {
    "memory": lambda name: name,
    "hub": hub,
    "half": lambda name: name.removeprefix("model."),  # of transformers 5, tower and decoder
    "outer": lambda name: f"model.{hub(name)}" if "lm_head" not in name else name,
}


@pytest.mark.parametrize("form", ["saved", *NAMES])
def test_every_form_equals_transformers_and_comes_back(saved, tmp_path, form):
    import transformers

    torch_model, source = saved
    state = {name: x.numpy() for name, x in torch_model.state_dict().items()}
    if form != "saved":
        config = (source / "config.json").read_text()
        source = tmp_path / "source"
        source.mkdir()
        (source / "config.json").write_text(config)
        older = {} if form != "hub" else {
            "vision_tower.vision_model.embeddings.position_ids": np.arange(5)[None],
            "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32),
        }  # fmt: skip
        save_file({NAMES[form](n): x for n, x in state.items()} | older, source / FILE)
    ids, mask, pixels = BATCH
    _, logits = reference.forward(torch_model, ids, mask, pixels)
    model, params = mimir_jax.load(source)
    ours = jax.jit(model.apply)(params, ids, mask, pixels)
    assert relative_error(ours.logits[mask], logits[mask]) < 1e-5
    if form not in ("saved", "hub"):
        return
    weights.convert(source, tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="transformers")
    back = load_file(tmp_path / "back" / FILE)
    assert {n: x.tobytes() for n, x in back.items()} == {
        hub(n): x.tobytes() for n, x in state.items()
    }
    again = transformers.LlavaForConditionalGeneration.from_pretrained(str(tmp_path / "back"))
    assert np.array_equal(reference.forward(again.eval(), ids, mask, pixels)[1], logits)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_token": True, "vision_layers": (-2, -1)},
        {"llm": {"sliding_window": 6, "tie_embeddings": True}},
    ],
    ids=str,
)
def test_one_of_ours_opens_in_transformers(tmp_path, changes):
    import transformers

    cfg = reference.change(CFG, **changes)
    model = llava.Llava().build(cfg)
    params = jax.jit(model.init)(jax.random.key(0))
    weights.save(tmp_path / "native", "llava", cfg, params)
    weights.convert(tmp_path / "native", tmp_path / "out", to="transformers")
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(str(tmp_path / "out"))
    ids, mask, pixels = reference.batch(cfg, (1, 2))
    _, logits = reference.forward(theirs.eval(), ids, mask, pixels)
    again, params = mimir_jax.load(tmp_path / "out")
    assert again.config == cfg
    ours = jax.jit(again.apply)(params, ids, mask, pixels)
    assert relative_error(ours.logits[mask], logits[mask]) < 1e-5


def test_the_tower_opens_alone(saved):
    torch_model, folder = saved
    model, params = mimir_jax.load(folder, kind="vit")
    pixels = BATCH[2]
    with torch.no_grad():
        out = torch_model.model.vision_tower(
            torch.tensor(pixels).permute(0, 3, 1, 2), output_hidden_states=True
        )
    ours = jax.jit(model.apply, static_argnames="layer")(params, pixels, layer=-2)
    assert relative_error(ours, out.hidden_states[-2].numpy()) < 1e-5
    with pytest.raises(InputError, match="must hold a llm, got a llava"):
        mimir_jax.load(folder, kind="llm")


def test_loads_straight_into_shards(saved):
    torch_model, folder = saved
    mesh = mesh_lib.make_mesh((1, 2, 1, 2), jax.devices()[:4])
    model, params = mimir_jax.load(folder, mesh=mesh)
    split = {
        name: not x.sharding.is_fully_replicated for name, x in weights.flatten(params).items()
    }
    assert split["projector/up/kernel"] and split["llm/blocks/block/attention/qkv/kernel"]
    ids, mask, pixels = BATCH
    _, logits = reference.forward(torch_model, ids, mask, pixels)
    with context.use_mesh(mesh):
        ours = jax.jit(model.apply)(params, ids, mask, pixels)
    assert relative_error(ours.logits[mask], logits[mask]) < 1e-5


def test_memory_is_told_without_weights(saved):
    mesh = mesh_lib.make_mesh((1, 1, 1, 1), jax.devices()[:1])
    absent = frozen.FrozenNetwork("llava", None, "llava_path")
    shapes = memory.describe_frozen({"llava": absent}, mesh)
    assert mesh_lib.device_bytes(shapes) == 2 * 7_063_427_072  # LLaVA-1.5-7B in 16 bits
    there = frozen.FrozenNetwork("llava", str(saved[1]), "llava_path", split=True)
    assert there.load()[0].config == there.describe()[0].config == CFG


HUB_CONFIG = {  # of llava-hf/llava-1.5-7b-hf, which leaves most sizes to their defaults
    "architectures": ["LlavaForConditionalGeneration"],
    "image_token_index": 32000,
    "model_type": "llava",
    "projector_hidden_act": "gelu",
    "text_config": {
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "rms_norm_eps": 1e-05,
        "vocab_size": 32064,
    },
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}


def test_released_configs_are_read():
    read = llava.Llava().read_config
    assert read(HUB_CONFIG, {}) == LlavaConfig()
    # Without the inner configs, as transformers fills them in.
    import transformers

    bare = {"model_type": "llava", "text_config": None}
    theirs = transformers.LlavaConfig().to_dict() | {"architectures": None}
    assert read(bare, {}) == read(theirs, {})
    for kind in ("mistral", "phi3", "qwen2", "qwen3"):
        small = {"text_config": {"model_type": kind}}
        filled = transformers.AutoConfig.for_model(kind).to_dict()
        assert read(small, {}).llm == read({"text_config": filled}, {}).llm


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act 'gelu', got 'relu'"),
        ({"vision_feature_select_strategy": "none"}, "'default' or 'full', got 'none'"),
        ({"vision_feature_layer": 9}, "vision_layers must lie between -4 and 3"),
        ({"text_config": {"model_type": "gemma"}}, "'mistral' or 'phi3', got 'gemma'"),
        ({"text_config": 3}, "must give text_config as dict, got 3"),
        ({"image_token_index": None}, "must give image_token_index as int, got None"),
    ],
)
def test_wrong_configs_are_refused(saved, tmp_path, changes, message):
    raw = json.loads((saved[1] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    (tmp_path / FILE).symlink_to(saved[1] / FILE)
    with pytest.raises(InputError, match=message):
        mimir_jax.load(tmp_path)


def test_a_tower_of_another_size_is_refused(saved, tmp_path):
    raw = json.loads((saved[1] / "config.json").read_text())
    raw["vision_config"]["image_size"] = 12
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / FILE).symlink_to(saved[1] / FILE)
    message = r"1 misshaped: vision_tower.*position_embedding.weight \(5, 18\) for \(10, 18\)"
    with pytest.raises(InputError, match=message):
        mimir_jax.load(tmp_path)
