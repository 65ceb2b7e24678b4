# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.parallel import hardware, mesh
from mimir_jax.planning import collectives

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
    found = collectives.collectives(PROGRAM)
    assert found["all-gather"] == collectives.Traffic(
        count=5, bytes=5 * 256, moved=5 * 256, overlapped=5
    )
    assert found["all-reduce"] == collectives.Traffic(count=2, bytes=80, moved=160, overlapped=0)


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
    traffic = collectives.Traffic(count=42, bytes=42 * 256, moved=42 * 256)
    assert collectives.collectives(TPU_PROGRAM) == {"reduce-scatter": traffic}


FUSED_PROGRAM = """HloModule jit_f, is_scheduled=true

%fused_computation.4 (p: bf16[4,8]) -> (bf16[4,8], bf16[16,8]) {
  %p.4 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.1 = bf16[16,8]{1,0:T(8,128)(2,1)} all-gather(%p.4), channel_id=4, dimensions={0}
  ROOT %begun = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.9 (p: bf16[4,8], x: bf16[64,16], w: bf16[16,8]) -> (bf16[64,8], bf16[16,8]) {
  %p.9 = bf16[4,8]{1,0} parameter(0)
  %x.9 = bf16[64,16]{1,0} parameter(1)
  %w.9 = bf16[16,8]{1,0} parameter(2)
  %y.9 = bf16[64,8]{1,0} convolution(%x.9, %w.9), dim_labels=bf_io->bf
  %all-gather.2 = bf16[16,8]{1,0} all-gather(%p.9), channel_id=4, dimensions={0}
  ROOT %both = (bf16[64,8]{1,0}, bf16[16,8]{1,0}) tuple(%y.9, %all-gather.2)
}

%fused_computation.6 (p: bf16[4,8]) -> bf16[16,8] {
  %p.6 = bf16[4,8]{1,0} parameter(0)
  %all-gather.3 = bf16[16,8]{1,0} all-gather(%p.6), channel_id=4, dimensions={0}
  ROOT %ended = bf16[16,8]{1,0} custom-call(%p.6, %all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%body (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %p = (s32[], bf16[4,8]{1,0}) parameter(0)
  %first = bf16[16,8]{1,0} all-gather(%p), channel_id=2, dimensions={0}
  %async-collective-start = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) fusion(%p), kind=kCustom, calls=%fused_computation.4
  %fusion.9 = (bf16[64,8]{1,0}, bf16[16,8]{1,0}) fusion(%p, %p, %first), kind=kOutput, calls=%async_collective_fusion.9
  %async-collective-done = bf16[16,8]{1,0} fusion(%p), kind=kCustom, calls=%fused_computation.6
  ROOT %out = (s32[], bf16[4,8]{1,0}) tuple(%p)
}

ENTRY %main (x: f32[10]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  ROOT %loop = (s32[], bf16[4,8]{1,0}) while(%x), condition=%limit, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""  # noqa: E501


def test_a_collective_in_three_fusions_is_one_beside_their_product():
    traffic = collectives.Traffic(count=10, bytes=10 * 256, moved=10 * 256, overlapped=5)
    assert collectives.collectives(FUSED_PROGRAM) == {"all-gather": traffic}


ASYNC_PROGRAM = """HloModule jit_f, is_scheduled=true

%wrapped (p: f32[16]) -> f32[4] {
  %p = f32[16]{0} parameter(0)
  ROOT %rs = f32[4]{0} reduce-scatter(%p), channel_id=7, dimensions={0}, to_apply=%add
}

