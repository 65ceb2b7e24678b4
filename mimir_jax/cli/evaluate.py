# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a checkpoint, or compare results.

The first argument names the suite, toyworld by default. See docs/evaluation.md.
"""

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax.cli import command, dataclass_flags, host, shared_flags
from mimir_jax.evaluation import config as config_lib
from mimir_jax.sampling.config import SampleConfig


class Suite:
    """A sub-command that reads files named by words; `evaluate` of its module does the work.

    Args:
        name: Name of the sub-command and, with underscores, of its module in `evaluation.suites`.
        config: Dataclass of its settings; the docstring is the help.
        words: Arguments that are not flags.
    """

    CONFIG = False

    def __init__(self, name: str, config: type, words: str = ""):
        self.__doc__ = inspect.cleandoc(config.__doc__).partition("Attributes:")[0].rstrip()
        self.WORDS, self._name, self._config = words, name, config

    def define_flags(self, values: flags.FlagValues) -> None:
        """Defines a flag for each setting."""
        dataclass_flags.define(values, self._config)

    def main(self, args: command.Arguments) -> None:
        """Runs the suite and prints its report."""
        config = dataclass_flags.read(args.flags, self._config)
        host.prepare_host()
        report = self.evaluate(config, args)
        if report.text:
            print(report.text)
        for path in report.paths:
            print(f"{path.stem}: {path}")

    def evaluate(self, config: Any, args: command.Arguments) -> Any:
        """Returns the report of the suite."""
        return self.module.evaluate(config, args.words)

    @property
    def module(self) -> Any:
        """Module of the suite; imports JAX."""
        return importlib.import_module(
            f"mimir_jax.evaluation.suites.{self._name.replace('-', '_')}"
        )


class CheckpointSuite(Suite):
    """A suite that evaluates a checkpoint, in one process or several."""

    def define_flags(self, values: flags.FlagValues) -> None:
        """Defines a flag for each setting, and those by which processes find each other."""
        super().define_flags(values)
        self.define_more(values)
        shared_flags.define_processes(values)

    def define_more(self, values: flags.FlagValues) -> None:
        """Defines other flags."""

    def evaluate(self, config: Any, args: command.Arguments) -> Any:
        """Returns the report of the suite on process 0, an empty one elsewhere."""
        from mimir_jax.parallel import distributed

        launch = distributed.Launch(**shared_flags.processes(args.flags))
        with distributed.session(launch, args.shared()):
            return self.evaluate_checkpoint(config, args.flags)

    def evaluate_checkpoint(self, config: Any, values: flags.FlagValues) -> Any:
        """Returns the report of the suite."""
        del values
        return self.module.evaluate(config)


class MeshSuite(CheckpointSuite):
    """A suite that splits the network over devices."""

    def define_more(self, values: flags.FlagValues) -> None:
        """Defines `--mesh`."""
        shared_flags.define_mesh(values)

    def evaluate_checkpoint(self, config: Any, values: flags.FlagValues) -> Any:
        """Returns the report of the suite."""
        return self.module.evaluate(config, _make_mesh(values))


class SamplingSuite(CheckpointSuite):
    """A suite that generates videos."""

    def define_more(self, values: flags.FlagValues) -> None:
        """Defines the settings of sampling, and `--mesh`."""
        dataclass_flags.define(values, SampleConfig, skip=("instructions",))
        shared_flags.define_mesh(values)

    def evaluate_checkpoint(self, config: Any, values: flags.FlagValues) -> Any:
        """Returns the report of the suite."""
        from mimir_jax.sampling import open as open_lib

        sampling = dataclass_flags.read(values, SampleConfig, instructions=None)
        mesh = _make_mesh(values)
        pipeline = self.open_agent(config, sampling, mesh) or open_lib.open_pipeline(
            config.checkpoint, sampling, mesh, step=config.step, start=config.start
        )
        with _progress_bar() as progress:
            return self.module.evaluate(config, pipeline, progress)

    def open_agent(self, config: Any, sampling: SampleConfig, mesh: Any) -> Any:
        """Returns a generator where the checkpoint is an LLM of clips, None for others."""
        from mimir_jax.errors import require
        from mimir_jax.sampling import agents, written_videos

        if not agents.is_agent(config.checkpoint):
            return None
        require(
            not config.start, "--start must be left out for an LLM of clips; name a trained run"
        )
        require(
            self._name != "reconstruction",
            "--checkpoint must be a run of divot, which reconstructs clips, got one of divot_llm; "
            "name the run whose tokens it reads",
        )
        return written_videos.open_written_videos(
            config.checkpoint, sampling, mesh, step=config.step
        )


class WrittenSuite(SamplingSuite):
    """A suite of what an LLM of clips writes, with the noun of its progress.

    Args:
        noun: What there is to make.
        name: Name of the sub-command.
        config: Dataclass of its settings.
    """

    def __init__(self, noun: str, name: str, config: type):
        super().__init__(name, config)
        self._noun = noun

    def evaluate_checkpoint(self, config: Any, values: flags.FlagValues) -> Any:
        """Returns the report of the suite."""
        from mimir_jax.sampling import written_videos

        sampling = dataclass_flags.read(values, SampleConfig, instructions=None)
        mesh = _make_mesh(values)
        written = written_videos.open_written_videos(
            config.checkpoint, sampling, mesh, step=config.step
        )
        with _progress_bar(self._noun) as progress:
            return self.module.evaluate(config, written, progress)


class AgentSuite(CheckpointSuite):
    """A suite that asks an LLM of clips."""

    def evaluate_checkpoint(self, config: Any, values: flags.FlagValues) -> Any:
        """Returns the report of the suite."""
        del values
        from mimir_jax.sampling import agents

        agent = agents.open_agent(config.checkpoint, step=config.step)
        with _progress_bar("texts") as progress:
            return self.module.evaluate(config, agent, progress)


SUBCOMMANDS = {
    "toyworld": SamplingSuite("toyworld", config_lib.ToyworldEvalConfig),
    "reconstruction": SamplingSuite("reconstruction", config_lib.ReconstructionEvalConfig),
    "comprehension": AgentSuite("comprehension", config_lib.ComprehensionEvalConfig),
    "stories": WrittenSuite("stories", "stories", config_lib.StoriesEvalConfig),
    "variances": WrittenSuite("videos", "variances", config_lib.VariancesEvalConfig),
    "questions": AgentSuite("questions", config_lib.QuestionsEvalConfig),
    "loss": MeshSuite("loss", config_lib.LossEvalConfig),
    "captions": MeshSuite("captions", config_lib.CaptionsEvalConfig),
    "probe": CheckpointSuite("probe", config_lib.ProbeEvalConfig),
    "aligner": CheckpointSuite("aligner", config_lib.AlignerEvalConfig),
    "vbench": SamplingSuite("vbench", config_lib.VBenchEvalConfig),
    "ucf101": SamplingSuite("ucf101", config_lib.UCF101EvalConfig),
    "msrvtt": SamplingSuite("msrvtt", config_lib.MSRVTTEvalConfig),
    "subjects": SamplingSuite("subjects", config_lib.SubjectsEvalConfig),
    "grounding": SamplingSuite("grounding", config_lib.GroundingEvalConfig),
    "vbench-scores": Suite("vbench-scores", config_lib.VBenchScoresConfig, "FILE ..."),
    "features": CheckpointSuite("features", config_lib.FeaturesEvalConfig),
    "compare": Suite("compare", config_lib.CompareConfig, "RUN RUN ..."),
}


def _make_mesh(values: flags.FlagValues) -> Any:
    from mimir_jax.parallel import mesh

    return mesh.own_mesh(mesh.parse_sizes(values.mesh), setting="--mesh")


@contextlib.contextmanager
def _progress_bar(noun: str = "videos") -> Iterator[Callable[[int, int], None]]:
    from mimir_jax.parallel import distributed

    console = rich_console.Console(quiet=not distributed.is_first())
    columns = [*rich_progress.Progress.get_default_columns(), rich_progress.MofNCompleteColumn()]
    with rich_progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(noun, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
