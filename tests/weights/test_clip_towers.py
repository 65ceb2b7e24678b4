# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Both towers of CLIP, and the vision transformer of DINO, from folders of transformers."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import mimir_jax
from mimir_jax import weights
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.clip import config as clip_config
from mimir_jax.models.clip import model as clip_model
from tests import quick
from tests.helpers import relative_error
from tests.models import test_vit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

VIT = dict(image_size=29, patch_size=7, hidden_size=24, intermediate_size=40)
VIT |= dict(num_hidden_layers=2, num_attention_heads=3)
TEXT = dict(hidden_size=15, intermediate_size=22, num_hidden_layers=2, num_attention_heads=5)
TEXT |= dict(vocab_size=31, max_position_embeddings=9, bos_token_id=1, pad_token_id=0)
IDS = np.array([[1, 5, 9, 30, 7, 0, 0], [1, 30, 0, 0, 0, 0, 0], [1, 4, 4, 8, 3, 6, 30]], np.int32)


def shake(model):
    """Moves every tensor away from its initial value."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def clip(activation="quick_gelu", eos=30):
    """A random CLIP of transformers."""
    import transformers

    torch.manual_seed(0)
    kind = dict(hidden_act=activation)
    config = transformers.CLIPConfig(
        text_config=TEXT | kind | dict(eos_token_id=eos),
        vision_config=VIT | kind,
        projection_dim=11,
    )
    return shake(transformers.CLIPModel(config))


@pytest.mark.parametrize(
    "activation, eos", quick.some([("quick_gelu", 30), ("gelu", 2), ("gelu", 7)], 1), ids=str
)
def test_towers_equal_transformers_and_come_back(tmp_path, activation, eos):
    theirs, ids = clip(activation, eos), IDS.copy()
    ids[ids == 30] = 30 if eos == 2 else eos
    theirs.save_pretrained(str(tmp_path / "clip"))
    model, params = mimir_jax.load(tmp_path / "clip", kind="clip")
    images = test_vit.images_of(29, 29)
    with torch.no_grad():
        pixels = torch.tensor(images).permute(0, 3, 1, 2)
        expected = theirs(input_ids=torch.tensor(ids, dtype=torch.long), pixel_values=pixels)
    ours = jax.jit(model.embed_images)(params, images)
    assert relative_error(ours, expected.image_embeds) < 1e-5
    texts = jax.jit(model.embed_texts)(params, ids)
    assert relative_error(texts, expected.text_embeds) < 1e-5
    assert relative_error(model.apply(params, images, ids), expected.logits_per_image) < 1e-5
    cut = model.embed_texts(params, ids[1:2, :2])  # padding changes nothing
    assert relative_error(cut, texts[1:2]) < 1e-6

    tower, _ = mimir_jax.load(tmp_path / "clip")  # as without the text tower
    assert type(tower.config).__name__ == "ViTConfig"
    opened = weights.open_weights(tmp_path / "clip", kind="clip")
    written = opened.family.write_config(opened.config, "CLIPModel")
    assert opened.family.read_config(written, {}) == opened.config


def test_published_size_of_vit_b_32():
    model = functional.build(clip_model.Clip, clip_config.ClipConfig())
    assert model.num_params == 151_277_313


def test_texts_that_are_too_long_are_refused(tmp_path):
    clip().save_pretrained(str(tmp_path / "clip"))
    model, params = mimir_jax.load(tmp_path / "clip", kind="clip")
    with pytest.raises(InputError, match="at most 9 tokens, got 10; cut them"):
        model.embed_texts(params, np.ones((1, 10), np.int32))
    raw = json.loads((tmp_path / "clip" / "config.json").read_text())
    raw["text_config"]["hidden_act"] = "relu"
    (tmp_path / "clip" / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="hidden_act 'quick_gelu' or 'gelu', got 'relu'"):
        mimir_jax.load(tmp_path / "clip", kind="clip")


def dino():
    """A random ViT of transformers without CLIP's first norm."""
    import transformers

    torch.manual_seed(1)
    return shake(transformers.ViTModel(transformers.ViTConfig(**VIT)))


def test_dino_equals_transformers_and_comes_back(tmp_path):
    import transformers

    theirs = dino()
    theirs.save_pretrained(str(tmp_path / "dino"))
    model, params = mimir_jax.load(tmp_path / "dino", kind="vit")
    assert not model.config.pre_norm and model.config.norm_eps == 1e-12
    images = test_vit.images_of(29, 29)
    with torch.no_grad():
        pixels = torch.tensor(images).permute(0, 3, 1, 2)
        states = theirs(pixels, output_hidden_states=True)
        resized = theirs(pixels[:, :, :, :22], interpolate_pos_encoding=True).last_hidden_state
    ours = jax.jit(model.apply)(params, images)
    assert relative_error(ours, states.hidden_states[-1]) < 1e-5
    assert relative_error(model.pool(params, ours), states.last_hidden_state[:, 0]) < 1e-5
    other = model.apply(params, images[:, :, :22], interpolate=True)
    assert relative_error(model.pool(params, other), resized[:, 0]) < 1e-5

    weights.convert(tmp_path / "dino", tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="transformers")
    old, new = (load_file(tmp_path / name / "model.safetensors") for name in ("dino", "back"))
    assert old.keys() - new.keys() == {"pooler.dense.weight", "pooler.dense.bias"}
    assert all(old[name].tobytes() == value.tobytes() for name, value in new.items())
    again = transformers.ViTModel.from_pretrained(str(tmp_path / "back"), add_pooling_layer=False)
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels).last_hidden_state, states.last_hidden_state)
