# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Numbers for a checkpoint: `launch/evaluate.py --suite toyworld --checkpoint runs/mimir`.

`toyworld` makes videos and judges them exactly; `loss` is the held-out loss; `vbench` writes videos
for VBench and reads its scores; `features` draws what the fuser makes of its encoders.
`--compare RUN RUN ...` puts results side by side. Results go to RUN/evaluation/SUITE-STEP. A
stopped evaluation goes on where it was. See docs/evaluation.md.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax.cli import flags as flags_lib
from mimir_jax.errors import InputError
from mimir_jax.evaluation import config as config_lib

_PROCESSES = flags_lib.define_processes()
_MESH = flags_lib.define_mesh()
_SUITE = flags.DEFINE_enum(
    "suite", "toyworld", ["toyworld", "loss", "vbench", "features"], "What to measure."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Run, or folder of a pipeline.")
_COMPARE = flags.DEFINE_multi_string("compare", [], "Runs or folders of results; more may follow.")
_OUT = flags.DEFINE_string("out", None, "Folder of results; RUN/evaluation/SUITE-STEP by default.")
_START = flags.DEFINE_bool("start", False, "Evaluate what the run started from.")
_BATCH = flags.DEFINE_integer(
    "batch_size", None, "Videos at a time; by default what keeps all devices busy.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the first video of each prompt.", lower_bound=0)

_SCENES = flags.DEFINE_integer("scenes", 16, "toyworld: least number of scenes a category.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "toyworld: videos of each prompt.")
_SPLIT = flags.DEFINE_enum(
    "split", "heldout", ["heldout", "validation"], "toyworld: scenes to ask for."
)
_VARIETY = flags.DEFINE_enum(
    "variety", None, ["varied", "plain", "single"], "toyworld: default as in training."
)
_STYLES = flags.DEFINE_list(
    "styles", ["short", "paraphrase", "coarse", "long"], "toyworld: styles of prompts."
)

_PROMPTS = flags.DEFINE_string("prompts", None, "vbench, features: file of prompts.")
_ENHANCED = flags.DEFINE_string("enhanced", None, "vbench: file with longer versions of them.")
_VIDEOS = flags.DEFINE_integer("videos_per_prompt", 5, "vbench: videos of each prompt.")
_RESULTS = flags.DEFINE_multi_string("results", [], "vbench: result files to read; more may follow")
_NAME = flags.DEFINE_string("name", "ours", "vbench: name of the row of --results.")
_RUNS = flags.DEFINE_integer("runs", 50, "features: answers to one prompt.")

_SAMPLER = flags.DEFINE_enum("sampler", None, ["ddim", "dpm"], "Default: the checkpoint's.")
_STEPS = flags.DEFINE_integer("steps", None, "Sampling steps.")
_GUIDANCE = flags.DEFINE_float("guidance_scale", None, "Guidance scale.")


def main(argv) -> None:
    """Evaluates, or compares."""
    more = argv[1:]
    if more and not (_COMPARE.value or _RESULTS.value):
        raise InputError(f"evaluate takes flags alone, got {more[0]!r}; see --help")
    flags_lib.prepare_host()
    if _COMPARE.value:
        from mimir_jax.evaluation.suites import compare

        config = config_lib.CompareConfig(suite=_SUITE.value, out=_OUT.value)
        return _print(compare.evaluate(config, [*_COMPARE.value, *more]))
    if _SUITE.value == "vbench" and _RESULTS.value:
        from mimir_jax.evaluation.suites import vbench_scores

        config = config_lib.VBenchScoresConfig(name=_NAME.value)
        return _print(vbench_scores.evaluate(config, [*_RESULTS.value, *more]))
    config = _make_config()
    from mimir_jax.parallel import distributed

    with distributed.session(distributed.Launch(**_PROCESSES()), flags_lib.shared()):
        _print(_evaluate(config))
    return None


def _make_config() -> config_lib.CheckpointConfig:
    """Returns the settings of `--suite`, each from the flag of its name."""
    configs = {
        "toyworld": config_lib.ToyworldEvalConfig,
        "loss": config_lib.LossEvalConfig,
        "vbench": config_lib.VBenchEvalConfig,
        "features": config_lib.FeaturesEvalConfig,
    }
    cls = configs[_SUITE.value]
    names = [f.name for f in dataclasses.fields(cls) if f.name in flags.FLAGS]
    values = {name: flags.FLAGS[name].value for name in names}
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _evaluate(config: config_lib.CheckpointConfig):
    from mimir_jax.evaluation.suites import features, loss, toyworld, vbench
    from mimir_jax.parallel import mesh as mesh_lib

    if isinstance(config, config_lib.FeaturesEvalConfig):
        if _MESH():
            raise InputError(
                f"--mesh splits a video transformer, which --suite features does not run, got "
                f"{_MESH()}; leave --mesh out"
            )
        return features.evaluate(config)
    if isinstance(config, config_lib.LossEvalConfig):
        mesh = mesh_lib.own_mesh(mesh_lib.parse_sizes(_MESH()), setting="--mesh")
        return loss.evaluate(config, mesh)
    suite = toyworld if isinstance(config, config_lib.ToyworldEvalConfig) else vbench
    with _bar() as progress:
        return suite.evaluate(config, _open_generator(config), progress)


def _open_generator(config: config_lib.CheckpointConfig):
    from mimir_jax.parallel import mesh as mesh_lib
    from mimir_jax.sampling import config as sample_config
    from mimir_jax.sampling import open

    sample = sample_config.SampleConfig(
        sampler=_SAMPLER.value, steps=_STEPS.value, guidance_scale=_GUIDANCE.value
    )
    mesh = mesh_lib.own_mesh(mesh_lib.parse_sizes(_MESH()), setting="--mesh")
    return open.open_pipeline(config.checkpoint, sample, mesh, step=config.step, start=config.start)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    from mimir_jax.parallel import distributed

    console = rich_console.Console(quiet=not distributed.is_first())
    columns = [*rich_progress.Progress.get_default_columns(), rich_progress.MofNCompleteColumn()]
    with rich_progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("videos", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(report) -> None:
    print(report.text)
    for path in report.paths:
        print(f"{path.stem}: {path}")


if __name__ == "__main__":
    flags_lib.run(main)
