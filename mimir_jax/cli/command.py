# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs one command: parses its flags, prints its help, and turns bad input into one line."""

import contextlib
import dataclasses
import faulthandler
import importlib
import inspect
import os
import pathlib
import shlex
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol, runtime_checkable

from absl import flags, logging

from mimir_jax import threads
from mimir_jax.cli import configs, help_text, shared_flags
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError


@runtime_checkable
class Module(Protocol):
    """A module `mimir_jax.cli.<verb>`; its docstring is the help text.

    Attributes:
        WORDS: Arguments that are not flags, as the usage line shows them; empty refuses any.
        CONFIG: Whether the command reads the config of a run.
    """

    __doc__: str
    WORDS: str
    CONFIG: bool

    def define_flags(self, values: flags.FlagValues) -> None:
        """Defines the flags of the command."""

    def main(self, args: "Arguments") -> None:
        """Runs the command."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A command as its user types it: `mimir-jax VERB` or `python launch/VERB.py`.

    Attributes:
        verb: The verb.
        script: Path of the script; None for the console command.
        subcommand: Sub-command of a verb that has any.
    """

    verb: str
    script: pathlib.Path | None = None
    subcommand: str = ""

    def __str__(self) -> str:
        command = f"mimir-jax {self.verb}"
        if self.script is not None:
            command = f"python {shlex.quote(str(self.script))}"
        return f"{command} {self.subcommand}".rstrip()

    def other(self, verb: str) -> "Program":
        """Returns the command of another verb."""
        return Program(verb, self.script and self.script.with_name(f"{verb}.py"))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What a command was called with.

    Attributes:
        program: The command.
        flags: Values of its flags.
        words: Arguments that are not flags.
        typed: All arguments.
        config_name: Value of `--config`, or its default.
        config: The run it names, with the overrides of `--config.FIELD=VALUE`.
    """

    program: Program
    flags: flags.FlagValues
    words: tuple[str, ...]
    typed: tuple[str, ...]
    config_name: str = ""
    config: TrainConfig | None = None

    def command(self, *arguments: str, verb: str | None = None, without: str = "") -> str:
        """Returns a command on the same config, quoted for a shell.

        Args:
            *arguments: Arguments between the name of the config and the overrides of its fields.
            verb: Another verb than that of this command.
            without: Name of a field whose override is left out.
        """
        program = self.program if verb is None else self.program.other(verb)
        overrides = [word for field, word in configs.overrides(self.typed) if field != without]
        return f"{program} {shlex.join(['--config', self.config_name, *arguments, *overrides])}"

    def shared(self) -> dict[str, Any]:
        """Returns the flags and the config that all processes of a run must be given alike."""
        values = shared_flags.shared(self.flags)
        if self.config is not None:
            values["config"] = dataclasses.asdict(self.config)
        return values


def run(program: Program, typed: Sequence[str], *, config: str = "mimir") -> None:
    """Runs a command; bad input ends the process with one line and exit code 1.

    Args:
        program: The command.
        typed: Its arguments.
        config: Default of `--config`.
    """
    with one_line(show=any(word in ("--debug", "-debug") for word in typed)):
        if any(word in ("--help", "-help", "-h") for word in typed):
            print(describe(program, typed, config=config))
            return
        module = select(program, typed)[1]
        args = parse(program, typed, config=config)
        logging.set_verbosity(args.flags.verbosity)
        logging.use_absl_handler()
        if not faulthandler.is_enabled():
            faulthandler.enable()
        if module.CONFIG and args.flags.print_config:
            print(bridge.to_json(args.config))
            return
        module.main(args)


def describe(program: Program, typed: Sequence[str], *, config: str = "mimir") -> str:
    """Returns the help of a command; a `--config` in `typed` chooses the run that it describes."""
    if names := subcommands(program.verb):
        if not typed or typed[0].startswith("-"):
            return _describe_all(program, names)
    program, module, typed = select(program, typed)
    usage = f"{program} {module.WORDS}".rstrip()
    run = configs.split(typed, default=config)[0] if module.CONFIG else None
    return help_text.command(module.__doc__, flag_values(module), usage=usage, run=run)


def find_module(verb: str) -> Any:
    """Returns the module of a verb: a `Module`, or one with several of them as `SUBCOMMANDS`."""
    return importlib.import_module(f"mimir_jax.cli.{verb}")


def subcommands(verb: str) -> Mapping[str, Module]:
    """Returns the sub-commands of a verb, its default first; most verbs have none."""
    return getattr(find_module(verb), "SUBCOMMANDS", {})


def select(program: Program, typed: Sequence[str]) -> tuple[Program, Module, Sequence[str]]:
    """Takes the sub-command, the first argument, out of the arguments.

    Returns:
        The command with its sub-command, the module that runs it, and the other arguments.

    Raises:
        InputError: for an unknown sub-command.
    """
    modules = subcommands(program.verb)
    if not modules:
        return program, find_module(program.verb), typed
    name, rest = next(iter(modules)), typed
    if typed and not typed[0].startswith("-"):
        name, *rest = typed
    if name not in modules:
        raise InputError(f"{program} takes one of {', '.join(modules)}, got {name!r}")
    return dataclasses.replace(program, subcommand=name), modules[name], rest


def parse(program: Program, typed: Sequence[str], *, config: str = "mimir") -> Arguments:
    """Parses the arguments of a command.

    Raises:
        InputError: for an unknown sub-command, flag, field, preset or word, or a value of the wrong
            type.
    """
    program, module, typed = select(program, typed)
    words, values = list(typed), flag_values(module)
    if not flags.FLAGS.is_parsed():  # libraries read theirs
        flags.FLAGS.mark_as_parsed()
    try:
        if module.CONFIG:
            config, words = configs.split(typed, default=config)
            configs.define(values, config, words)
        _, *rest = values([str(program), *words])
    except flags.UnrecognizedFlagError as error:
        if module.CONFIG:
            raise InputError(f"{' '.join(str(error).split())}; see {program} --help") from None
        names = ", ".join(
            f"--{entry.name}" for entry in help_text.flag_entries(values, config=False)
        )
        raise InputError(f"{program} has no flag --{error.flagname}; it has {names}") from None
    except flags.Error as error:
        raise InputError(f"{' '.join(str(error).split())}; see {program} --help") from None
    if rest and not module.WORDS:
        raise InputError(f"{program} takes flags alone, got {rest[0]!r}; see {program} --help")
    return Arguments(
        program=program,
        flags=values,
        words=tuple(rest),
        typed=tuple(typed),
        config_name=config if module.CONFIG else "",
        config=bridge.from_config_dict(TrainConfig, values.config) if module.CONFIG else None,
    )


def flag_values(module: Module) -> flags.FlagValues:
    """Returns the flags of a command, those of every command at the end."""
    values = flags.FlagValues()
    module.define_flags(values)
    shared_flags.define_common(values, config=module.CONFIG)
    return values


@contextlib.contextmanager
def one_line(*, show: bool = False) -> Iterator[None]:
    """Ends the process with one line for an `InputError`, an interrupt or exhausted device memory.

    Any other exception is a bug and keeps its traceback.

    Args:
        show: Let the traceback through all the same.
    """
    if show:
        yield
        return
    try:
        yield
    except InputError as error:
        threads.leave(f"error: {' '.join(str(error).split())} (--debug shows where)")
    except (AssertionError, RuntimeError) as error:  # JAX's, whose import costs seconds
        if _is_of_backend(error):
            _leave_without_device(error)
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0]
        threads.leave(
            f"error: a device must have memory for the run, got: {reason[:200].rstrip('.')}; "
            "see docs/memory.md (--debug shows where)"
        )
    except KeyboardInterrupt:
        threads.leave("stopped; the same command starts again")


def _is_of_backend(error: Exception) -> bool:
    """Whether JAX raised an exception while it looked for devices."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get("__name__", "").endswith(".xla_bridge")


def _leave_without_device(error: Exception) -> NoReturn:
    lines = str(error).splitlines() or ["no such device was found"]
    asked = os.environ.get("JAX_PLATFORMS") or "any platform"
    threads.leave(
        f"error: JAX must have a device of {asked}, got: {lines[0][:200].rstrip('.')}; unset "
        'JAX_PLATFORMS, or install what the device takes, such as "jax[cuda13]" (--debug shows '
        "where)"
    )


def _describe_all(program: Program, modules: Mapping[str, Module]) -> str:
    """Returns the help of a verb with its sub-commands, a line on each."""
    width = max(map(len, modules))
    lines = [f"  {n:{width}}  {help_text.first_paragraph(m)}" for n, m in modules.items()]
    usage = f"usage: {program} [{'|'.join(modules)}] [flags]\n"
    text = inspect.cleandoc(find_module(program.verb).__doc__)
    return "\n".join([usage, text, "", *lines, "", f"{program} NAME --help lists its flags."])
