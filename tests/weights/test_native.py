# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import logging
import shutil
import sys

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import weights
from mimir_jax.models import functional, quantization, t5
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.weights import native

CONFIG = c.T5Config(vocab_size=8, width=4, num_layers=1, num_heads=1, head_dim=4, mlp_dim=4)


@pytest.fixture(scope="module")
def params():
    return jax.jit(functional.build(t5.T5Encoder, CONFIG).init)(jax.random.key(0))


@pytest.mark.parametrize("dtype, atol", [(None, 0), ("float16", 1e-2)])
def test_save_and_load_round_trip(params, tmp_path, dtype, atol):
    weights.save(tmp_path / "w", "t5", CONFIG, params, dtype=dtype, files={"note.txt": b"hi"})
    model, loaded = weights.load(tmp_path / "w", kind="t5")
    assert model.config == CONFIG and (tmp_path / "w" / "note.txt").read_text() == "hi"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), loaded, params)
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(loaded))


def test_parameters_are_written_in_groups(params, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_GROUP_BYTES", 100)
    weights.save(tmp_path / "w", "t5", CONFIG, params)
    opened = weights.open_weights(tmp_path / "w")
    for path, value in weights.flatten(params).items():
        np.testing.assert_array_equal(opened.params[path].read(), value)


def test_save_is_complete_or_absent(params, tmp_path, monkeypatch):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match="must not exist"):
        weights.save(tmp_path / "taken", "t5", CONFIG, params)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native.ocp.partial, "finalize", fail)
    with pytest.raises(ValueError, match="could not be written: No space left on device"):
        weights.save(tmp_path / "w", "t5", CONFIG, params)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_writing_tells_a_full_disk_from_a_bug():
    with pytest.raises(OSError, match="No space left on device"), native.writing():
        raise ValueError("Failed to write 9 bytes to file 7 [os_error_code='28']")
    with pytest.raises(ValueError, match="of ours"), native.writing():
        raise ValueError("a bug of ours")


def test_reading_on_two_threads_at_once_leaves_later_warnings_heard(tmp_path, caplog):
    """What one thread silences while another reads is restored by the last of them, not never."""
    loops, hooks = logging.getLogger("asyncio").level, (sys.excepthook, sys.unraisablehook)
    first, second = native.readable(tmp_path), native.readable(tmp_path)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert logging.getLogger("asyncio").level == loops
    assert (sys.excepthook, sys.unraisablehook) == hooks
    with caplog.at_level("WARNING"), native.readable(tmp_path):
        logging.getLogger("absl").warning("of ours")
    assert "of ours" in caplog.text


def test_load_refuses_what_it_cannot_read(params, tmp_path):
    with pytest.raises(ValueError, match="nowhere must be a folder or a file"):
        weights.load("nowhere")
    with pytest.raises(ValueError, match="must hold a config.json"):
        weights.load(tmp_path)
    folder = tmp_path / "w"
    larger = dataclasses.replace(CONFIG, num_layers=2)
    weights.save(folder, "t5", larger, params)
    with pytest.raises(ValueError, match="must hold the parameters of their config"):
        weights.load(folder)
    shutil.rmtree(folder)
    weights.save(folder, "t5", CONFIG, params)
    with pytest.raises(ValueError, match="must hold a vae, got a t5"):
        weights.load(folder, kind="vae")
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(header | {"kind": "wings"}))
    with pytest.raises(ValueError, match="names 'wings'"):
        weights.load(folder)
    shutil.rmtree(folder / "params")
    (folder / "config.json").write_text(json.dumps(header, indent=2) + "\n")
    with pytest.raises(ValueError, match="must be whole: params/.*, got None"):
        weights.load(folder)
    (folder / "manifest.json").write_bytes(b"\xff" * 5000)
    with pytest.raises(ValueError, match=r"whole manifest.json: UnicodeDecodeError") as error:
        weights.open_weights(folder)
    assert len(str(error.value)) < 600  # the file is not in the message
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"must hold a whole manifest.json"):
        weights.load(folder)


def test_damaged_values_are_one_line(params, tmp_path):
    weights.save(tmp_path / "w", "t5", CONFIG, params)
    file = max((tmp_path / "w" / "params").rglob("d/*"), key=lambda file: file.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"must be whole: params/state/.* bytes, got \d+"):
        weights.load(tmp_path / "w")


def test_overlay_reports_fresh_and_refuses_strangers(params):
    part = {"norm": {"scale": np.full(4, 2.0, np.float32)}}
    merged, fresh = weights.overlay(params, part, source="base")
    np.testing.assert_array_equal(merged["norm"]["scale"], part["norm"]["scale"])
    assert "embed/table" in fresh and "norm/scale" not in fresh
    with pytest.raises(ValueError, match=r"base must fit the model: 1 parameters do not.*wings"):
        weights.overlay(params, {"wings": np.zeros(2)}, source="base")
    with pytest.raises(ValueError, match=r"norm/scale \(5,\)"):
        weights.overlay(params, {"norm": {"scale": np.zeros(5)}}, source="base")


@pytest.mark.parametrize("kind", ["t5", "llm", "vae", "dit"])
def test_shipped_weights_fit_their_presets(kind):
    folder = {"dit": "base"}.get(kind, kind)
    model, params = weights.load(f"package:tiny/{folder}", kind=kind)
    expected = {"t5": c.TINY_T5, "llm": c.TINY_LLM, "vae": c.TINY_VAE, "dit": c.TINY_DIT}
    assert model.config == expected[kind]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


def test_kernels_are_quantised_as_they_are_read_and_split_as_they_were():
    mesh = mesh_lib.own_mesh((1, 4, 1, 2))
    plain, params = weights.load("package:tiny/t5")
    model, whole = weights.load("package:tiny/t5", quantize="int8")
    _, split = weights.load("package:tiny/t5", quantize="int8", mesh=mesh)
    assert model is quantization.quantized(plain, "int8")
    jax.tree.map(np.testing.assert_array_equal, whole, model.quantize(params))
    jax.tree.map(np.testing.assert_array_equal, split, whole)
    kernel = split["blocks"]["block"]["mlp"]["up"]["kernel"]
    shares = {part: x.size // x.addressable_shards[0].data.size for part, x in kernel.items()}
    assert shares == {"values": 8, "scale": 2}
