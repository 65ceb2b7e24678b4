# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import sys

import numpy as np
import pytest

from mimir_jax.encoders import onnx_file
from mimir_jax.errors import InputError
from mimir_jax.evaluation.extractors import base, opening
from tests.evaluation import networks

KERNEL = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
CLIPS = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 6, 3), np.uint8)


def expected(clips, kernel=KERNEL):
    return (clips / 127.5 - 1).mean(axis=(1, 2, 3)) @ kernel


@pytest.fixture(params=["stand-in", "onnxruntime"])
def runtime(request, monkeypatch):
    """Makes a network run by a stand-in, and by onnxruntime where it is installed."""
    if request.param == "onnxruntime":
        pytest.importorskip("onnxruntime")
        return lambda *args, **options: None
    return lambda *args, **options: monkeypatch.setitem(
        sys.modules, "onnxruntime", networks.runtime(*args, **options)
    )


@pytest.mark.parametrize("batch", ["n", 2], ids=["open", "fixed"])
def test_network_reads_clips_as_its_contract_says(tmp_path, runtime, batch):
    runtime(KERNEL, (3, 4, 6, 6), batch)
    folder = networks.write_extractor(tmp_path / "c3d", KERNEL, batch=batch)
    found = opening.open_clip_extractor(str(folder), "--extractor")
    assert found.is_video and found.settings["contract"]["frames"] == 4
    np.testing.assert_allclose(found.embed_clips(CLIPS), expected(CLIPS), atol=1e-5)
    with pytest.raises(InputError, match="must have clips of 4 frames, got 3; set --clip_frames 4"):
        found.embed_clips(CLIPS[:, :3])
    assert opening.open_classifier(str(folder), "--classifier").contract.values == "logits"
    scorer = networks.write_extractor(tmp_path / "scorer", KERNEL, batch=batch, values="scores")
    with pytest.raises(InputError, match="reads clips and gives logits or probabilities, as"):
        opening.open_classifier(str(scorer), "--classifier")
    with pytest.raises(InputError, match="--dino .* must read images, got a network that reads"):
        opening.open_image_extractor(str(folder), "--dino")


def test_network_reads_images_resized_cut_and_in_another_order(tmp_path, runtime):
    runtime(KERNEL, (3, 6, "w"))
    changes = dict(layout="bchw", frames=None, channels="bgr", resize=[9], crop=[6, 4])
    changes |= dict(resample="bicubic", mean=[1, 0.5, 0], std=[1, 2, 1])
    folder = networks.write_extractor(tmp_path / "net", KERNEL, (3, 6, "w"), **changes)
    found = opening.open_image_extractor(str(folder), "--images")
    frames = CLIPS[:, 0].repeat(3, axis=1).repeat(3, axis=2)  # 18 x 18, of blocks
    flat = np.full_like(frames, (10, 20, 200))
    values = (np.array([200, 20, 10]) / 127.5 - [1, 0.5, 0]) / [1, 2, 1]
    np.testing.assert_allclose(found.embed_images(flat), [values @ KERNEL] * 5, rtol=1e-5)
    pairs = opening.open_clip_extractor(str(folder), "--extractor")
    assert isinstance(pairs, base.FrameMean) and not pairs.is_video
    each = found.embed_images(frames)
    clips = np.stack([frames[:4], frames[1:]])
    mean = np.stack([each[:4].mean(0), each[1:].mean(0)])
    np.testing.assert_allclose(pairs.embed_clips(clips), mean, atol=1e-6)
    with pytest.raises(InputError, match="must be an ONNX network that reads clips"):
        opening.open_classifier(str(folder), "--classifier")
    with pytest.raises(InputError, match="--clip .* must be a CLIPModel of transformers"):
        opening.open_pair_extractor(str(folder), "--clip")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"colour": "rgb"}, "fields must be of input, .*, got colour; remove it"),
        ({"values": None}, "values must be given, got none; add it"),
        ({"values": "boxes"}, 'values must be one of features, .*, got "boxes"'),
        ({"layout": "tbchw"}, "layout must be b and then c, h, w and, for clips, t"),
        ({"layout": "bchw"}, "frames must be given where the layout has t, and only there, got 4"),
        ({"frames": None}, "frames must be given where the layout has t, .*, got None"),
        ({"frames": 0}, "frames must be a whole number above 0, got 0"),
        ({"frames": True}, "frames must be a whole number above 0, got True"),
        ({"resample": None}, "resample must be given with resize, and only there"),
        ({"resample": "cubic"}, "resample must be one of bilinear, bicubic, got"),
        ({"resize": [6, 6, 6]}, "resize must be a list of 1 or 2 whole numbers"),
        ({"crop": 6}, "crop must be a list of 2 whole numbers above 0, got 6"),
        ({"scale": "1/255"}, 'scale must be a number, got "1/255"'),
        ({"mean": [1, 1]}, r"mean must be a list of 3 numbers, got \[1, 1\]"),
        ({"std": [1, 0, 1]}, "std must be above 0"),
        ({"std": [1, 1, float("inf")]}, "std must be a list of 3 numbers"),
        ({"channels": "yuv"}, "channels must be one of rgb, bgr"),
        ({"model": "../model.onnx"}, "model must be a file beside it"),
        ({"input": 3}, "input must be a text, got 3"),
        ({"places": "boxes"}, 'places must be one of rows, columns, got "boxes"'),
        ({"places": "rows"}, "values must be no logits where the output has places"),
        ({"column": -1}, "column must be a whole number from 0, .*, got -1 with logits"),
        ({"values": "features", "column": 0}, "column must be .*, got 0 with features"),
    ],
)
def test_every_field_of_a_contract_is_checked(tmp_path, changes, message):
    folder = networks.write_extractor(tmp_path / "net", KERNEL, **changes)
    with pytest.raises(InputError, match=f"extractor .*extractor.json: {message}"):
        onnx_file.OnnxExtractor(folder)


