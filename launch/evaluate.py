# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Numbers for a checkpoint: `launch/evaluate.py --suite toyworld --checkpoint runs/mimir`.

`toyworld` makes videos and judges them exactly; `loss` is the held-out loss; `vbench` writes videos
for VBench and reads its scores; `features` draws what the fuser makes of its encoders.
`--compare RUN RUN ...` puts results side by side. Results go to RUN/evaluation/SUITE-STEP. A
stopped evaluation goes on where it was. See docs/evaluation.md.
"""

import contextlib
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files
from mimir_jax.cli import flags as flags_lib
from mimir_jax.errors import InputError

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
_SCENERY = flags.DEFINE_enum(
    "scenery", None, ["varied", "plain", "single"], "toyworld: default as in training."
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
_GUIDANCE = flags.DEFINE_float("guidance", None, "Guidance scale.")


def main(argv) -> None:
    """Evaluates, or compares."""
    more = argv[1:]
    if more and not (_COMPARE.value or _RESULTS.value):
        raise InputError(f"evaluate takes flags alone, got {more[0]!r}; see --help")
    flags_lib.prepare_host()
    suite = _SUITE.value
    if _COMPARE.value:
        return _compare(suite, [pathlib.Path(p).expanduser() for p in [*_COMPARE.value, *more]])
    if suite == "vbench" and _RESULTS.value:
        return _vbench_table([pathlib.Path(p).expanduser() for p in [*_RESULTS.value, *more]])
    if _CHECKPOINT.value is None:
        raise InputError("--checkpoint must name a run or the folder of a pipeline, got none")
    from mimir_jax.parallel import distributed

    suites = {"toyworld": _toyworld, "loss": _loss, "vbench": _vbench, "features": _features}
    with distributed.session(distributed.Launch(**_PROCESSES()), flags_lib.shared()):
        suites[suite]()


def _toyworld() -> None:
    from mimir_jax.data.toyworld import captions, sampling
    from mimir_jax.evaluation import plots
    from mimir_jax.evaluation import results as results_lib
    from mimir_jax.evaluation.suites import toyworld
    from mimir_jax.parallel import distributed

    unknown = [style for style in _STYLES.value if style not in captions.STYLES]
    if unknown:
        raise InputError(f"--styles must be of {', '.join(captions.STYLES)}, got {unknown[0]!r}")
    asks = toyworld.plan(
        split=_SPLIT.value,
        scenery=_scenery(),
        scenes=_SCENES.value,
        styles=_STYLES.value,
        seeds=_SEEDS.value,
        seed=_SEED.value,
    )
    maker = _open_maker()
    _tell_unread(maker, (ask.prompt for ask in asks))
    place = _place("toyworld", maker.settings.get("step"))
    settings = {
        "suite": "toyworld",
        **maker.settings,
        "world": sampling.VERSION,
        "split": _SPLIT.value,
        "scenery": _scenery(),
        "scenes": _SCENES.value,
        "styles": _STYLES.value,
        "seeds": _SEEDS.value,
        "seed": _SEED.value,
        "batch_size": _BATCH.value or maker.ways,
    }
    existed = distributed.from_first(lambda: results_lib.claim(place, settings))
    with _unwritten(place, existed), _bar(len(asks)) as report:
        size = settings["batch_size"]
        lines = toyworld.run(asks, maker, place, batch_size=size, report=report)
    if not distributed.is_first():
        return
    summary = toyworld.summarise(lines)
    files.write_json(place / results_lib.RESULTS, {**settings, "categories": summary})
    files.write_text(place / "results.csv", toyworld.csv_text(summary))
    shares = {
        name: (cells["all"]["passed"], *cells["all"]["interval"]) for name, cells in summary.items()
    }
    plots.bars(place / "results.png", {_title(): shares}, label="clips that pass, %")
    scenes = len({line["index"] for line in lines})
    print(f"{len(lines)} clips of {scenes} scenes, step {maker.settings.get('step', '-')}")
    print(toyworld.text(summary))
    _tell(place, "results.json", "results.csv", "results.png", toyworld.CLIPS, "videos")


def _loss() -> None:
    from mimir_jax.evaluation import results as results_lib
    from mimir_jax.evaluation.suites import heldout
    from mimir_jax.parallel import distributed
    from mimir_jax.parallel import mesh as mesh_lib

    mesh = mesh_lib.own_mesh(mesh_lib.parse_sizes(_MESH()), setting="--mesh")
    run, step = _run_folder(), _step()
    place = _place("loss", step)
    settings = {"suite": "loss", "checkpoint": str(run), "step": step}
    existed = distributed.from_first(lambda: results_lib.claim(place, settings))
    with _unwritten(place, existed):
        losses = heldout.run(run, start=_START.value, mesh=mesh)
    if not distributed.is_first():
        return
    files.write_json(place / results_lib.RESULTS, {**settings, "heldout": losses})
    print(heldout.text({_title(): losses}))
    _tell(place, "results.json")


def _vbench() -> None:
    from mimir_jax.evaluation import results as results_lib
    from mimir_jax.evaluation.suites import vbench
    from mimir_jax.parallel import distributed

    if _PROMPTS.value is None:
        raise InputError("--prompts must name VBench's file of prompts, got none")
    prompts = pathlib.Path(_PROMPTS.value).expanduser()
    enhanced = None if _ENHANCED.value is None else pathlib.Path(_ENHANCED.value).expanduser()
    asks = vbench.plan(prompts, enhanced=enhanced, videos=_VIDEOS.value, seed=_SEED.value)
    maker = _open_maker()
    _tell_unread(maker, (ask.prompt for ask in asks))
    place = _place("vbench", maker.settings.get("step"))
    settings = {
        "suite": "vbench",
        **maker.settings,
        "prompts": vbench.describe(prompts),
        "enhanced": enhanced and vbench.describe(enhanced),
        "videos_per_prompt": _VIDEOS.value,
        "seed": _SEED.value,
        "batch_size": _BATCH.value or maker.ways,
    }
    existed = distributed.from_first(lambda: results_lib.claim(place, settings))
    with _unwritten(place, existed), _bar(len(asks)) as report:
        vbench.run(asks, maker, place, batch_size=settings["batch_size"], report=report)
    if not distributed.is_first():
        return
    print(f"{len(asks)} videos named as VBench reads them")
    _tell(place, "videos", vbench.SEEDS)
    print("score them with VBench, then read its scores with --suite vbench --results FILE ...")


def _vbench_table(files: list[pathlib.Path]) -> None:
    from mimir_jax.evaluation.suites import vbench

    print(vbench.text({_NAME.value: vbench.read_results(files)}))


def _features() -> None:
    from mimir_jax.evaluation import plots
    from mimir_jax.evaluation import results as results_lib
    from mimir_jax.evaluation.suites import features
    from mimir_jax.parallel import distributed

    if _MESH():
        raise InputError(
            f"--mesh splits a video transformer, which --suite features does not run, got "
            f"{_MESH()}; leave --mesh out"
        )
    run, step = _run_folder(), _step()
    prompts = _feature_prompts(run)
    place = _place("features", step)
    settings = {"suite": "features", "checkpoint": str(run), "step": step, "runs": _RUNS.value}
    existed = distributed.from_first(
        lambda: results_lib.claim(place, {**settings, "prompts": prompts})
    )
    with _unwritten(place, existed):
        measured = features.measure(run, prompts, runs=_RUNS.value, start=_START.value)
        if not distributed.is_first():
            return
        result = features.summary(measured)
        files.write_json(place / results_lib.RESULTS, {**settings, **result})
        plots.features(place / "features.png", measured)
    print(features.text(result))
    _tell(place, "results.json", "features.png")


def _compare(suite: str, places: list[pathlib.Path]) -> None:
    from mimir_jax.evaluation import plots
    from mimir_jax.evaluation import results as results_lib
    from mimir_jax.evaluation.suites import heldout, toyworld

    if suite not in ("toyworld", "loss") or len(places) < 2:
        raise InputError(
            "--compare takes two or more runs, of --suite toyworld or loss, got "
            f"{len(places)} and {suite}"
        )
    found = {}
    for place in places:
        name = place.name if place.name not in found else str(place)
        if name in found:
            raise InputError(f"--compare must name each run once, got {place} twice")
        found[name] = results_lib.find_results(place, suite)
    if suite == "loss":
        losses = {name: heldout.read(results, place) for name, (place, results) in found.items()}
        return print(heldout.text(losses))
    runs = {name: toyworld.read_clips(place) for name, (place, _) in found.items()}
    result = toyworld.compare(runs)
    print(f"{result['clips']} clips in common; in brackets the change from the first, 95 %")
    print(toyworld.comparison_text(result))
    if _OUT.value is None:
        return None
    place = pathlib.Path(_OUT.value).expanduser()
    with _unwritten(
        place, results_lib.claim(place, {"suite": "compare", "runs": list(map(str, places))})
    ):
        files.write_json(place / results_lib.RESULTS, result)
        shared = toyworld.shares(result)
        plots.bars(place / "results.png", shared, label="clips that pass, %")
    _tell(place, "results.json", "results.png")
    return None


def _open_maker():
    from mimir_jax.parallel import mesh
    from mimir_jax.sampling import generator

    options = generator.Options(
        sampler=_SAMPLER.value,
        steps=_STEPS.value,
        guidance=_GUIDANCE.value,
        start=_START.value,
        mesh=mesh.parse_sizes(_MESH()),
    )
    return generator.open_generator(_CHECKPOINT.value, options)


def _tell_unread(maker, prompts: Iterable[str]) -> None:
    """Says what the model does not read of prompts that are too long for it."""
    from mimir_jax.parallel import distributed

    for prompt in dict.fromkeys(prompts):
        lost = maker.unread(prompt)
        if lost and distributed.is_first():
            print(f"prompt {prompt[:40]!r}... is too long, cut: {lost!r}", file=sys.stderr)


def _run_folder() -> pathlib.Path:
    from mimir_jax import weights

    return weights.resolve(_CHECKPOINT.value)


def _step() -> int:
    """The step that is evaluated."""
    from mimir_jax.training import checkpoint

    return 0 if _START.value else checkpoint.latest_step(_run_folder())


def _scenery() -> str:
    """The scenery asked for, else that of the run's training, else varied."""
    if _SCENERY.value is not None:
        return _SCENERY.value
    from mimir_jax.training import checkpoint
    from mimir_jax.weights import runs as runs_lib

    run = _run_folder()
    return (
        runs_lib.read_config(run).data.toyworld.variety
        if checkpoint.has_checkpoint(run)
        else "varied"
    )


