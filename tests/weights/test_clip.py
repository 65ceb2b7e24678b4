# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Image towers of CLIP in every form that they are published in."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mimir_jax
from mimir_jax import weights
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.weights import openclip
from tests.helpers import relative_error
from tests.models import test_vit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
CFG = test_vit.WIDE
IMAGES = test_vit.images_of(CFG.image_size, CFG.image_size)
TEXT = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=3)
TEXT |= dict(vocab_size=30, max_position_embeddings=9, bos_token_id=1, eos_token_id=2)


@pytest.fixture(scope="module")
def tower():
    """A random torch tower."""
    return test_vit.reference(CFG)


def published(tower):
    """The tensors of the tower under the names of the hub."""
    return {f"vision_model.{name}": x.numpy() for name, x in tower.state_dict().items()}


def write(folder, tensors, config):
    """Writes a checkpoint of plain tensors."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()},
              folder / "model.safetensors")  # fmt: skip


def write_alone(folder, tower, **changes):
    """The tower as the hub has it, with the buffer of older files."""
    positions = {"vision_model.embeddings.position_ids": np.arange(10)[None]}
    config = {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model"}
    write(folder, published(tower) | positions, config | test_vit.torch_config(CFG) | changes)


def write_saved(folder, tower):
    """The tower as transformers 5 saves it, without the first part of its names."""
    tower.save_pretrained(str(folder))


def write_projected(folder, tower):
    """The tower with the projection of CLIP."""
    import transformers

    model = transformers.CLIPVisionModelWithProjection(tower.config)
    model.vision_model.load_state_dict(tower.state_dict())
    model.save_pretrained(str(folder))


def write_clip(folder, tower):
    """The tower in a CLIP."""
    import transformers

    config = transformers.CLIPConfig(text_config=TEXT, vision_config=tower.config.to_dict())
    model = transformers.CLIPModel(config)
    model.vision_model.load_state_dict(tower.state_dict())
    model.save_pretrained(str(folder))


def write_llava(folder, tower):
    """The tower in a LLaVA, as transformers 5 saves it."""
    import transformers

    model = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=tower.config, text_config=transformers.LlamaConfig(**TEXT)
        )
    )
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.save_pretrained(str(folder))


def write_published_llava(folder, tower):
    """The same under the names of the hub; its config leaves defaults out."""
    write_llava(folder, tower)
    state = load_file(folder / "model.safetensors")
    old, new = "vision_tower.", "vision_tower.vision_model."
    save_file({name.replace(old, new): x for name, x in state.items()},
              folder / "model.safetensors")  # fmt: skip
    raw = json.loads((folder / "config.json").read_text())
    assert raw["vision_config"].pop("num_channels") == 3
    (folder / "config.json").write_text(json.dumps(raw))


OPENCLIP = {
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.": "",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "self_attn": "attn",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


def write_openclip(folder, tower):
    """The tower of an OpenCLIP."""
    state = {}
    for name, value in tower.state_dict().items():
        for theirs, ours in OPENCLIP.items():
            name = name.replace(theirs, ours)
        state[f"visual.{name}"] = value
    for i in range(CFG.num_layers):
        for leaf in ("weight", "bias"):
            at = f"visual.transformer.resblocks.{i}.attn"
            parts = [state.pop(f"{at}.{n}_proj.{leaf}") for n in "qkv"]
            state[f"{at}.in_proj_{leaf}"] = torch.cat(parts)
    state |= {"visual.proj": torch.zeros(30, 8), "logit_scale": torch.zeros(())}
    state["token_embedding.weight"] = torch.zeros(30, 8)
    folder.mkdir()
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    sizes = {"image_size": 12, "patch_size": 4, "layers": 2, "width": 30, "head_width": 6}
    sizes |= {"norm_kwargs": {"eps": CFG.norm_eps}}
    model = {"embed_dim": 8, "vision_cfg": sizes | {"mlp_ratio": 1.48}, "text_cfg": {}}
    (folder / openclip.CONFIG_FILE).write_text(json.dumps({"model_cfg": model}))


FORMS = {
    "alone": write_alone,
    "saved": write_saved,
    "projected": write_projected,
    "clip": write_clip,
    "openclip": write_openclip,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_its_reference_and_comes_back(tower, tmp_path, form):
    import transformers

    source = tmp_path / "source"
    FORMS[form](source, tower)
    model, params = mimir_jax.load(source, kind="vit")
    expected, _ = test_vit.run_reference(tower, IMAGES)
    assert relative_error(model.apply(params, IMAGES, layer=-2), expected[-2]) < 1e-5
    weights.convert(source, tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="transformers")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert back.keys() == published(tower).keys()
    for name, value in published(tower).items():
        assert back[name].tobytes() == value.tobytes() and back[name].shape == value.shape
    again = transformers.CLIPVisionModel.from_pretrained(str(tmp_path / "back")).eval()
    states, _ = test_vit.run_reference(again, IMAGES)
    assert np.array_equal(states[-1], expected[-1])


def test_settings_of_openclip_are_read_or_refused():
    read = lambda **fields: openclip.config({"model_cfg": {"vision_cfg": fields}})  # noqa: E731
    assert read()["layer_norm_eps"] == 1e-5
    assert read(norm_kwargs={"eps": 1e-6}, act_kwargs=None)["layer_norm_eps"] == 1e-6
    changed = dict(act_kwargs={"approximate": "tanh"}, no_ln_pre=True, pool_type="avg")
    for name, value in changed.items():
        with pytest.raises(ValueError, match=f"must have {name} .*, got .* does not implement"):
            read(**{name: value})


@pytest.mark.parametrize("write_whole", [write_llava, write_published_llava])
def test_opens_out_of_a_llava(tower, tmp_path, write_whole):
    write_whole(tmp_path / "source", tower)
    model, params = mimir_jax.load(tmp_path / "source", kind="vit")
    expected, _ = test_vit.run_reference(tower, IMAGES)
    assert relative_error(model.apply(params, IMAGES, layer=-2), expected[-2]) < 1e-5


def test_loads_straight_into_shards(tower, tmp_path):
    write_alone(tmp_path / "source", tower)
    mesh = mesh_lib.make_mesh((1, 2, 1, 2), jax.devices()[:4])
    model, params = mimir_jax.load(tmp_path / "source", mesh=mesh)
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(params))
    expected, _ = test_vit.run_reference(tower, IMAGES)
    with context.use_mesh(mesh):
        ours = jax.jit(lambda p: model.apply(p, IMAGES, layer=-2))(params)
    assert relative_error(ours, expected[-2]) < 1e-5


def test_half_precision_comes_back(tower, tmp_path):
    half = {name: x.astype(np.float16) for name, x in published(tower).items()}
    config = {"architectures": ["CLIPVisionModel"], **test_vit.torch_config(CFG), "note": "kept"}
    write(tmp_path / "source", half, config)
    (tmp_path / "source" / "preprocessor_config.json").write_text("{}")
    assert mimir_jax.load(tmp_path / "source")[0].config.dtype == "float16"
    weights.convert(tmp_path / "source", tmp_path / "back", to="transformers")
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert {n: x.tobytes() for n, x in back.items()} == {n: x.tobytes() for n, x in half.items()}
    assert json.loads((tmp_path / "back" / "config.json").read_text())["note"] == "kept"
    assert (tmp_path / "back" / "preprocessor_config.json").is_file()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden_act": "gelu_new"}, "hidden_act 'quick_gelu' or 'gelu', got 'gelu_new'"),
        ({"model_type": "siglip_vision_model"}, "model_type 'clip_vision_model'"),
        ({"num_hidden_layers": 3}, "16 missing: vision_model.encoder.layers.2"),
        ({"image_size": 16}, "1 misshaped: vision_model.embeddings.position_embedding.weight"),
        ({"vision_config": "large"}, "must give vision_config as dict"),
    ],
)
def test_wrong_configs_are_refused(tower, tmp_path, changes, message):
    write_alone(tmp_path / "source", tower, **changes)
    with pytest.raises(ValueError, match=message):
        mimir_jax.load(tmp_path / "source")