@pytest.mark.parametrize(
    "axes, changes, message",
    [
        ((3, 4, 6, 6), {"input": "frames"}, "must have 'frames', got x; correct extractor.json"),
        ((3, 4, 6, 6), {"output": "z"}, "must have 'z', got y; correct extractor.json"),
        ((3, 6, 6), {}, "float32 in the layout bcthw, got .*float.* of 4 axes"),
        ((3, 8, 6, 6), {}, "must have 4 at axis t of bcthw, got 8; correct extractor.json"),
        ((3, 4, 6, 7), {}, "must have 6 at axis w of bcthw, got 7; correct extractor.json"),
    ],
    ids=["input", "output", "axes", "frames", "width"],
)
def test_networks_that_break_their_contract_are_refused(tmp_path, runtime, axes, changes, message):
    runtime(KERNEL, axes)
    folder = networks.write_extractor(tmp_path / "net", KERNEL, axes, **changes)
    with pytest.raises(InputError, match=message):
        onnx_file.OnnxExtractor(folder)


def test_a_missing_library_or_file_is_one_line(tmp_path, monkeypatch):
    folder = networks.write_extractor(tmp_path / "net", KERNEL)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"not installed; pip install 'mimir-jax\[onnx\]'"):
        onnx_file.OnnxExtractor(folder)
    monkeypatch.setitem(sys.modules, "onnxruntime", networks.runtime(KERNEL, (3, 4, 6, 6)))
    (folder / "model.onnx").unlink()
    with pytest.raises(InputError, match="must be a file, found none; put it there"):
        onnx_file.OnnxExtractor(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="--dino .* must be a folder with extractor.json and its"):
        opening.open_image_extractor(str(tmp_path / "empty"), "--dino")


def test_a_damaged_network_is_one_line(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = networks.write_extractor(tmp_path / "net", KERNEL)
    (folder / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(InputError, match="model.onnx must be a network: "):
        onnx_file.OnnxExtractor(folder)


def test_clip_of_a_folder_embeds_frames_and_texts(tmp_path):
    folder = networks.write_clip(tmp_path / "clip", ["a red ball rolls", "a blue box"])
    found = opening.open_pair_extractor(str(folder), "--clip")
    frames = np.random.default_rng(2).integers(0, 256, (35, 20, 14, 3), np.uint8)
    images, texts = found.embed_images(frames), found.embed_texts(["a red ball", "a " * 50, "box"])
    assert images.shape == (35, 10) and texts.shape == (3, 10)
    for features in (images, texts):
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.embed_images(frames[33:]), images[33:], atol=1e-5)
    np.testing.assert_allclose(found.embed_texts(["box"]), texts[2:], atol=1e-5)
    again = opening.open_pair_extractor(str(folder), "--clip")
    assert again.settings == found.settings and set(found.settings) == {"extractor", "sha256"}


@pytest.mark.torch
def test_dino_of_a_folder_equals_transformers_with_its_processor(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    from tests.weights import test_clip_towers as towers

    model, rules = towers.dino(), ViTImageProcessorPil(size={"height": 29, "width": 29})
    model.save_pretrained(str(tmp_path / "dino"))
    with pytest.raises(InputError, match="must hold preprocessor_config.json, which says"):
        opening.open_image_extractor(str(tmp_path / "dino"), "--dino")
    rules.save_pretrained(str(tmp_path / "dino"))
    image = np.random.default_rng(3).integers(0, 256, (41, 50, 3), np.uint8)
    ours = opening.open_image_extractor(str(tmp_path / "dino"), "--dino").embed_images(image[None])
    with torch.no_grad():
        pixels = rules(image, input_data_format="channels_last", return_tensors="pt").pixel_values
        theirs = model(pixels).last_hidden_state[:, 0]
    theirs = (theirs / theirs.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_contract_in_the_documentation_is_read(tmp_path):
    text = onnx_file.__doc__
    example = json.loads(text[text.index("{") : text.index("}") + 1])
    (tmp_path / "extractor.json").write_text(json.dumps(example))
    contract = onnx_file.read_contract(tmp_path / "extractor.json")
    assert contract.frames == 16 and contract.size == (224, 224)