def _feature_prompts(run: pathlib.Path) -> list[str]:
    from mimir_jax.data import sources
    from mimir_jax.sampling import prompts
    from mimir_jax.weights import runs as runs_lib

    if _PROMPTS.value is not None:
        return prompts.check(prompts.read(pathlib.Path(_PROMPTS.value).expanduser()))
    config = runs_lib.read_config(run)
    if config.data.source != "toyworld":
        raise InputError("--prompts must name a file of prompts for a run on videos, got none")
    source = sources.make_source(config.data, "heldout", seed=config.seed)
    return [source.text(index) for index in range(min(50, len(source)))]


def _place(suite: str, step: int | None) -> pathlib.Path:
    from mimir_jax.evaluation import results as results_lib

    if _OUT.value is not None:
        return pathlib.Path(_OUT.value).expanduser()
    return results_lib.default(_run_folder(), suite, step, start=_START.value)


def _title() -> str:
    name = pathlib.Path(_CHECKPOINT.value).name
    return f"{name}, start" if _START.value else name


@contextlib.contextmanager
def _unwritten(place: pathlib.Path, existed: bool) -> Iterator[None]:
    """Removes a folder made for this evaluation if it fails before holding anything."""
    try:
        yield
    except Exception:
        kept = [p for p in place.rglob("*") if p.is_file() and p.name != "settings.json"]
        if not existed and not kept:
            shutil.rmtree(place, ignore_errors=True)
        raise


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    from mimir_jax.parallel import distributed

    console = rich_console.Console(quiet=not distributed.is_first())
    columns = [*rich_progress.Progress.get_default_columns(), rich_progress.MofNCompleteColumn()]
    with rich_progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("videos", total=total)
        yield lambda done: bar.update(task, completed=done)


def _tell(place: pathlib.Path, *names: str) -> None:
    for name in names:
        print(f"{name.partition('.')[0]}: {place / name}")


if __name__ == "__main__":
    flags_lib.run(main)
