# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the shipped base draws of narrow prompts, judged, beside what it should.

    python benchmarks/base.py [--scenes 200] [--other runs/base]

Held-out scenes with one kind of object, one prompt each in narrow wording. `--other` judges another
base on the same prompts and noise. Writes docs/results/base.md; clips that exist in `--out` are not
made again.
"""

import argparse
import dataclasses
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mimir_jax.cli import host  # noqa: E402

TARGETS = {
    "object_class": 90, "colour": 90, "size": 90, "layout": 90, "count": 80, "action": 80,
    "action_order": 60,
}  # fmt: skip
"""Least shares in percent that Mimir in miniature should start from."""


def open_base(folder: str) -> Any:
    """Returns the pipeline of a base, with the settings of its preset."""
    from mimir_jax import systems
    from mimir_jax.sampling import pipeline
    from mimir_jax.systems.cogvideox import presets
    from mimir_jax.weights import initialization

    run = dataclasses.replace(presets.tiny(), init_from=folder)
    system = systems.make_system(run)
    params = initialization.start_of(run, system.model)
    return pipeline.make_pipeline(run, system, systems.make_encoder(run, system), params)


def judge(folder: str, scenes: int, out: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns the shares of judged clips by category, as `toyworld.summarise` does."""
    from mimir_jax.data.toyworld import sampling
    from mimir_jax.evaluation import before_after
    from mimir_jax.evaluation.suites import toyworld

    samples = []
    for index in range(scenes):
        scene = sampling.sample(0, "heldout", index, "single")
        exercised = toyworld.exercised_categories(scene)
        samples += toyworld.ask_for(scene, index, "narrow", exercised)
    judged = before_after.judge_side(
        samples,
        open_base(folder),
        out,
        batch_size=8,
        progress=lambda done, total: print(f"\r{done} of {total} clips", end="", flush=True),
    )
    print()
    return {name: cells["narrow"] for name, cells in toyworld.summarise(judged).items()}


def page(columns: dict[str, dict[str, dict[str, Any]]], command: str) -> str:
    """Returns the page of the summaries of judged clips, which `command` writes."""
    from mimir_jax import tables

    def cell(summary: dict[str, dict[str, Any]], name: str) -> str:
        low, high = summary[name]["interval"]
        share = 100 * summary[name]["passed"]
        return f"{share:.0f} ({100 * low:.0f} to {100 * high:.0f})"

    first = columns["shipped"]
    rows = [["category", "scenes", *columns, "target"]]
    for name in first:
        cells = [cell(summary, name) for summary in columns.values()]
        target = str(TARGETS[name]) if name in TARGETS else "-"
        rows.append([name, str(first[name]["scenes"]), *cells, target])
    missed = {
        title: [n for n, least in TARGETS.items() if 100 * summary[n]["passed"] < least]
        for title, summary in columns.items()
    }
    return "\n".join(
        [
            "# The shipped base",
            "",
            f"`{command}`: held-out scenes with one kind of object, one narrow prompt each,",
            "20 steps of DDIM, guidance 4. Clips that pass in percent, with 95 % Wilson intervals "
            "at the number of scenes.",
            "",
            tables.markdown(rows),
            "",
            *(f"Below its target, {t}: {', '.join(m) or 'nothing'}." for t, m in missed.items()),
            "",
        ]
    )


def main() -> None:
    """Judges the base and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=200, help="held-out scenes")
    parser.add_argument("--other", type=pathlib.Path, help="folder of another base")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/base-judged"))
    args = parser.parse_args()
    host.prepare_host()
    folders = {"shipped": "package:tiny/base"}
    if args.other:
        folders["other"] = str(args.other)
    columns = {
        name: judge(folder, args.scenes, args.out / name) for name, folder in folders.items()
    }
    command = f"python benchmarks/base.py --scenes {args.scenes}"
    text = page(columns, command + (f" --other {args.other}" if args.other else ""))
    (ROOT / "docs/results/base.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
