# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Train any model of the project.

Without flags it trains the default miniature Mimir, in minutes on a CPU. A run writes its config,
checkpoints, curves and samples to --workdir; the same command resumes a stopped run.

Exit codes: 0, the run is finished; 75, a signal stopped it and it saved; 1, it failed.
"""

import contextlib
import dataclasses
import datetime
import functools
import pathlib
import shlex
import time
from collections.abc import Callable, Iterator

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files, remote, threads
from mimir_jax.cli import command, configs, host, shared_flags

WORDS = ""
CONFIG = True
STOPPED = 75
"""Exit code of a run that a signal has stopped and that has saved (EX_TEMPFAIL of sysexits.h)."""

_STARTED = time.monotonic()


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string(
        "workdir", None,
        "Folder of the run, or its URL in remote storage, such as gs://BUCKET/RUN; resumes the run "
        "that it holds. By default runs/NAME-PRESET.", values,
    )  # fmt: skip
    text = "Check everything up to the first step, including memory and compilation; write nothing."
    flags.DEFINE_bool("dry_run", False, text, values)
    flags.DEFINE_integer(
        "replay", None,
        "Repeat this step from the checkpoint before it, and print its metrics and records; write "
        "nothing.", flag_values=values,
    )  # fmt: skip
    shared_flags.define_processes(values)


def main(args: command.Arguments) -> None:
    """Trains, and prints what to do next."""
    place = args.flags.workdir or configs.default_workdir(args.config_name)
    if remote.is_address(place):
        remote.Store(place)  # refuses where its library is not installed
    else:
        place = str(files.expand_path(place))
    host.prepare_host()
    from mimir_jax.parallel import distributed

    launch = distributed.Launch(**shared_flags.processes(args.flags))
    work = _dry_run if args.flags.dry_run else _train if args.flags.replay is None else _replay
    with distributed.session(launch, args.shared()):
        with _opened(place, writes=work is _train) as workdir:
            finished = work(args, workdir)
    if not finished:
        threads.end(STOPPED)


@dataclasses.dataclass(frozen=True)
class _Workdir:
    """A work directory.

    Attributes:
        folder: Where it is, or its local copy.
        place: What the user calls it.
        check: Raises `InputError` if the copy of a remote one has stopped.
    """

    folder: pathlib.Path
    place: str
    check: Callable[[], None] = lambda: None

    def show(self, text: str) -> str:
        """Returns text with the name that the user knows."""
        return text.replace(str(self.folder), self.place)


@contextlib.contextmanager
def _opened(place: str, *, writes: bool) -> Iterator[_Workdir]:
    if not remote.is_address(place):
        yield _Workdir(pathlib.Path(place), place)
        return
    from mimir_jax.training import mirror

    with mirror.mirrored(place, writes=writes) as copy:
        yield _Workdir(copy.folder, copy.address, copy.check)


def _replay(args: command.Arguments, workdir: _Workdir) -> bool:
    from mimir_jax.parallel import distributed
    from mimir_jax.training import replay

    console = rich_console.Console(quiet=not distributed.is_first())
    for line in replay.replay(args.config, workdir.folder, args.flags.replay).lines(
        args.flags.replay
    ):
        console.print(workdir.show(line), highlight=False, soft_wrap=True)
    return True


def _dry_run(args: command.Arguments, workdir: _Workdir) -> bool:
    from mimir_jax.parallel import distributed
    from mimir_jax.planning import dry_run

    console = rich_console.Console(quiet=not distributed.is_first())
    say = functools.partial(console.print, highlight=False, soft_wrap=True)
    say(f"{args.config.system.kind}: {args.config.steps} steps into {workdir.place}, dry run")
    dry_run.dry_run(args.config, workdir.folder, say)
    return True


def _train(args: command.Arguments, workdir: _Workdir) -> bool:
    import jax

    from mimir_jax.parallel import distributed
    from mimir_jax.planning import memory
    from mimir_jax.systems import base
    from mimir_jax.training import loop

    config = args.config
    console = rich_console.Console(quiet=not distributed.is_first())

    def say(text: str) -> None:
        console.print(workdir.show(text), highlight=False, soft_wrap=True)

    say(f"{config.system.kind}: {config.steps} steps into {workdir.place}")

    def check(system: base.System) -> None:
        say(str(memory.check(config, system, jax.devices())))

    with _progress(console) as bar:
        progress = _Progress(console, bar, config.steps)

        def report(step: int, metrics: dict[str, float]) -> None:
            workdir.check()
            progress.report(step, metrics)

        result = loop.train(config, workdir.folder, report=report, check=check)
    for line in _conclusion(args, workdir.folder, result):
        say(line)
    own = config.resume_from is None and config.data.source == "toyworld"
    if config.judge.scenes and own and not result.interrupted:
        _judge(workdir.folder, console, say, trained=result.before != result.after)
    return not result.interrupted


def _judge(
    workdir: pathlib.Path,
    console: rich_console.Console,
    say: Callable[[str], None],
    *,
    trained: bool,
) -> None:
    """Judges a finished run before and after, unless that is done."""
    from mimir_jax.evaluation import before_after

    if not trained and (workdir / before_after.RESULTS).exists():
        return
    with _progress(console) as bar:
        task = bar.add_task("judging", total=None, loss="", step_time="")
        report = before_after.judge_run(
            workdir, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if report.text:
        say(report.text)
    for path in report.paths:
        say(f"{path.stem}: {path}")


class _Progress:
    """Shows the progress of a run: a bar in a terminal, lines elsewhere."""

    def __init__(self, console: rich_console.Console, bar: rich_progress.Progress, steps: int):
        self._console, self._bar, self._steps = console, bar, steps
        self._task = bar.add_task("starting", total=steps, loss="", step_time="")

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Shows a finished step and its metrics."""
        fields = {"description": "training"}
        if "loss" in metrics:
            fields["loss"] = f"loss {metrics['loss']:.4f}"
        if "step_seconds" in metrics:
            fields["step_time"] = f"{metrics['step_seconds']:.2f} s/step"
        if "mfu" in metrics:
            fields["step_time"] += f", {metrics['mfu']:.1%} MFU"
        if self._bar.tasks[self._task].description == "starting":
            self._bar.reset(self._task)
            seconds = time.monotonic() - _STARTED
            self._bar.print(f"first step {seconds:.0f} s after the command", highlight=False)
        self._bar.update(self._task, completed=step, **fields)
        if not self._console.is_terminal and "step_time" in fields:
            left = datetime.timedelta(seconds=round((self._steps - step) * metrics["step_seconds"]))
            numbers = f"{fields['loss']}, {fields['step_time']}, {left} left"
            self._console.print(f"step {step}/{self._steps}: {numbers}", highlight=False)


