# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scorers and captioners with the weights of a user's folder."""

import dataclasses
import json
import pathlib
import sys
import types

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import mimir_jax
from mimir_jax.encoders import images as images_lib
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import config as c
from mimir_jax.preparation.footage import scan
from mimir_jax.preparation.footage.filters import clip_head, onnx_scorer
from tests.evaluation import networks
from tests.preparation.footage import test_footage as footage

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 2)).astype(np.float32)
FRAMES = RNG.integers(0, 256, (3, 20, 30, 3), np.uint8)
IMAGES = dict(layout="bchw", frames=None, resize=[6, 6])


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins") / "raw"
    footage.write(folder, good=footage.images(0))
    return folder


def frames_scorer(folder, monkeypatch=None, kernel=KERNEL, **changes):
    """Writes a network of frames; with `monkeypatch`, a stand-in runs it."""
    axes = (3, 4, 6, 6) if changes.get("frames") else (3, 6, 6)
    if monkeypatch is None:
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", networks.runtime(kernel, axes))
    return networks.write_extractor(folder, kernel, axes, **(IMAGES | changes))


def expected(frames, kernel=KERNEL):
    ones = (1.0, 1.0, 1.0)
    cfg = images_lib.ImageConfig(
        resize=(6, 6), crop=(), resample=2, scale=1 / 127.5, mean=ones, std=ones
    )
    return np.stack([images_lib.prepare(x, cfg).mean((0, 1)) @ kernel for x in frames])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    "columns, changes, highest, score",
    [
        (1, {"values": "scores"}, None, lambda y: y[:, 0]),
        (2, {"values": "probabilities", "column": 1}, 1, lambda y: y[:, 1]),
        (1, {"values": "logits"}, 1, lambda y: sigmoid(y[:, 0])),
        (2, {"values": "logits", "column": 1}, 1, lambda y: sigmoid(y[:, 1] - y[:, 0])),
    ],
    ids=["scores", "probabilities", "one logit", "two logits"],
)
def test_a_network_scores_frames_as_its_contract_says(tmp_path, columns, changes, highest, score):
    kernel = np.ascontiguousarray(KERNEL[:, :columns])
    folder = frames_scorer(tmp_path / "net", kernel=kernel, **changes)
    scorer = onnx_scorer.watermark(str(folder))
    assert scorer.highest == highest
    want = score(expected(FRAMES, kernel))
    np.testing.assert_allclose(scorer.scores(FRAMES), want, atol=1e-5)
    assert scorer.score(FRAMES) == pytest.approx(want.mean(), abs=1e-5)


@pytest.mark.parametrize("places, axes", [("rows", (0, 2, 1)), ("columns", (0, 1, 2))])
def test_the_surest_box_is_the_score(tmp_path, monkeypatch, places, axes):
    boxes = RNG.uniform(size=(1, 5, 7)).astype(np.float32)  # 4 sides and a score, 7 boxes
    runtime = networks.runtime(KERNEL, (3, 6, 6))
    runtime.InferenceSession.run = lambda self, names, x: [boxes.transpose(axes)]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    changes = dict(values="probabilities", places=places, column=4)
    folder = networks.write_extractor(tmp_path / "net", KERNEL, (3, 6, 6), **IMAGES, **changes)
    assert onnx_scorer.watermark(str(folder)).score(FRAMES[:1]) == boxes[0, 4].max()
    runtime.InferenceSession.run = lambda self, names, x: [boxes[0]]
    with pytest.raises(InputError, match=r"output of shape \(batch, .*\), got \(5, 7\) for 1"):
        onnx_scorer.watermark(str(folder))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(values="logits"), "which of 2 columns is the score, got column=None; correct extr"),
        (dict(values="logits", column=2), "which of 2 columns is the score, got column=2"),
        (dict(values="features"), "must hold a network that gives scores, .*, got features"),
        (dict(layout="bcthw", frames=4), "network that reads frames, got one that reads clips"),
    ],
)
def test_a_network_that_scores_no_frames_is_refused(tmp_path, monkeypatch, changes, message):
    folder = frames_scorer(tmp_path / "net", monkeypatch, **changes)
    with pytest.raises(InputError, match=message):
        onnx_scorer.aesthetic(str(folder))


