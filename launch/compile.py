# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Compile a run for chips that are not here: `launch/compile.py --config configs/mimir.py:5b
--topology v5p:4x4x4`.

Prints memory by part, FLOPs, collectives and the least time of a step; needs libtpu for TPU slices,
and neither weights nor data. `--topology cpu:8` compiles for fake CPU devices.
"""

import json
import os

from absl import flags
from ml_collections import config_flags

from mimir_jax import files
from mimir_jax.cli import flags as flags_lib
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "File[:preset] of the run.")
_TOPOLOGY = flags.DEFINE_string("topology", "cpu:8", "KIND:SIZE such as v5p:4x4x4 or cpu:8.")
_PROGRAM = flags.DEFINE_enum(
    "program", "train", ["train", "sample", "decode"], "Program to compile."
)
_JSON = flags.DEFINE_string("json", None, "File to write the report to; must not exist.")


def main(argv) -> None:
    """Compiles and reports."""
    del argv
    config = bridge.from_config_dict(TrainConfig, _CONFIG.value)
    out = None if _JSON.value is None else files.expand_path(_JSON.value)
    if out is not None and (out.exists() or not out.parent.is_dir()):
        raise InputError(f"--json must be a new file in an existing folder, got {out}")
    kind, _, size = _TOPOLOGY.value.partition(":")
    os.environ["JAX_PLATFORMS"] = "cpu"  # what runs here; devices to compile for are named
    if kind == "cpu" and size.isdigit():
        os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # would count for more
        flag = f"--xla_force_host_platform_device_count={size}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    from mimir_jax import systems
    from mimir_jax.parallel import hardware
    from mimir_jax.planning import aot, memory

    topology = hardware.find_topology(_TOPOLOGY.value)
    if _PROGRAM.value == "train":
        print(memory.estimate_topology(config, systems.make_system(config), topology))
    try:
        report = aot.compile_run(config, topology, _PROGRAM.value)
    except aot.DoesNotFitError as error:
        if out is not None:
            found = {"program": _PROGRAM.value, "topology": topology.name, "fits": False}
            out.write_text(json.dumps({**found, "error": str(error)}, indent=2) + "\n")
        raise
    print(aot.format_report(report))
    if out is not None:
        out.write_text(json.dumps(report.to_json(), indent=2) + "\n")
        print(f"-> {out}")


if __name__ == "__main__":
    flags_lib.run(main, config="configs/mimir.py")
