# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import checksums, weights
from mimir_jax import config as c
from mimir_jax.config import bridge
from mimir_jax.errors import InputError
from mimir_jax.training import checkpoint, state
from mimir_jax.weights import native, runs

RNG = np.random.default_rng(0)


def arrays():
    for dtype in ("float32", "bfloat16", "float16", "int32", "uint8", "bool"):
        yield (RNG.normal(size=(5, 7, 3)) * 9).astype(jnp.dtype(dtype))
    yield np.array(3.5, np.float32)
    yield np.zeros((0, 3), np.float32)


@pytest.mark.parametrize("value", list(arrays()), ids=lambda x: f"{x.dtype}{x.shape}")
def test_devices_and_host_agree_on_the_sum(value):
    total, finite = checkpoint.sum_on_device(jnp.asarray(value))
    assert checksums.as_text(int(total)) == checksums.of_array(value) and finite


@pytest.mark.parametrize("size", [200, 70_000, 1_200_020])  # the last one on threads
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_the_sum_is_over_all_pieces_in_order(size, dtype):
    value = RNG.integers(np.iinfo(dtype).max, size=size, dtype=dtype)
    mixed = value.astype(np.uint32) * np.uint32(checksums.MIX)
    mixed ^= mixed >> np.uint32(checksums.SHIFT)
    odd = 2 * np.arange(size, dtype=np.uint32) + 1
    whole = checksums.of_array(value)
    assert whole == checksums.as_text(int((mixed * odd).sum(dtype=np.uint64)))
    assert checksums.of_array(value[::-1]) != whole
    assert checksums.of_array(np.asfortranarray(value.reshape(10, -1))) == whole


def test_every_flipped_bit_changes_the_sum():
    value = RNG.normal(size=40).astype(np.float32)
    whole = checksums.of_array(value)
    for place in range(value.nbytes * 8):
        flipped = bytearray(value.tobytes())
        flipped[place // 8] ^= 1 << place % 8
        assert checksums.of_array(np.frombuffer(flipped, np.float32)) != whole


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place // 8 % len(content)] ^= 1 << place % 8
    file.write_bytes(bytes(content))


def test_every_flipped_bit_of_a_folder_is_noticed(tmp_path):
    """One bit in each file of the shipped T5, and in another place of its largest."""
    whole = weights.resolve("package:tiny/t5")
    files = [f.relative_to(whole) for f in sorted(whole.rglob("*")) if f.stat().st_size]
    files = [f for f in files if (whole / f).is_file()]
    largest = max(files, key=lambda f: (whole / f).stat().st_size)
    for number, name in enumerate([*files, largest]):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        bits = 8 * (whole / name).stat().st_size
        flip(folder / name, int(RNG.integers(bits)))
        with pytest.raises(InputError, match=f"{folder}"):
            native.read_manifest(folder)
            weights.load(folder)  # only the largest files get here
        shutil.rmtree(folder)


def test_a_manifest_lists_what_it_covers(tmp_path):
    folder = weights.resolve("package:tiny/t5")
    manifest = json.loads((folder / native.MANIFEST).read_text())
    assert set(manifest["checksums"]) == set(weights.open_weights(folder).params)
    assert {"config.json", "tokenizer.json"} <= set(manifest["file_checksums"])
    assert native.MANIFEST not in manifest["files"]


def make_state(value=1.0):
    params = {"a": {"kernel": jnp.full((4, 6), value)}}
    return state.TrainState(step=jnp.int32(3), params=params, opt_state=(), ema=None)


def test_a_state_has_a_sum_for_each_leaf():
    sums = checkpoint.state_sums(make_state())
    assert set(sums) == {"step", "params/a/kernel"}
    assert sums != checkpoint.state_sums(make_state(1.0000001))


def test_a_state_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match=r"must be finite to be saved, params/a/kernel is not"):
        checkpoint.require_finite(make_state(jnp.nan))
    assert checkpoint.not_finite(make_state(jnp.nan)) == ["params/a/kernel"]


def test_split_arrays_have_the_sum_of_the_whole():
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    value = RNG.normal(size=(8, 12)).astype(np.float32)
    spec = jax.sharding.PartitionSpec("y", "x")
    split = jax.device_put(value, jax.sharding.NamedSharding(mesh, spec))
    assert checksums.as_text(int(checkpoint.sum_on_device(split)[0])) == checksums.of_array(value)


def test_every_shipped_folder_is_whole():
    shipped = weights.resolve("package:tiny")
    folders = {path.parent for path in shipped.rglob("params")}
    names = {folder.relative_to(shipped).parts[0] for folder in folders}
    assert names == {"t5", "llm", "llava", "vae", "base", "mimir", "i2v", "divot", "vimi"}
    for folder in folders:
        native.read_manifest(folder)


def test_no_config_of_a_shipped_or_released_run_names_a_folder_of_a_machine(tmp_path):
    run = c.TrainConfig(system=c.CogVideoXSystemConfig(), data=c.DataConfig(features="/data/x"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(bridge.to_json(run))
    (tmp_path / "released").mkdir()
    runs.release(tmp_path / "run", tmp_path / "released")
    assert runs.read_config(tmp_path / "released").data.features is None
    texts = {
        path: path.read_text().replace('"/attention/', "")  # a pattern of parameter names
        for folder in (weights.resolve("package:tiny"), tmp_path / "released")
        for path in folder.rglob("config.json")
    }
    assert len(texts) > 8 and not [path for path, text in texts.items() if '"/' in text]
