# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.models.attention import kernels
from mimir_jax.parallel import hardware
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import aot, memory
from mimir_jax.training import compiled_step, loop


@pytest.fixture
def small(mimir_run, replace):
    """A run whose DiT is wide enough that its moments are factored, over two by four devices."""
    dit = replace(mimir_run.system.model.dit, num_layers=3, num_heads=8, remat="full")
    task = replace(mimir_run.system, model=replace(mimir_run.system.model, dit=dit))
    return replace(mimir_run, system=task, mesh=c.MeshConfig(data=1, fsdp=4, tensor=2))


def make_step(config):
    mesh = mesh_lib.make_mesh(config.mesh.sizes)
    return compiled_step.make(config, systems.make_system(config), mesh)


def estimate(config):
    return memory.estimate(config, systems.make_system(config), jax.devices())


def check(config):
    return memory.check(config, systems.make_system(config), jax.devices())


def steps(config, number=2):
    """Takes steps from a fresh state on random data, and returns losses and state."""
    system, step = systems.make_system(config), make_step(config)
    rng = np.random.default_rng(0)
    batch = jax.tree.map(
        lambda x: jax.device_put(
            np.ones(x.shape, bool) if x.dtype == bool else rng.normal(size=x.shape).astype("f"),
            step.batch,
        ),
        system.batch_spec(system.buckets[0]),
    )
    make = jax.jit(
        lambda key: step.make_state(system.model.init(key)), out_shardings=step.shardings
    )
    state, losses = make(jax.random.key(0)), []
    key = jax.device_put(jax.random.key(1), step.replicated)
    for _ in range(number):
        state, values = step.step(state, batch, key)
        losses.append(float(values["loss"]))
    return losses, state


def test_factored_moments_follow_the_split_of_their_parameter(small, replace):
    optimizer = replace(small.optimizer, name="adafactor", b1=0.0)
    step = make_step(replace(small, optimizer=optimizer))
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(step.state.opt_state):
        name = jax.tree_util.keystr(path)
        for kind in ("v_row", "v_col"):
            if f".{kind}[" in name and leaf.size > 1:
                found[kind, name.rpartition("['block']")[2]] = leaf.shape, leaf.sharding.spec
    up = "['mlp']['up']['kernel']"  # (layers, embed, mlp) = (3, 128, 512)
    assert found["v_row", up] == ((3, 128), P(None, "fsdp"))
    assert found["v_col", up] == ((3, 512), P(None, "tensor"))
    query = "['attention']['q']['kernel']"  # square
    assert found["v_row", query] == ((3, 128), P(None, "fsdp"))
    assert found["v_col", query] == ((3, 128), P(None, "tensor"))
    size = lambda tree: sum(x.size for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(step.state.opt_state) < 0.2 * size(step.state.params)


@pytest.mark.slow
def test_moments_in_host_memory_train_alike(small, replace):
    held = replace(small, optimizer=replace(small.optimizer, offload=True))
    (losses, state), (others, other) = steps(small), steps(held)
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(other.opt_state) if x.ndim > 0}
    assert kinds == {"pinned_host"}
    np.testing.assert_allclose(losses, others, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, other.params
    )


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "full"])
def test_estimate_is_near_what_the_compiler_reserves(small, replace, remat):
    dit = replace(small.system.model.dit, remat=remat)
    task = replace(small.system, model=replace(small.system.model, dit=dit))
    config = replace(small, system=task)
    place = hardware.find_topology("cpu:8")
    told = aot.compile_run(config, place, "train").memory
    found = estimate(config)
    for part in ("parameters", "optimizer", "average"):
        assert found.fixed[part] == told[part]
    transient = sum(found.transient.values())
    assert told["temporary"] / memory.SLACK < transient < told["temporary"] * memory.SLACK


@pytest.mark.slow
def test_a_run_that_cannot_fit_is_refused_with_what_would_help(small, replace, monkeypatch):
    whole = replace(small, mesh=c.MeshConfig())
    found = estimate(whole)
    monkeypatch.setattr(memory, "device_memory", lambda device, held: found.total + held)
    line = str(check(whole))
    assert "memory of a device, estimated" in line and "optimizer" in line
    limit = sum(found.fixed.values())
    monkeypatch.setattr(memory, "device_memory", lambda device, held: limit + held)
    with pytest.raises(ValueError, match="must fit .* use one of --config.mesh.data=1") as error:
        check(whole)
    assert "adafactor" in str(error.value) and "remat=full" not in str(error.value)
    monkeypatch.setattr(memory, "device_memory", lambda *args: 1000)
    with pytest.raises(ValueError, match="use more devices or a smaller model"):
        check(whole)


@pytest.mark.parametrize(
    "capacity, advice",
    [
        (90, "use one of --config.mesh.data=1 --config.mesh.fsdp=-1, --config.optimizer.name="),
        (60, "use several of --config.mesh.data=1 --config.mesh.fsdp=-1, --config.optimizer.name="),
        (40, "use more devices or a smaller model"),
    ],
)
def test_changes_that_make_a_run_fit_are_named(small, replace, monkeypatch, capacity, advice):
    def stand_in(config, system, devices, *, frozen, capacity):
        saved = 25 * (config.mesh.fsdp != 1) + 25 * (config.optimizer.name == "adafactor")
        return memory.Estimate({"parameters": 110 - saved}, {"activations": 0}, capacity, 1)

    monkeypatch.setattr(memory, "estimate", stand_in)
    monkeypatch.setattr(memory, "device_memory", lambda device, held: capacity)
    with pytest.raises(ValueError, match="run must fit the memory of a device") as error:
        check(replace(small, mesh=c.MeshConfig()))
    assert advice in str(error.value)


