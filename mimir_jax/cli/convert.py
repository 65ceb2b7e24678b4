# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Convert weights to another format.

SRC is a folder as downloaded from a hub (T5, Phi-3, Llama, Mistral, Qwen, CLIP, LLaVA; a CogVideoX
transformer or VAE), a .gguf file, a SAT checkpoint of CogVideoX, a training run, or a native
folder. DST becomes a native folder, or one that transformers or diffusers open; it is complete or
absent. A run with adapters is written merged; --adapters writes the adapters alone. --to run
releases a run: its config and weights, to sample and evaluate but not to train on. --to pipeline
writes a run of cogvideox with its VAE and T5 as a folder that diffusers opens. --verify takes SRC
alone, a run or a native folder, and verifies all of its checksums.
"""

import time

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command
from mimir_jax.errors import InputError

WORDS = "SRC [DST]"
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_enum(
        "dtype", None, ["float32", "bfloat16", "float16"],
        "Stored precision; by default every tensor keeps its own.", values,
    )  # fmt: skip
    flags.DEFINE_bool("adapters", False, "Write only the adapters of a run, for diffusers.", values)
    flags.DEFINE_multi_string(
        "lora", [], "Adapters to merge, FILE or FILE:SCALE; may be given several times.", values
    )
    flags.DEFINE_bool("verify", False, "Verify the checksums of SRC; write nothing.", values)
    flags.DEFINE_enum(
        "to",
        "native",
        ["native", "run", "transformers", "diffusers", "divot", "pipeline"],
        "Format to write.",
        values,
    )


def main(args: command.Arguments) -> None:
    """Converts, and prints what was written."""
    if args.flags.verify:
        _verify(args)
        return
    if len(args.words) != 2:
        raise InputError(
            f"convert takes SRC and DST, got {len(args.words)} arguments; see {args.program} --help"
        )
    source, target = args.words
    form, dtype = args.flags.to, args.flags.dtype
    from mimir_jax import weights

    start = time.monotonic()
    if form == "pipeline":
        from mimir_jax.sampling import export

        export.write_pipeline(source, target, dtype=dtype)
        print(f"pipeline -> {target} ({time.monotonic() - start:.1f} s)")
        return
    if args.flags.adapters:
        if args.flags.lora:
            raise InputError("--lora must be left out with --adapters, which writes those of SRC")
        form, report = "diffusers", weights.convert_adapters(source, target, dtype=dtype)
    else:
        report = weights.convert(source, target, to=form, dtype=dtype, lora=args.flags.lora)
    written = [file for file in files.expand_path(target).rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in written) / 1e6
    print(
        f"{report.kind} of {report.num_params:,} parameters -> {target} "
        f"({form}, {size:.1f} MB, {time.monotonic() - start:.1f} s)"
    )
    if report.licence:
        print(f"licence of these weights: {report.licence}")


def _verify(args: command.Arguments) -> None:
    if len(args.words) != 1:
        raise InputError(f"convert --verify takes SRC alone, got {len(args.words)} arguments")
    from mimir_jax import weights

    start = time.monotonic()
    for line in weights.verify(args.words[0]):
        print(line)
    print(f"all as written ({time.monotonic() - start:.1f} s)")
