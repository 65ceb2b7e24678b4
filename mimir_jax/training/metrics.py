# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Metric sinks (JSONL and TensorBoard), FLOP counting, and peak FLOP/s of devices."""

import contextlib
import json
import math
import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mimir_jax import files
from mimir_jax.models import functional
from mimir_jax.parallel import context, distributed, hardware

_TPUS = {
    "v4": ("TPU v4",),
    "v5e": ("TPU v5 lite", "TPU v5e"),
    "v5p": ("TPU v5", "TPU v5p"),
    "v6e": ("TPU v6 lite", "TPU v6e"),
}
_GPUS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 835e12,
}
PEAK_FLOPS = {
    **{kind: hardware.CHIPS[chip].flops for chip, kinds in _TPUS.items() for kind in kinds},
    **_GPUS,
}
"""Dense bfloat16 FLOP/s of a device by `jax.Device.device_kind`, from its maker's data sheet."""


FILE = "metrics.jsonl"


class Writer:
    """Appends scalars to `metrics.jsonl` and a TensorBoard log, on process 0 only.

    Every value of every step stands there once and in order: what an earlier process wrote beyond
    the step it is taken up from, or could not finish to write, is dropped. TensorBoard drops it
    when it reads the log.
    """

    def __init__(self, workdir: pathlib.Path, step: int = 0):
        """Opens the files for the steps from `step` on."""
        self._active = distributed.is_first()
        if self._active:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._path = workdir / FILE
            self._hook, threading.excepthook = threading.excepthook, _quiet(threading.excepthook)
            with files.writing(workdir, "workdir"):
                self._board = EventFileWriter(str(workdir / "tensorboard"))
            self._open(step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one record of scalars, without those that are known of its step."""
        if not self._active:
            return
        values = {n: x for n, x in values.items() if n not in self._known.get(step, ())}
        if not values:
            return
        with files.writing(self._path, "metrics file"):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            scalars = [{"tag": name, "simple_value": value} for name, value in values.items()]
            self._board.add_event(_event(step, summary={"value": scalars}))

    def rewind(self, step: int) -> None:
        """Drops what was written beyond `step`."""
        if self._active:
            self._file.close()
            self._open(step)

    def close(self) -> None:
        """Closes both files; a refusal to write has been raised by the `write` that met it."""
        if self._active:
            for file in (self._file, self._board):
                with contextlib.suppress(OSError):
                    file.close()
            threading.excepthook = self._hook

    def _open(self, step: int) -> None:
        found = read_records(self._path)
        records = [record for record in found if record["step"] <= step]
        self._known: dict[int, set[str]] = {}
        for record in records:
            if record["step"] == step:
                self._known.setdefault(step, set()).update(record)
        text = "".join(json.dumps(record) + "\n" for record in records)
        if self._path.exists() and self._path.read_bytes() != text.encode():
            files.write_text(self._path, text)
        with files.writing(self._path, "metrics file"):
            self._file = self._path.open("a")
            self._board.add_event(_event(step + 1, session_log={"status": "START"}))


def _event(step: int, **content: Any) -> Any:
    """Returns an event of TensorBoard; the start of a session drops those from its step on."""
    from tensorboard.compat.proto import event_pb2  # imports in 0.6 s

    return event_pb2.Event(wall_time=time.time(), step=step, **content)


def _quiet(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wraps a hook of threads; TensorBoard's raise their error again at the next write."""

    def told(args: Any) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            hook(args)

    return told


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a `metrics.jsonl` in order, without a line that a crash has torn."""
    if not path.exists():
        return []
    with files.reading(path, "metrics file"):
        lines = path.read_bytes().split(b"\n")
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def heldout_losses(workdir: pathlib.Path) -> dict[int, float]:
    """Returns the held-out loss of a run by step, as far as it was evaluated."""
    records = read_records(workdir / FILE)
    return {r["step"]: r["heldout/loss"] for r in records if "heldout/loss" in r}


def to_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Fetches device scalars in one transfer."""
    return {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}


def peak_flops(mesh: Mesh) -> float | None:
    """Returns the FLOP/s of all devices of a mesh together, None for kinds without a data sheet."""
    peak = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
    return None if peak is None else peak * mesh.size


def count_flops(function: Callable, *args: Any, attention: bool = True) -> int:
    """Counts the matrix-product and convolution FLOPs of `function`, scans unrolled.

    A multiply-add is two operations, as in published model FLOPs. Arguments may be abstract. The
    cost of attention follows from its shapes, whichever kernel computes it; padding that a mesh
    adds does not count, and attention kernels count only with `attention`.
    """
    with context.no_mesh():
        return jaxpr_flops(jax.make_jaxpr(function)(*args).jaxpr, attention)


def jaxpr_flops(jaxpr: Any, attention: bool) -> int:
    """Counts as `count_flops` does, in a traced function."""
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if eqn.params.get("name") == functional.FUSED_ATTENTION:
            if attention:  # parts of its gradient, which do not count, may lack arguments
                q, k = (x.aval.shape for x in eqn.invars[:2])  # (b, s, heads, head_dim)
                total += 2 * 2 * math.prod(q) * k[1]  # scores, weighted values
        elif name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            inner = math.prod(eqn.invars[0].aval.shape[d] for d in contract)
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * inner
        elif name == "conv_general_dilated":
            spec = eqn.params["dimension_numbers"].rhs_spec
            kernel = eqn.invars[1].aval.shape
            taps = int(np.prod([kernel[d] for d in spec[1:]]))  # in-channels x window
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * taps
        elif name == "cond":  # branches are alternatives
            total += max(jaxpr_flops(branch.jaxpr, attention) for branch in eqn.params["branches"])
        else:
            times = eqn.params.get("length", 1) if name == "scan" else 1
            for value in eqn.params.values():
                inner_jaxpr = getattr(value, "jaxpr", value)
                if hasattr(inner_jaxpr, "eqns"):
                    total += times * jaxpr_flops(inner_jaxpr, attention)
    return total