def test_networks_of_folders_decide_on_clips_that_are_decoded_once(raw, tmp_path, monkeypatch):
    kernel = np.float32([[1], [0], [0]])
    folder = str(frames_scorer(tmp_path / "net", monkeypatch, kernel, values="logits"))
    config = dataclasses.replace(
        footage.PLAIN,
        aesthetic=c.AestheticConfig(scorer="onnx", folder=folder, min_score=0.1),
        watermark=c.WatermarkConfig(detector="onnx", folder=folder, max_score=0.1),
    )
    opened = []
    open_video = scan.video_stream.open_video
    monkeypatch.setattr(
        scan, "video_stream",
        types.SimpleNamespace(open_video=lambda *a: opened.append(a[0]) or open_video(*a),
                              Frame=scan.video_stream.Frame),
    )  # fmt: skip
    line = footage.run(raw, tmp_path / "out", config).popitem()[1]
    found = {d["step"]: d for d in line["decisions"] if d["measure"] in ("aesthetic", "watermark")}
    assert found["aesthetic"]["passed"] and not found["watermark"]["passed"]
    assert line["dropped_by"] == "watermark" and len(opened) == 1
    assert 0.1 < found["aesthetic"]["value"] < 0.9


@pytest.mark.parametrize(
    "change, message",
    [
        ({"aesthetic": c.AestheticConfig(scorer="clip_head")}, "aesthetic.folder must name a fold"),
        ({"aesthetic": c.AestheticConfig(scorer="onnx")}, "must name a folder with extractor.json"),
        ({"watermark": c.WatermarkConfig(detector="onnx")}, "max_score must be set for onnx"),
        (
            {"watermark": c.WatermarkConfig(detector="onnx", folder="/no/such", max_score=0.5)},
            "weights /no/such must be a folder or a file, found none",
        ),
        ({"captions": c.CaptionsConfig(captioner="llava")}, "captions.folder must name a LLaVA"),
        (
            {"captions": c.CaptionsConfig(captioner="llava", folder="/no/such")},
            "weights /no/such must be a folder or a file, found none",
        ),
    ],
)
def test_weights_that_are_missing_are_refused_before_anything_is_written(
    change, message, raw, tmp_path
):
    config = dataclasses.replace(footage.PLAIN, **change)
    with pytest.raises(InputError, match=message):
        footage.run(raw, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_a_least_score_that_no_clip_can_have_is_refused(tmp_path, monkeypatch):
    folder = str(frames_scorer(tmp_path / "net", monkeypatch, KERNEL[:, :1], values="logits"))
    aesthetic = c.AestheticConfig(scorer="onnx", folder=folder)
    with pytest.raises(InputError, match="min_score must be at most 1, .* of onnx, got 4.5; set"):
        scan.Scanner(dataclasses.replace(footage.PLAIN, aesthetic=aesthetic))


def mlp(width, sizes=(6, 5, 4, 3, 1), names=(0, 2, 4, 6, 7)):
    """Tensors of a head of linear maps."""
    tensors, inputs = {}, width
    for size, name in zip(sizes, names, strict=True):
        tensors[f"layers.{name}.weight"] = RNG.normal(size=(size, inputs)).astype(np.float32)
        tensors[f"layers.{name}.bias"] = RNG.normal(size=size).astype(np.float32)
        inputs = size
    return tensors


@pytest.mark.torch
def test_clip_heads_equal_those_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from tests.weights import test_clip_towers as towers

    clip = towers.clip()
    rules = CLIPImageProcessorPil(size={"shortest_edge": 29}, crop_size={"height": 29, "width": 29})
    for part in (clip, rules):
        part.save_pretrained(str(tmp_path / "clip"))
    with torch.no_grad():
        pixels = rules(list(FRAMES), input_data_format="channels_last", return_tensors="pt")
        states = clip.vision_model(pixels.pixel_values).pooler_output
        embedding = torch.nn.functional.normalize(clip.visual_projection(states), dim=-1)
    linear, drop = torch.nn.Linear, torch.nn.Dropout
    chain = torch.nn.Module()
    chain.layers = torch.nn.Sequential(
        linear(11, 9), drop(0.2), linear(9, 8), drop(0.2), linear(8, 7), drop(0.1), linear(7, 5),
        linear(5, 1),
    )  # fmt: skip
    torch.save(chain.eval().state_dict(), tmp_path / "five.pth")
    with torch.no_grad():
        theirs = float(chain.layers(embedding).mean())
    assert clip_head.ClipHead(str(tmp_path)).score(FRAMES) == pytest.approx(theirs, abs=1e-5)

    one = linear(11, 1)
    torch.save(one.state_dict(), tmp_path / "one.pth")
    ((weight, bias),) = clip_head.read_head(tmp_path / "one.pth", 11)
    np.testing.assert_array_equal(weight, one.weight.detach())
    np.testing.assert_array_equal(bias, one.bias.detach())


def test_a_head_is_read_from_safetensors(tmp_path):
    tensors = mlp(11)
    save_file(tensors, tmp_path / "head.safetensors")
    found = clip_head.read_head(tmp_path / "head.safetensors", 11)
    for (weight, bias), name in zip(found, (0, 2, 4, 6, 7), strict=True):
        np.testing.assert_array_equal(weight, tensors[f"layers.{name}.weight"])
        np.testing.assert_array_equal(bias, tensors[f"layers.{name}.bias"])


@pytest.mark.parametrize(
    "tensors, message",
    [
        (mlp(11, names=(0, 3, 6, 9, 11)), "must hold weight and bias of one linear map, or of lay"),
        (mlp(12), r"must read 11 numbers at layers.0., got a weight of shape \(6, 12\)"),
        (mlp(11, sizes=(6, 5, 4, 3, 2)), "must give one number, got 2"),
        ({n: x * np.float32("nan") for n, x in mlp(11).items()}, "must be finite"),
    ],
    ids=["relu", "width", "outputs", "nan"],
)
def test_a_head_of_another_layout_is_one_line(tensors, message, tmp_path):
    save_file(tensors, tmp_path / "head.safetensors")
    with pytest.raises(InputError, match=message):
        clip_head.read_head(tmp_path / "head.safetensors", 11)


def test_a_folder_without_a_clip_or_with_two_heads_is_one_line(tmp_path):
    with pytest.raises(InputError, match="must hold a CLIPModel of transformers in clip/, found"):
        clip_head.ClipHead(str(tmp_path))
    (tmp_path / "clip").mkdir()
    with pytest.raises(InputError, match=r"one file with a head \(.*\), found none; keep one"):
        clip_head.ClipHead(str(tmp_path))
    for name in ("one.pth", "two.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="found one.pth, two.safetensors; keep one there"):
        clip_head.ClipHead(str(tmp_path))


def test_a_llava_describes_the_middle_frame(llava_folder):
    config = c.CaptionsConfig(captioner="llava", folder=str(llava_folder), max_words=4)
    captioner = plugins.find("captions.captioner", "llava")(config, pathlib.Path("raw"))
    short, long = captioner(lambda: FRAMES, {})
    assert long and captioner(lambda: FRAMES[1:2], {}) == (short, long)

    # The same tokens without a cache, one question at a time.
    model, params = mimir_jax.load(llava_folder, kind="llava")
    tokenizer = tokenizers.load(llava_folder)
    rules = images_lib.read_config(llava_folder, model.config.vit.image_size)
    pixels = images_lib.prepare(FRAMES[1], images_lib.with_fit(rules, "pad"))[None]
    image = tokenizer.convert_ids_to_tokens(model.config.image_token)
    turn = f"<s><|user|>{image * 4}\n{config.long_prompt}<|end|><|assistant|>"
    prompt = tokenizer(turn, add_special_tokens=False)["input_ids"]
    begin, new = len(prompt), 8
    row = np.int32([[*prompt, *[0] * new]])  # what follows a token changes nothing
    read = jax.jit(lambda ids: model.apply(params, ids, None, pixels).logits[0])
    for place in range(begin, begin + new):
        row[0, place] = read(row)[place - 1].argmax()
    assert long == tokenizer.decode(row[0, begin:], skip_special_tokens=True).strip()


def test_a_llava_captions_clips(raw, tmp_path, llava_folder):
    captions = c.CaptionsConfig(captioner="llava", folder=str(llava_folder), max_words=4)
    line = footage.run(raw, tmp_path, dataclasses.replace(footage.PLAIN, captions=captions))
    assert line.popitem()[1]["dropped_by"] is None
    kept = [json.loads(x) for x in (tmp_path / "clips/captions.jsonl").read_text().splitlines()]
    assert len(kept) >= 1 and all(row["caption"] for row in kept)
