# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Convert weights: `launch/convert.py SRC DST [--dtype bfloat16] [--to native]`.

SRC is a folder as downloaded from a hub (T5, Phi-3, Llama, Mistral; a CogVideoX transformer or
VAE), a .gguf file, a SAT checkpoint of CogVideoX, a run of launch/train.py, or a native folder. DST
becomes a native folder, or what transformers or diffusers open; it is complete or absent. A run
with adapters is written merged, or with --adapters as the adapters alone.
"""

import pathlib
import time

from absl import flags

from mimir_jax.cli import flags as flags_lib
from mimir_jax.errors import InputError

_DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16", "float16"],
    "Stored precision; without it every tensor keeps its own.",
)
_ADAPTERS = flags.DEFINE_bool(
    "adapters", False, "Write the adapters of a run alone, as diffusers loads them."
)
_TO = flags.DEFINE_enum("to", "native", ["native", "transformers", "diffusers"], "What to write.")


def main(argv) -> None:
    """Converts and says what was written."""
    if len(argv) != 3:
        raise InputError(f"convert takes SRC and DST, got {len(argv) - 1} arguments; see --help")
    from mimir_jax import weights

    start = time.monotonic()
    if _ADAPTERS.value:
        report = weights.convert_adapters(argv[1], argv[2], dtype=_DTYPE.value)
    else:
        report = weights.convert(argv[1], argv[2], to=_TO.value, dtype=_DTYPE.value)
    form = "diffusers" if _ADAPTERS.value else _TO.value
    files = [file for file in pathlib.Path(argv[2]).expanduser().rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    print(
        f"{report.kind} of {report.num_params:,} parameters -> {argv[2]} "
        f"({form}, {size:.1f} MB, {time.monotonic() - start:.1f} s)"
    )
    if report.licence:
        print(f"licence of these weights: {report.licence}")


if __name__ == "__main__":
    flags_lib.run(main)
