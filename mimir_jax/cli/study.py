# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Ask people which videos are better.

`--system A=FOLDER --system B=FOLDER --out FOLDER` builds a study: FOLDER/page for the raters, who
open it as a file, and FOLDER/key.json, which they must not see. `--tally ANSWERS.json ... --key
FOLDER/key.json` computes win rates from their answers. See docs/study.md.
"""

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command
from mimir_jax.errors import InputError

WORDS = "[ANSWERS.json ...]"
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_multi_string(
        "system", [], "NAME=FOLDER of videos with their prompts.", flag_values=values
    )
    flags.DEFINE_string(
        "out", None,
        "Folder to write; must not exist. With --tally the file, by default results.json next to "
        "the key.", values,
    )  # fmt: skip
    text = "Number of pairs to rate; by default all."
    flags.DEFINE_integer("pairs", None, text, flag_values=values)
    text = "Seed of pairs, sides and names; by default random."
    flags.DEFINE_integer("seed", None, text, lower_bound=0, flag_values=values)
    flags.DEFINE_bool("ties", False, 'Offer "no difference", half a win for both.', values)
    flags.DEFINE_bool("tally", False, "Count the files of answers that follow.", values)
    flags.DEFINE_string("key", None, "The key.json of the study to tally.", values)


def main(args: command.Arguments) -> None:
    """Builds a study, or counts its answers."""
    if args.flags.tally:
        _count(args)
    else:
        _build(args)


def _build(args: command.Arguments) -> None:
    if args.words or not args.flags.out or not args.flags.system:
        raise InputError(
            "study takes --system NAME=FOLDER ... --out FOLDER, or --tally; see "
            f"{args.program} --help"
        )
    systems: dict[str, str] = {}
    for text in args.flags.system:
        name, _, folder = text.partition("=")
        if not name.strip() or not folder:
            raise InputError(f"--system must be NAME=FOLDER, got {text!r}")
        if name.strip() in systems:
            raise InputError(f"--system must name each system once, got {name.strip()!r} twice")
        systems[name.strip()] = folder
    from mimir_jax.study import clips, page

    key = page.build(
        systems, args.flags.out, pairs=args.flags.pairs, seed=args.flags.seed, ties=args.flags.ties
    )
    for name, unmatched in key.unmatched.items():
        print(f"left out of {name}, no partner for {len(unmatched)}: {clips.some(unmatched)}")
    prompts = len({pair.prompt for pair in key.pairs})
    print(f"study {key.study}: {len(key.pairs)} pairs, {len(systems)} systems, {prompts} prompts")
    out = files.expand_path(args.flags.out)
    print(f"for raters: {out / 'page'} (index.html with videos)\nkeep: {out / 'key.json'}")


def _count(args: command.Arguments) -> None:
    if args.flags.system or not args.flags.key or not args.words:
        raise InputError(
            f"study takes --tally ANSWERS.json ... --key KEY.json; see {args.program} --help"
        )
    from mimir_jax.study import form, tally

    key = form.read_key(args.flags.key)
    result = tally.tally(tally.read_answers(args.words, key), key)
    out = args.flags.out or files.expand_path(args.flags.key).with_name("results.json")
    tally.write_result(result, out)
    print(f"study {key.study}: {result['raters']} raters\n{tally.table(result)}")
    for one, other in result["unmet"]:
        print(f"some axis has no answer on {one} against {other}: rates leave that out")
    print(f"-> {out}")
