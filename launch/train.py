# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Train any model of the project: `python launch/train.py --config configs/mimir.py[:preset]`."""

import datetime
import json
import pathlib
import time

from absl import flags
from ml_collections import config_flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax.cli import flags as flags_lib
from mimir_jax.config import TrainConfig, bridge

_STARTED = time.monotonic()
_PROCESSES = flags_lib.define_processes()
_CONFIG = config_flags.DEFINE_config_file("config", None, "File[:preset] of the run.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; continues the run it holds. Default runs/FILE-PRESET."
)


def main(argv) -> None:
    """Builds the config, trains, and says what to do next."""
    del argv
    config = bridge.from_config_dict(TrainConfig, _CONFIG.value)
    workdir = pathlib.Path(_WORKDIR.value or _default_workdir())

    flags_lib.prepare_host()
    from mimir_jax.parallel import distributed

    facts = {**flags_lib.shared(), "config": json.loads(bridge.to_json(config))}
    with distributed.session(distributed.Launch(**_PROCESSES()), facts):
        _train(config, workdir)


def _train(config: TrainConfig, workdir: pathlib.Path) -> None:
    import jax

    from mimir_jax.parallel import distributed
    from mimir_jax.planning import memory
    from mimir_jax.training import loop

    console = rich_console.Console(quiet=not distributed.is_first())
    console.print(f"{config.system.kind}: {config.steps} steps into {workdir}", highlight=False)
    with _progress(console) as bar:
        task = bar.add_task("starting", total=config.steps, loss="", step_time="")

        def report(step: int, metrics: dict[str, float]) -> None:
            fields = {"description": "training"}
            if "loss" in metrics:
                fields["loss"] = f"loss {metrics['loss']:.4f}"
            if "step_seconds" in metrics:
                fields["step_time"] = f"{metrics['step_seconds']:.2f} s/step"
            if "mfu" in metrics:
                fields["step_time"] += f", {metrics['mfu']:.1%} MFU"
            if bar.tasks[task].description == "starting":
                bar.reset(task)
                seconds = time.monotonic() - _STARTED
                bar.print(f"first step {seconds:.0f} s after the command", highlight=False)
            bar.update(task, completed=step, **fields)
            if not console.is_terminal and "step_time" in fields:
                seconds = round((config.steps - step) * metrics["step_seconds"])
                left = datetime.timedelta(seconds=seconds)
                numbers = f"{fields['loss']}, {fields['step_time']}, {left} left"
                console.print(f"step {step}/{config.steps}: {numbers}", highlight=False)

        def check(system) -> None:
            line = str(memory.check(config, system, jax.devices()))
            console.print(line, highlight=False, soft_wrap=True)

        result = loop.train(config, workdir, report=report, check=check)
    _conclude(console, config, workdir, result)


def _conclude(console, config: TrainConfig, workdir: pathlib.Path, result) -> None:
    print_line = lambda text: console.print(text, highlight=False, soft_wrap=True)  # noqa: E731
    for name, times in sorted(result.skipped.items()):
        print_line(f"skipped (could not be decoded): {name} ({times}x)")
    if result.before == result.after and not result.interrupted:
        print_line(f"already at step {result.step}; raise it with --config.steps=N")
    elif result.before != result.after:
        for name in result.before:
            before, after = result.before[name], result.after[name]
            print_line(f"held-out {name}: {before:.4f} -> {after:.4f}")
    command = f"python launch/train.py --config {_config_path()} --workdir {workdir}"
    print_line(f"checkpoint: {workdir}/checkpoints/{result.step}")
    if result.interrupted:
        go_on = command + flags_lib.overrides()
        print_line(f"stopped at step {result.step} and saved; go on with: {go_on}")
        return
    if result.samples:
        print_line(f"samples: {result.samples[0]}")
    print_line(f"curves: tensorboard --logdir {workdir}")
    command += flags_lib.overrides(without="steps")
    stretched = " (its cosine stretched)" if config.optimizer.schedule == "cosine" else ""
    print_line(f"train longer{stretched}: {command} --config.steps={2 * config.steps}")


def _config_path() -> str:
    return config_flags.get_config_filename(flags.FLAGS["config"])


def _default_workdir() -> str:
    path, _, preset = _config_path().partition(":")
    name = pathlib.Path(path).stem
    return f"runs/{name}-{preset.replace('/', '-')}" if preset else f"runs/{name}"


def _progress(console) -> rich_progress.Progress:
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[loss]}"),
        rich_progress.TextColumn("{task.fields[step_time]}"),
        rich_progress.TimeRemainingColumn(),
        console=console,
    )


if __name__ == "__main__":
    flags_lib.run(main, config="configs/mimir.py")
