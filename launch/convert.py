# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Turn the newest checkpoint of a run into a native weights folder: `launch/convert.py RUN DST`."""

import pathlib

from absl import flags

from mimir_jax.config import flags as flags_lib

_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "Stored precision.")


def main(argv) -> None:
    """Writes `config.json`, `params.safetensors` and, for text models, the tokenizer."""
    if len(argv) != 3:
        raise ValueError(f"convert takes RUN and DST, got {len(argv) - 1} arguments")
    from mimir_jax.training import export

    source, target = pathlib.Path(argv[1]), pathlib.Path(argv[2])
    kind, count, step = export.export_run(source, target, dtype=_DTYPE.value)
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    print(f"{kind} of {count:,} parameters at step {step} -> {target} ({size:.1f} MB)")


if __name__ == "__main__":
    flags_lib.run(main)
