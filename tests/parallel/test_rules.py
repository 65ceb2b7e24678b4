# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import mesh_utils
from jax.sharding import PartitionSpec as P

from mimir_jax.parallel import context, mesh, rules

TABLE = rules.STRATEGIES["fsdp"]


def test_mesh_fills_the_free_axis():
    assert dict(mesh.make_mesh((2, -1, 1, 2)).shape) == dict(data=2, fsdp=2, context=1, tensor=2)


@pytest.mark.parametrize("sizes", [(3, 1, 1, 1), (2, 2, 1, 1), (-1, -1, 1, 1), (0, -1, 1, 1)])
def test_mesh_refuses_sizes_that_do_not_fit(sizes):
    with pytest.raises(ValueError, match="set them with --config.mesh"):
        mesh.make_mesh(sizes)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", (-1, 1, 1, 1)),
        ("tensor=4,fsdp=2", (-1, 2, 1, 4)),
        ("context=-1", (1, 1, -1, 1)),
        ("data=2,fsdp=-1", (2, -1, 1, 1)),
    ],
)
def test_a_flag_gives_the_sizes_of_a_mesh(text, sizes):
    assert mesh.parse_sizes(text) == sizes


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fsdp", "fsdp"),
        ("fsdp=2,model=4", "model=4"),
        ("fsdp=0", "fsdp=0"),
        ("fsdp=2,fsdp=2", "fsdp=2"),
        ("tensor=two", "tensor=two"),
        ("fsdp=2,", ""),
    ],
)
def test_a_flag_that_gives_no_sizes_is_refused(text, part):
    with pytest.raises(ValueError, match=f"as in fsdp=2,tensor=4, got {text!r}; change {part!r}"):
        mesh.parse_sizes(text)


@dataclasses.dataclass(frozen=True)
class Chip:
    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "cpu"
    device_kind: str = "cpu"


def laid_out(sizes, slices):
    """Slice of each device of a mesh over `slices` granules of as many devices as fit."""
    each = math.prod(sizes) // slices
    devices = [Chip(i, i // each) for i in range(math.prod(sizes))]
    return np.vectorize(lambda d: d.slice_index)(mesh.make_grid(sizes, devices[::-1]))


@pytest.mark.parametrize(
    "sizes, slices, outer",
    [((4, 2, 1, 2), 4, (4, 1)), ((2, 8, 1, 1), 4, (2, 2)), ((1, 4, 2, 2), 2, (1, 2)),
     ((6, 2, 2, 1), 4, (2, 2)), ((2, 2, 2, 2), 1, (1, 1))],
)  # fmt: skip
def test_mesh_crosses_slices_along_data_then_fsdp(sizes, slices, outer):
    grid = laid_out(sizes, slices)
    assert grid.shape == sizes
    # Blocks of one slice each: `outer` of them along data and fsdp, whole along the rest.
    blocks = grid.reshape(outer[0], sizes[0] // outer[0], outer[1], sizes[1] // outer[1], -1)
    blocks = blocks.swapaxes(1, 2).reshape(slices, -1)
    assert all(len(set(block)) == 1 for block in blocks)
    assert sorted(block[0] for block in blocks) == list(range(slices))


def test_mesh_refuses_context_or_tensor_across_slices():
    with pytest.raises(ValueError, match="must span 4 slices or hosts .* got data=1, fsdp=2"):
        laid_out((1, 2, 2, 2), 4)


def test_mesh_refuses_slices_of_different_sizes():
    devices = [Chip(i, int(i > 2)) for i in range(8)]
    with pytest.raises(ValueError, match="equally many devices, got .* 3 and 5 devices each"):
        mesh.make_grid((2, 4, 1, 1), devices)


@dataclasses.dataclass(frozen=True)
class TpuChip:
    """Chip of a 4x4x4 slice as a compiler describes it: it names its host, but no slice."""

    id: int
    platform: str = "tpu"
    device_kind: str = "TPU v5"
    core_on_chip: int = 0

    @property
    def coords(self):
        return self.id % 4, self.id // 4 % 4, self.id // 16

    @property
    def process_index(self):
        return self.id // 4


@pytest.mark.parametrize("sizes", [(1, 64, 1, 1), (1, 8, 8, 1), (1, 2, 32, 1), (2, 4, 1, 8)])
def test_hosts_of_a_described_tpu_slice_are_no_border(sizes):
    chips = [TpuChip(i) for i in range(64)]
    grid = mesh.make_grid(sizes, chips)
    assert grid.shape == sizes and set(grid.flat) == set(chips)
    expected = mesh_utils.create_device_mesh(sizes, chips, allow_split_physical_axes=True)
    assert (grid == expected).all()


def test_spec_skips_axes_of_size_one_and_uneven_dimensions():
    grid = mesh.make_mesh((2, 2, 1, 2))
    assert rules.spec(("embed", "mlp"), TABLE, grid) == P("fsdp", "tensor")
    assert rules.spec(("embed", "mlp"), TABLE, grid, shape=(3, 4)) == P(None, "tensor")
    assert rules.spec(("act_batch", "act_length"), TABLE, grid) == P(("data", "fsdp"), None)


@pytest.mark.parametrize(
    "axes, message", [(("embed", "wings"), "unknown logical axis 'wings'"),
                      (("mlp", "heads"), "used twice")]
)  # fmt: skip
def test_param_shardings_name_the_bad_parameter(axes, message):
    grid = mesh.make_mesh((1, 1, 1, 8))
    abstract = {"up": {"kernel": jax.ShapeDtypeStruct((8, 8), jnp.float32)}}
    with pytest.raises(ValueError, match=f"parameter up.kernel: .*{message}"):
        rules.param_shardings(abstract, {"up": {"kernel": axes}}, TABLE, grid)


def test_param_shardings_refuse_missing_axes():
    grid = mesh.make_mesh((8, 1, 1, 1))
    abstract = {"kernel": jax.ShapeDtypeStruct((8, 8), jnp.float32)}
    with pytest.raises(ValueError, match="parameter kernel needs 2 axes"):
        rules.param_shardings(abstract, {"kernel": ("embed",)}, TABLE, grid)


def test_constrain_checks_rank_and_places_on_the_mesh():
    x = jnp.ones((8, 4))
    assert context.constrain(x, "act_batch", None) is x
    with pytest.raises(ValueError, match="one axis per dimension"):
        context.constrain(x, "act_batch")
    grid = mesh.make_mesh((8, 1, 1, 1))
    with context.use_mesh(grid, TABLE):
        y = jax.jit(lambda x: context.constrain(x, "act_batch", "act_embed"))(x)
    assert y.sharding.spec[0] == "data"