def _conclusion(args: command.Arguments, workdir: pathlib.Path, result) -> list[str]:
    """Returns the lines that end a run: its numbers, its files and the next command."""
    config, folder = args.config, shlex.quote(str(workdir))
    lines = [
        f"skipped (could not be decoded): {name} ({times}x)"
        for name, times in sorted(result.skipped.items())
    ]
    for left_out in sorted(workdir.glob("quarantine*.jsonl")):
        lines.append(f"{len(left_out.read_text().splitlines())} left-out files: {left_out}")
    if result.before == result.after and not result.interrupted:
        lines.append(f"already at step {result.step}; raise it with --config.steps=N")
    elif result.before != result.after:
        for name, before in result.before.items():
            lines.append(f"held-out {name}: {before:.4f} -> {result.after[name]:.4f}")
    lines.append(f"checkpoint: {workdir}/checkpoints/{result.step}")
    if result.interrupted:
        again = args.command("--workdir", str(workdir))
        return [*lines, f"stopped at step {result.step} and saved; go on with: {again}"]
    if result.samples:
        lines.append(f"samples: {result.samples[0]}")
    lines.append(f"curves: tensorboard --logdir {folder}")
    stretched = " (its cosine stretched)" if config.optimizer.schedule == "cosine" else ""
    again = args.command("--workdir", str(workdir), without="steps")
    return [*lines, f"train longer{stretched}: {again} --config.steps={2 * config.steps}"]


def _progress(console: rich_console.Console) -> rich_progress.Progress:
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[loss]}"),
        rich_progress.TextColumn("{task.fields[step_time]}"),
        rich_progress.TimeRemainingColumn(),
        console=console,
    )
