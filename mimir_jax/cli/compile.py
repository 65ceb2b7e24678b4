# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Compile a run for devices that this machine lacks.

Prints memory by part, FLOPs, collectives and a lower bound on the step time, for each bucket. It
needs neither weights nor data; TPU slices such as --topology v5p:4x4x4 need the package libtpu.
"""

import os
import pathlib
import typing
from typing import Any

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command, host
from mimir_jax.config import Quantization
from mimir_jax.errors import InputError
from mimir_jax.planning.config import Program

WORDS = ""
CONFIG = True


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    text = "KIND:SIZE, such as v5p:4x4x4, or cpu:8 for 8 simulated devices."
    flags.DEFINE_string("topology", "cpu:8", text, values)
    flags.DEFINE_enum("program", "train", typing.get_args(Program), "Program to compile.", values)
    text = "8-bit kernels of the sampling networks, for --program sample."
    flags.DEFINE_enum("quantize", "off", typing.get_args(Quantization), text, values)
    flags.DEFINE_string("json", None, "File to write the report to; must not exist.", values)


def main(args: command.Arguments) -> None:
    """Compiles and reports."""
    config, program = args.config, args.flags.program
    out = None if args.flags.json is None else files.expand_path(args.flags.json)
    if out is not None and (out.exists() or not out.parent.is_dir()):
        raise InputError(f"--json must be a new file in an existing folder, got {out}")
    host.fix_results()
    _simulate_devices(args.flags.topology)
    from mimir_jax import systems
    from mimir_jax.parallel import hardware
    from mimir_jax.planning import aot, memory

    topology = hardware.find_topology(args.flags.topology)
    system = systems.make_system(config)
    if program == "train":
        print(memory.estimate_topology(config, system, topology))
    found = []
    for number, bucket in enumerate(system.buckets):
        try:
            report = aot.compile_run(
                config, topology, program, number, quantize=args.flags.quantize
            )
        except aot.DoesNotFitError as error:
            if out is not None:
                place = {"program": program, "topology": topology.name, "bucket": bucket.name}
                found.append({**place, "fits": False, "error": str(error)})
                _write(out, found)
            raise
        found.append(report.to_json())
        print(aot.format_report(report))
    if out is not None:
        _write(out, found)
        print(f"-> {out}")


def _write(path: pathlib.Path, reports: list[dict[str, Any]]) -> None:
    """Writes the report; a list of them for a run with several buckets."""
    files.write_json(path, reports if len(reports) > 1 else reports[0])


def _simulate_devices(topology: str) -> None:
    """Makes JAX start with as many CPU devices as a topology `cpu:N` asks for."""
    kind, _, size = topology.partition(":")
    os.environ["JAX_PLATFORMS"] = "cpu"  # the devices to compile for are described, not opened
    if kind == "cpu" and size.isdigit():
        os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # takes precedence over the flag
        flag = f"--xla_force_host_platform_device_count={size}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
