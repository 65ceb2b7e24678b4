# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random extractors: ONNX files, a stand-in for onnxruntime, and a CLIP with its tokenizer."""

import json
import struct
import types

import jax
import numpy as np

from mimir_jax import weights
from mimir_jax.config import ClipConfig, ClipTextConfig, ViTConfig
from mimir_jax.encoders import tokenizers
from mimir_jax.models import functional
from mimir_jax.models.clip import model as clip_model

CONTRACT = {
    "input": "x",
    "layout": "bcthw",
    "frames": 4,
    "output": "y",
    "values": "logits",
    "resize": [6, 6],
    "resample": "bilinear",
    "scale": 1 / 127.5,
    "mean": [1, 1, 1],
    "std": [1, 1, 1],
}


def field(number, value):
    """A field of a protobuf message: an integer, or text, bytes or another message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def tensor_info(name, shape):
    sizes = [field(1, s) if isinstance(s, int) else field(2, s) for s in shape]
    dims = b"".join(field(1, size) for size in sizes)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def write_onnx(path, kernel, axes, batch="n"):
    """Writes y = mean over all places of x @ kernel; channels stand behind the batch."""
    nodes = [
        (["x"], "pooled", "GlobalAveragePool"),
        (["pooled"], "flat", "Flatten"),
        (["flat", "kernel"], "y", "MatMul"),
    ]
    graph = field(2, "toy")
    for inputs, output, kind in nodes:
        node = b"".join(field(1, name) for name in inputs)
        graph += field(1, node + field(2, output) + field(3, output) + field(4, kind))
    data = struct.pack(f"<{kernel.size}f", *kernel.ravel().tolist())
    dims = b"".join(field(1, size) for size in kernel.shape)
    graph += field(5, dims + field(2, 1) + field(8, "kernel") + field(9, data))
    graph += field(11, tensor_info("x", (batch, *axes)))
    graph += field(12, tensor_info("y", (batch, kernel.shape[1])))
    path.write_bytes(field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph))


def runtime(kernel, axes, batch="n"):
    """A module that computes, as onnxruntime, what `write_onnx` writes."""

    class Session:
        def __init__(self, path, options, providers):
            del path, options, providers

        def get_inputs(self):
            shape = [batch, *axes]
            return [types.SimpleNamespace(name="x", type="tensor(float)", shape=shape)]

        def get_outputs(self):
            return [types.SimpleNamespace(name="y")]

        def run(self, names, inputs):
            assert names == ["y"] and inputs["x"].dtype == np.float32
            x = inputs["x"]
            return [x.reshape(*x.shape[:2], -1).mean(axis=2) @ kernel]

    return types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace,
        InferenceSession=Session,
        get_available_providers=lambda: ["CPUExecutionProvider"],
    )


def write_extractor(folder, kernel, axes=(3, 4, 6, 6), batch="n", **changes):
    """Writes an ONNX extractor; None removes a field of its contract."""
    folder.mkdir(parents=True)
    write_onnx(folder / "model.onnx", kernel, axes, batch)
    contract = {key: value for key, value in (CONTRACT | changes).items() if value is not None}
    (folder / "extractor.json").write_text(json.dumps(contract))
    return folder


def write_clip(folder, texts):
    """Writes a random CLIP of 12 pixels as a native folder, with a tokenizer of `texts`."""
    tokenizers.train(texts, folder.parent / "tokenizer", kind="t5", vocab_size=300)
    tokenizer = tokenizers.load(folder.parent / "tokenizer")
    vit = ViTConfig(image_size=12, patch=4, width=16, num_layers=1, num_heads=2, mlp_dim=20)
    text = ClipTextConfig(
        vocab_size=300, length=11, width=12, num_layers=1, num_heads=2, mlp_dim=20,
        eos_token=tokenizer.eos_token_id,
    )  # fmt: skip
    model = functional.build(clip_model.Clip, ClipConfig(vit=vit, text=text, width=10))
    params = jax.jit(model.init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 1.0, params)
    found = {p.name: p.read_bytes() for p in (folder.parent / "tokenizer").iterdir()}
    weights.save(folder, "clip", model.config, params, files=found)
    return folder
