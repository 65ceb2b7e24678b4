# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.models import condition, functional, lora
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.training import checkpoint, compiled_step, loop, workdir
from mimir_jax.weights import initialization

LORA = c.LoraConfig(rank=2, alpha=6.0, targets=(r"/attention/[qk]/kernel$", "^dit/patch/"))


@pytest.fixture
def lora_run(mimir_run, replace, tmp_path):
    """A run of four steps with adapters on stacked kernels and on a plain one, over all devices."""
    bare = replace(mimir_run.system, ablation="baseline").network
    base = moved(functional.build(model_lib.Mimir, bare).init(jax.random.key(0)))
    weights.save(tmp_path / "base", "mimir", bare, base)  # a fresh head would let nothing through
    task = replace(mimir_run.system, lora=LORA)
    return replace(mimir_run, system=task, steps=4, init_from=str(tmp_path / "base"))


def moved(params):
    """Adapters away from zero, and a head that lets something through."""
    keys = iter(jax.random.split(jax.random.key(7), 999))
    return jax.tree.map(
        lambda x: x + (0.1 * jax.random.normal(next(keys), x.shape)).astype(x.dtype), params
    )


def velocity(model, params, task):
    keys = jax.random.split(jax.random.key(0))
    xt = jax.random.normal(keys[0], (2, 3, 8, 8, task.vae.latent_channels))
    text = condition.Condition(tokens=jax.random.normal(keys[1], (2, 24, 24)), mask=None)
    return jax.jit(lambda p: model.denoise(p, xt, jnp.asarray([10, 900]), text))(params)


@pytest.mark.slow
def test_adapters_begin_as_the_base_and_equal_merged_kernels(mimir_run, replace):
    task = replace(mimir_run.system, lora=LORA)
    model = systems.make_system(replace(mimir_run, system=task)).model
    plain = functional.build(model_lib.Mimir, task.network)
    params = model.init(jax.random.key(0))
    base = plain.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, base, {k: params[k] for k in base})
    assert model.targets == (
        "dit/blocks/block/attention/k/kernel",
        "dit/blocks/block/attention/q/kernel",
        "dit/patch/kernel",
    )
    factors = params["lora"]["dit"]["blocks"]["block"]["attention"]["q"]
    assert factors["a"].shape == (2, 32, 2) and factors["b"].shape == (2, 2, 32)
    assert model.axes["lora"]["dit"]["blocks"]["block"]["attention"]["q"] == {
        "a": ("layers", "embed", None),
        "b": ("layers", None, "heads"),
    }

    loud = moved(base)
    out = velocity(plain, loud, task)
    np.testing.assert_array_equal(velocity(model, {**params, **loud}, task), out)

    params = moved({**params, **loud})
    flat = weights.flatten(jax.device_get(params))
    for target in model.targets:
        a, b = (flat.pop(path) for path in lora.factor_paths(target))
        flat[target] = lora.merged(flat[target], a, b, LORA)
    merged = velocity(plain, weights.unflatten(flat), task)
    np.testing.assert_allclose(velocity(model, params, task), merged, atol=2e-5)
    assert float(jnp.abs(merged - out).max()) > 0.01


