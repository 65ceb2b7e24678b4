# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cost of splitting a train step over simulated CPU devices, against the same step on one device.

    python benchmarks/scaling.py [--case tiny] [--rounds 3]

Every side trains the network of the embedded default on the same batch with the same cores, so a
perfect split takes as long as one device. The excess is collectives, copies and smaller matrix
products. Real devices have their own cores and memory, and gain what stays constant here. The
losses of the first steps are compared. Writes docs/results/.
"""

import dataclasses
import functools
import math
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks`, which is no package of the distribution

from benchmarks import harness  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import MeshConfig, TrainConfig, bridge  # noqa: E402

MESHES = {
    "one device": MeshConfig(data=1, fsdp=1),
    "data 2": MeshConfig(data=2, fsdp=1),
    "data 8": MeshConfig(data=8, fsdp=1),
    "fsdp 2": MeshConfig(data=1, fsdp=2),
    "fsdp 8": MeshConfig(data=1, fsdp=8),
    "fsdp 4, tensor 2": MeshConfig(data=1, fsdp=4, tensor=2),
    "fsdp 4, context 2": MeshConfig(data=1, fsdp=4, context=2),
    "fsdp 4, ring 2": MeshConfig(data=1, fsdp=4, context=2, context_parallel="ring"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Train steps to time.

    Attributes:
        batch_size: Clips per step over all devices.
        steps: Train steps per round.
    """

    batch_size: int = 8
    steps: int = 2


class Split:
    """The train step on one mesh."""

    def __init__(self, case: Case, folder: pathlib.Path, device: str, *, mesh: MeshConfig):
        del folder, device
        host.prepare_host()
        import jax

        from configs import mimir
        from mimir_jax import systems
        from mimir_jax.data import loader
        from mimir_jax.parallel import context
        from mimir_jax.parallel import mesh as mesh_lib
        from mimir_jax.training import compiled_step
        from mimir_jax.weights import initialization

        jax.config.update("jax_num_cpu_devices", math.prod(mesh.sizes))
        config = bridge.from_config_dict(TrainConfig, mimir.get_config("tiny"))
        config = dataclasses.replace(config, mesh=mesh, batch_size=case.batch_size)
        system = systems.make_system(config)
        step = compiled_step.make(config, system, mesh_lib.make_mesh(mesh.sizes))
        self._jax, self._steps, self._step = jax, case.steps, step
        self._use = functools.partial(context.use_mesh, step.mesh, step.rules)
        rng = np.random.default_rng(0)
        batch = jax.tree.map(
            lambda x: (
                np.ones(x.shape, x.dtype)
                if x.dtype == bool
                else rng.normal(size=x.shape).astype(x.dtype)
            ),
            system.batch_spec(system.buckets[0]),
        )
        with self._use():
            params = initialization.start(config, system.model, None, step.shardings.params)
            make_state = jax.jit(step.make_state, out_shardings=step.shardings)
            self._state = make_state(params)
            self._batch = loader.device_put(batch, step.batch)
            self._key = jax.device_put(jax.random.key(0), step.replicated)

    def run(self, phase: str) -> np.ndarray:
        """Trains, waits for the end and returns the losses."""
        del phase
        losses = []
        with self._use():
            for _ in range(self._steps):
                self._state, metrics = self._step.step(self._state, self._batch, self._key)
                losses.append(metrics["loss"])
        return np.asarray(self._jax.device_get(losses))


def describe(case: Case, device: str) -> str:
    """Describes a case."""
    del device
    return (
        f"Train steps of `configs/mimir.py`, batch {case.batch_size} over all devices, "
        f"{case.steps} per round, on simulated devices that share the cores: a split without cost "
        "takes as long as one device. The outputs are the losses."
    )


if __name__ == "__main__":
    harness.main(
        harness.Benchmark(
            name="scaling",
            sides={name: functools.partial(Split, mesh=mesh) for name, mesh in MESHES.items()},
            phases=("train steps",),
            cases={"tiny": Case()},
            make=lambda case, folder, device: None,
            describe=describe,
            peers=("jaxlib",),
        )
    )
