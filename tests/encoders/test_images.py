# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest

from mimir_jax.config import ImageConfig
from mimir_jax.encoders import images
from mimir_jax.errors import InputError

RNG = np.random.default_rng(0)
LEVEL = 1 / 255 / min(ImageConfig.std)  # one grey level after normalising


def processor(kind, **settings):
    """A processor of transformers that works on PIL images."""
    if kind == "clip":
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Made
    elif kind == "vit":
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil as Made
    else:
        from transformers.models.llava.image_processing_pil_llava import (
            LlavaImageProcessorPil as Made,
        )
    return Made(**settings)


SETTINGS = {
    "336": ("clip", dict(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})),
    "small-crop": ("clip", dict(size={"shortest_edge": 40}, crop_size={"height": 31, "width": 31})),
    "large-crop": ("clip", dict(size={"shortest_edge": 20}, crop_size={"height": 31, "width": 31})),
    "exact": ("clip", dict(size={"height": 28, "width": 28}, do_center_crop=False)),
    "bilinear": ("clip", dict(size=dict(shortest_edge=24), crop_size=dict(height=24, width=24),
                              resample=2, image_mean=[0.5] * 3, image_std=[0.2] * 3)),
    "plain": ("clip", dict(do_resize=False, crop_size={"height": 24, "width": 24},
                           do_rescale=False, do_normalize=False)),
    "pad": ("llava", dict(size=dict(shortest_edge=24), crop_size=dict(height=24, width=24),
                          do_pad=True)),
    "vit": ("vit", dict(size={"height": 26, "width": 26})),
    "dino": ("vit", dict(size=dict(height=26, width=26), image_mean=[0.485, 0.456, 0.406],
                         image_std=[0.229, 0.224, 0.225])),
}  # fmt: skip


@pytest.mark.parametrize("shape", [(41, 57), (90, 33), (48, 48), (500, 400)], ids=str)
@pytest.mark.parametrize("case", SETTINGS)
def test_inputs_equal_transformers(tmp_path, case, shape):
    kind, settings = SETTINGS[case]
    theirs = processor(kind, **settings)
    theirs.save_pretrained(str(tmp_path))
    image = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = np.moveaxis(theirs(image, input_data_format="channels_last").pixel_values[0], 0, 2)
    cfg = images.read_config(tmp_path, expected.shape[0])
    ours = images.prepare(image, cfg)
    assert ours.shape == expected.shape and ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 1e-3 * LEVEL * (255 if case == "plain" else 1)


@pytest.mark.parametrize("fit, size", [("crop", "336 x 3360000"), ("pad", "20000 x 20000")])
def test_images_that_would_be_huge_on_the_way_are_refused(fit, size):
    image = np.zeros((20000, 2, 3), np.uint8)
    with pytest.raises(InputError, match=f"89 million pixels where it is {size} .* 2 x 20000; cut"):
        images.prepare(image, ImageConfig(fit=fit))


def test_rules_are_read_from_every_form(tmp_path):
    default = ImageConfig(resize=(24,), crop=(24, 24))
    assert images.read_config(tmp_path, 24) == default  # no file at all
    raw = {"size": 24, "crop_size": 24, "image_processor_type": "CLIPImageProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": raw}))
    assert images.read_config(tmp_path, 24) == default
    old = {"size": 24, "crop_size": 24, "feature_extractor_type": "CLIPFeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    assert images.read_config(tmp_path, 24) == default
    old = {"size": 24, "feature_extractor_type": "ViTFeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    vit = images.read_config(tmp_path, 24)
    assert (vit.resize, vit.crop, vit.resample) == ((24, 24), (), 2)
    assert images.with_fit(default, "pad").fit == "pad"
    assert images.with_fit(default, None) is default


@pytest.mark.parametrize(
    "raw, message",
    [
        ({"size": 24}, "must make the 24 x 24 pixels of the image tower, got 224 x 224"),
        ({"do_center_crop": False}, "got any size; use the one that belongs to it"),
        ({"image_processor_type": "SiglipImageProcessor"}, "must be one of CLIPImageProcessor"),
        ({"size": "large"}, "image processor .*preprocessor_config.json: "),
        ({"resample": 9}, "ImageConfig.resample must be within 0..3, got 9"),
        ({"image_mean": [0.5]}, "mean must hold a number per channel"),
        ({"image_std": [0.5, 0, 1]}, "std must be above 0"),
    ],
)
def test_wrong_rules_are_refused(tmp_path, raw, message):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=message):
        images.read_config(tmp_path, 24)


def test_sizes_are_checked():
    with pytest.raises(InputError, match="resize must be at least 1"):
        dataclasses.replace(ImageConfig(), resize=(0,))
    with pytest.raises(InputError, match="crop must be height and width"):
        dataclasses.replace(ImageConfig(), crop=(3,))