@pytest.mark.slow
def test_only_adapters_and_conditioners_train_and_the_run_resumes_and_exports(
    lora_run, tmp_path, replace
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    loop.train(lora_run, whole)
    loop.train(replace(lora_run, steps=2), parts)
    loop.train(lora_run, parts)
    program = _program(lora_run)
    state, other = (
        jax.device_get(checkpoint.Checkpointer(folder).restore(program.state)[0])
        for folder in (whole, parts)
    )
    jax.tree.map(np.testing.assert_array_equal, state, other)

    model = systems.make_system(lora_run).model
    start = jax.device_get(initialization.start_of(lora_run, model))
    jax.tree.map(np.testing.assert_array_equal, start["dit"], state.params["dit"])
    for part in ("lora", "fuser"):
        changed = jax.tree.map(lambda a, b: (a != b).any(), start[part], state.params[part])
        assert any(jax.tree.leaves(changed)), part
    assert set(state.ema) == {"lora", "fuser", "stabilizer"}
    moments = sum(x.size for x in jax.tree.leaves(state.opt_state))
    assert moments < 2.1 * sum(x.size for x in jax.tree.leaves(state.ema))

    # The run opens as a plain Mimir with the average merged in.
    opened, params = weights.load(whole)
    assert set(params) == {"dit", "fuser", "stabilizer"}
    np.testing.assert_allclose(
        velocity(opened, params, lora_run.system),
        velocity(model, state.eval_params, lora_run.system),
        atol=2e-5,
    )
    with pytest.raises(ValueError, match="dit/patch/kernel is a convolution in diffusers"):
        weights.convert_adapters(whole, tmp_path / "adapters")
    assert not (tmp_path / "adapters").exists()


def _program(config):
    one = mesh_lib.make_mesh(devices=jax.devices()[:1])
    return compiled_step.make(config, systems.make_system(config), one)


@pytest.mark.slow
def test_adapters_are_exported_by_the_names_of_diffusers(mimir_run, tmp_path, replace):
    targets = (r"/attention/(q|out)/kernel$", r"/mlp/up/kernel$", "^dit/text/kernel$")
    task = replace(mimir_run.system, lora=replace(LORA, targets=targets))
    run = replace(mimir_run, system=task, steps=1, optimizer=c.OptimizerConfig(ema_decay=0.0))
    program = _program(run)
    model = systems.make_system(replace(mimir_run, system=task)).model
    params = moved(model.init(jax.random.key(0)))
    run_folder = tmp_path / "run"
    with workdir.claimed(run_folder, run):
        pass
    checkpointer = checkpoint.Checkpointer(run_folder)
    checkpointer.save(program.make_state(params), {}, run)
    checkpointer.close()

    report = weights.convert_adapters(run_folder, tmp_path / "adapters")
    weights.convert(run_folder, tmp_path / "merged", to="diffusers")
    plain = {name: part for name, part in params.items() if name != "lora"}
    weights.save(tmp_path / "plain", "mimir", task.network, plain)
    weights.convert(tmp_path / "plain", tmp_path / "base", to="diffusers")
    factors = load_file(tmp_path / "adapters" / "pytorch_lora_weights.safetensors")
    assert report.num_params == sum(x.size for x in factors.values())
    stem = "transformer/diffusion_pytorch_model.safetensors"
    merged, base = (load_file(tmp_path / name / stem) for name in ("merged", "base"))
    changed = set()
    for name in factors:
        layer = name.removeprefix("transformer.").removesuffix(".lora_A.weight")
        if name.endswith("lora_A.weight"):
            product = factors[name.replace("lora_A", "lora_B")] @ factors[name]
            weight = f"{layer}.weight"
            np.testing.assert_allclose(merged[weight], base[weight] + product, atol=1e-5)
            changed.add(weight)
    assert {"transformer_blocks.1.attn1.to_out.0.weight", "patch_embed.text_proj.weight"} <= changed
    for name in set(base) - changed:
        np.testing.assert_array_equal(merged[name], base[name])
    assert (tmp_path / "adapters" / "mimir" / "model.safetensors").is_file()

    # They merge into the base again, fuser and stabilizer included, and start another run.
    with pytest.raises(ValueError, match="must be a network, got adapters alone"):
        weights.load(tmp_path / "adapters")
    weights.convert(tmp_path / "base", tmp_path / "again", lora=[tmp_path / "adapters"])
    again, whole = (weights.read(tmp_path / n, dtype="float32")[1] for n in ("again", "merged"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), again, whole)
    started = replace(task.lora, alpha=2.0, init_from=str(tmp_path / "adapters"))
    other = systems.make_system(replace(mimir_run, system=replace(task, lora=started))).model
    flat = weights.flatten(initialization.read(run, other))
    path = lora.factor_paths(model.targets[0])
    own = weights.flatten(params)
    np.testing.assert_allclose(flat[path[0]], own[path[0]], rtol=1e-6)
    np.testing.assert_allclose(flat[path[1]], 3.0 * own[path[1]], rtol=1e-6)
    assert any(name.startswith("fuser/") for name in flat)
    with pytest.raises(ValueError, match="run folder must hold the config of a run"):
        weights.convert_adapters(tmp_path / "plain", tmp_path / "none")


def test_a_target_that_is_no_kernel_is_refused(mimir_run, replace):
    task = replace(mimir_run.system, lora=replace(LORA, targets=("wings",)))
    with pytest.raises(ValueError, match="targets pattern 'wings' must match the kernel of"):
        systems.make_system(replace(mimir_run, system=task)).model.abstract_params  # noqa: B018