@pytest.mark.slow
def test_frozen_networks_count_before_they_are_read(mimir_run, replace, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda device, held: held + 10**9)
    kept = jax.live_arrays()  # so that nothing of other tests is freed between the two counts
    counted = lambda run: check(run).fixed["frozen networks"]  # noqa: E731
    before = counted(mimir_run)
    encoder = systems.make_encoder(mimir_run, systems.make_system(mimir_run))
    frozen = [encoder.codec_params, *(n.params for n in encoder.text.networks.values())]
    read = sum(x.nbytes for x in jax.tree.leaves(frozen))
    assert counted(mimir_run) - before == read  # what lies there counts as well
    del kept
    with pytest.raises(ValueError, match="system.vae_path must name a folder of vae weights"):
        counted(replace(mimir_run, system=replace(mimir_run.system, vae_path=None)))


@pytest.mark.slow
def test_a_run_that_cannot_fit_is_refused_before_anything_is_read(small, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda *args: 1000)
    monkeypatch.setattr(systems, "make_encoder", None)
    with pytest.raises(ValueError, match="run must fit the memory of a device"):
        loop.train(
            small, tmp_path / "run", check=lambda system: memory.check(small, system, jax.devices())
        )
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_split_is_refused_before_anything_is_read(
    mimir_run, replace, tmp_path, monkeypatch
):
    monkeypatch.setattr(systems, "make_encoder", None)
    optimizer = replace(mimir_run.optimizer, grad_accumulation=2)
    odd = replace(mimir_run, mesh=c.MeshConfig(data=2, fsdp=-1), optimizer=optimizer)
    for run, sizes in ((odd, "2 x 4 x 2, got 8"), (replace(mimir_run, batch_size=6), "1 x 8 x 1")):
        with pytest.raises(ValueError, match=f"optimizer.grad_accumulation = {sizes}"):
            loop.train(run, tmp_path / "run")


@pytest.mark.slow
def test_attention_scores_are_those_of_one_device(small, monkeypatch):
    tokens = 24 + 4 + 3 * 4 * 4  # of the caption, of instructions, of the clip
    scores = 8 * 8 * tokens**2 // 8  # clips and heads, over eight devices

    def activations(budget):
        monkeypatch.setattr(kernels, "MAX_SCORES", budget)
        return estimate(small).transient["activations"]

    half, quarter = activations(scores // 2), activations(scores // 4)
    assert half - quarter == 3 * 4 * (scores // 4)
    # Whole, they are kept for the gradient of the block at hand.
    assert activations(scores) == activations(8 * scores) > quarter


@pytest.mark.slow
def test_the_largest_bucket_counts(small, replace):
    system = systems.make_system(small)
    (bucket,) = system.buckets
    activations = []
    for buckets in ((bucket,), (bucket, replace(bucket, frames=17))):
        system.buckets = buckets
        found = memory.estimate(small, system, jax.devices())
        activations.append(found.transient["activations"])
    assert 1.2 * activations[0] < activations[1] < 2 * activations[0]


@pytest.mark.slow
def test_adapters_and_accumulation_take_less(small):
    import dataclasses

    whole = estimate(small)
    lora = c.LoraConfig(rank=2, base_dtype="bfloat16")
    adapted = dataclasses.replace(small, system=dataclasses.replace(small.system, lora=lora))
    found = estimate(adapted)
    assert found.fixed["optimizer"] < whole.fixed["optimizer"] / 4
    assert found.fixed["parameters"] < 0.7 * whole.fixed["parameters"]
    assert found.transient["gradients"] < whole.transient["gradients"] / 4
    optimizer = dataclasses.replace(small.optimizer, grad_accumulation=2)
    found = estimate(dataclasses.replace(small, optimizer=optimizer))
    assert found.transient["activations"] < whole.transient["activations"]


def test_host_memory_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(mesh_lib, "HOST_MEMORY", "stone")
    with pytest.raises(ValueError, match="offload needs devices with stone memory, cpu has"):
        mesh_lib.host_memory(mesh_lib.make_mesh())


@pytest.mark.slow
def test_float32_and_bfloat16_momentum_are_kept_as_asked(small, replace):
    optimizer = replace(small.optimizer, momentum_dtype="bfloat16")
    half, whole = estimate(replace(small, optimizer=optimizer)), estimate(small)
    np.testing.assert_allclose(half.fixed["optimizer"] / whole.fixed["optimizer"], 0.75, atol=0.01)
    step = make_step(replace(small, optimizer=optimizer))
    kinds = {x.dtype for x in jax.tree.leaves(step.state.opt_state) if x.ndim > 0}
    assert kinds == {jnp.dtype("float32"), jnp.dtype("bfloat16")}