ENTRY %main (x: f32[16], y: f32[2,3]) -> f32[16] {
  %x = f32[16]{0:T(128)} parameter(0)
  %y = f32[2,3]{1,0:T(2,128)} parameter(1)
  %ar = (f32[16]{0:T(128)}, f32[2,3]{1,0:T(2,128)S(1)}) all-reduce-start(%x, %y), channel_id=1, to_apply=%add
  %ar.done = (f32[16]{0}, f32[2,3]{1,0}) all-reduce-done(%ar)
  %ag = ((f32[16]{0}, f32[2,3]{1,0:T(2,128)}), (f32[64]{0}, /*index=1*/f32[8,3]{1,0})) all-gather-start(%x, %y), channel_id=2, dimensions={0}
  %work = f32[16]{0} fusion(%x), kind=kLoop, calls=%add
  %ag.done = (f32[64]{0}, f32[8,3]{1,0}) all-gather-done(%ag)
  %cp = (f32[16]{0}, f32[16]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), channel_id=3, source_target_pairs={{0,1}}
  %cp.done = f32[16]{0} collective-permute-done(%cp)
  %rs.start = ((f32[16]{0}), f32[4]{0}, s32[]) async-start(%x), calls=%wrapped
  %rs.more = ((f32[16]{0}), f32[4]{0}, s32[]) async-update(%rs.start), calls=%wrapped
  %product = f32[16]{0} dot(%x, %x)
  %rs.done = f32[4]{0} async-done(%rs.more), calls=%wrapped
  ROOT %alone = f32[4]{0} reduce-scatter(%x), channel_id=8, dimensions={0}, to_apply=%add
}
"""  # noqa: E501


def test_starts_hold_operands_and_results_of_several_arrays():
    found = collectives.collectives(ASYNC_PROGRAM)
    assert found["all-reduce"].bytes == 4 * (16 + 6) and found["all-reduce"].overlapped == 0
    assert found["all-gather"].bytes == 4 * (64 + 24) and found["all-gather"].overlapped == 1
    assert found["collective-permute"].bytes == 4 * 16
    assert found["reduce-scatter"].bytes == 2 * 4 * 16 and found["reduce-scatter"].overlapped == 1
    assert [kind.count for kind in found.values()] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "groups, number",
    [("{{0,2,4,6},{1,3,5,7}}", 4), ("[4,2]<=[2,4]T(1,0)", 2), ("mesh['a'=2,'b'=4] {'b'}", 4),
     ("mesh['a'=2,'b'=4] {'a','b'}", 8), ("mesh['a'=2,'b'=4] {'a','b':(1)2}", 4)],
)  # fmt: skip
def test_a_device_gets_all_but_its_own_part(groups, number):
    line = "  ROOT %r = f32[10]{0} all-reduce(%done), to_apply=%add"
    assert line in PROGRAM
    text = PROGRAM.replace(line, f"{line}, replica_groups={groups}, channel_id=1")
    once = collectives.collectives(PROGRAM)["all-reduce"].moved - 80
    assert collectives.collectives(text)["all-reduce"].moved == once + 80 * (number - 1) // number


def test_collectives_of_a_compiled_program():
    grid = mesh.make_mesh((8, 1, 1, 1))
    rows, whole = NamedSharding(grid, P("data")), NamedSharding(grid, P())

    def repeat(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c) + x.sum(), None), 0.0, length=7)[0]

    x = jax.ShapeDtypeStruct((16,), jnp.float32, sharding=rows)
    text = jax.jit(repeat, out_shardings=whole).lower(x).compile().as_text()
    found = collectives.collectives(text)
    assert sum(kind.count for kind in found.values()) in (1, 7)  # hoisted, or in every pass
    assert sum(kind.bytes for kind in found.values()) == 4 * found["all-reduce"].count


def test_topologies(monkeypatch):
    found = hardware.find_topology("cpu:2x4")
    assert len(found.devices) == 8 and found.chip is None
    asked = {}

    def describe(**arguments):
        asked.update(arguments)
        return types.SimpleNamespace(devices=jax.devices()[:1])

    monkeypatch.setattr(hardware.topologies, "get_topology_desc", describe)
    for name, links, extra in (
        ("v4:2x2x1", 2, {"chip_config_name": "megacore"}),
        ("v5p:4x4x8", 6, {}),
        ("v6e:1x1", 0, {"chips_per_host_bounds": (1, 1, 1)}),
    ):
        asked.clear()
        assert hardware.find_topology(name).links == links
        assert asked == {"platform": "tpu", "topology_name": name, **extra}
    for name, message in (
        ("cpu:900", "needs 900 CPU devices, got 8; set XLA_FLAGS"),
        ("v5p", "must be KIND:SIZE such as v5p:4x4x4"),
        ("cpu:0", "topology of cpu must have 1 sizes of at least 1, got 'cpu:0'"),
        ("v5e:4x4x4", "topology of v5e must have 2 sizes of at least 1, got 'v5e:4x4x4'"),
        ("v9:2x2", "of v4, v5e, v5p, v6e, cpu, got 'v9:2x2'"),
    ):
        with pytest.raises(ValueError, match=message):
            hardware.find_topology(name)
