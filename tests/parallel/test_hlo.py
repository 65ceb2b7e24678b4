# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.parallel import hlo, mesh, topology

PROGRAM = """HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p = (s32[], bf16[4,8]{1,0}) parameter(0)
  %x = bf16[4,8]{1,0} get-tuple-element(%p), index=1
  %ags = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%x), dimensions={0}
  %work = bf16[4,8]{1,0} fusion(%x), kind=kLoop, calls=%add
  %agd = bf16[16,8]{1,0} all-gather-done(%ags)
  ROOT %out = (s32[], bf16[4,8]{1,0}) tuple(%x)
}

ENTRY %main (x: f32[10]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  %loop = (s32[], bf16[4,8]{1,0}) while(%x), condition=%add, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %start = f32[10]{0} all-reduce-start(%x), to_apply=%add
  %done = f32[10]{0} all-reduce-done(%start)
  ROOT %r = f32[10]{0} all-reduce(%done), to_apply=%add
}
"""  # noqa: E501


def test_collectives_count_as_often_as_loops_run_them():
    found = hlo.collectives(PROGRAM)
    assert found["all-gather"] == hlo.Traffic(count=5, bytes=5 * 16 * 8 * 2, overlapped=5)
    assert found["all-reduce"] == hlo.Traffic(count=2, bytes=80, overlapped=0)


TPU_PROGRAM = """HloModule jit_f, is_scheduled=true

%limit (p: (s32[], bf16[4,8])) -> pred[] {
  %p = (s32[]{:T(128)}, bf16[4,8]{1,0}) parameter(0)
  %n = s32[]{:T(128)} constant(42)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%all-reduce-scatter.1 (x: bf16[16,8]) -> bf16[4,8] {
  %x = bf16[16,8]{1,0} parameter(0)
  %all = bf16[16,8]{1,0} all-reduce(%x), to_apply=%add
  ROOT %mine = bf16[4,8]{1,0} dynamic-slice(%all), dynamic_slice_sizes={4,8}
}

%body (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p = (s32[], bf16[4,8]{1,0}) parameter(0)
  %mine = bf16[4,8]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %out = (s32[], bf16[4,8]{1,0}) tuple(%mine)
}

ENTRY %main (x: f32[10]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  ROOT %loop = (s32[], bf16[4,8]{1,0}) while(%x), condition=%limit, body=%body
}
"""


def test_loops_and_fusions_of_the_tpu_compiler_are_read():
    traffic = hlo.Traffic(count=42, bytes=42 * 16 * 8 * 2)
    assert hlo.collectives(TPU_PROGRAM) == {"reduce-scatter": traffic}


def test_collectives_of_a_compiled_program():
    grid = mesh.make_mesh((8, 1, 1, 1))
    rows, whole = NamedSharding(grid, P("data")), NamedSharding(grid, P())

    def repeat(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) + x.sum(), None), 0.0, length=7)[0]

    x = jax.ShapeDtypeStruct((16,), jnp.float32, sharding=rows)
    text = jax.jit(repeat, out_shardings=whole).lower(x).compile().as_text()
    found = hlo.collectives(text)
    assert sum(kind.count for kind in found.values()) in (1, 7)  # hoisted, or in every pass
    assert sum(kind.bytes for kind in found.values()) == 4 * found["all-reduce"].count


def test_topologies():
    found = topology.find("cpu:2x4")
    assert len(found.devices) == 8 and found.chip is None
    for name, message in (
        ("cpu:900", "needs 900 CPU devices, got 8; set XLA_FLAGS"),
        ("v5p", "must be KIND:SIZE such as v5p:4x4x4"),
        ("v9:2x2", "of v4, v5e, v5p, v6e, cpu, got 'v9:2x2'"),
    ):
        with pytest.raises(ValueError, match=message):
            topology.find(name)
