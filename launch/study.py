# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Ask people which videos are better: `launch/study.py --system A=DIR --system B=DIR --out DIR`.

Writes DIR/page, which raters get and open as a file, and DIR/key.json, which they must not see.
`launch/study.py --tally ANSWERS.json ... --key DIR/key.json` turns what they send into win rates.
See docs/study.md.
"""

import pathlib

from absl import flags

from mimir_jax.cli import flags as flags_lib
from mimir_jax.errors import InputError

_SYSTEM = flags.DEFINE_multi_string("system", [], "NAME=FOLDER of videos with their prompts")
_OUT = flags.DEFINE_string(
    "out", None, "Folder to write; must not exist. With --tally the file, results.json by the key."
)
_PAIRS = flags.DEFINE_integer("pairs", None, "Pairs to ask about; without it all there are.")
_SEED = flags.DEFINE_integer("seed", None, "Draws pairs, sides and names; without it at random.")
_TIES = flags.DEFINE_bool("ties", False, 'Offer "no difference", half a win for both.')
_TALLY = flags.DEFINE_bool("tally", False, "Count the files of answers that follow.")
_KEY = flags.DEFINE_string("key", None, "The key.json of the study to tally.")


def main(argv) -> None:
    """Builds a study, or counts its answers."""
    if _TALLY.value:
        return _count(argv[1:])
    if len(argv) > 1 or not _OUT.value or not _SYSTEM.value:
        raise InputError("study takes --system NAME=FOLDER ... --out DIR, or --tally; see --help")
    systems: dict[str, str] = {}
    for text in _SYSTEM.value:
        name, _, folder = text.partition("=")
        if not name.strip() or not folder:
            raise InputError(f"--system must be NAME=FOLDER, got {text!r}")
        if name.strip() in systems:
            raise InputError(f"--system must name each system once, got {name.strip()!r} twice")
        systems[name.strip()] = folder
    from mimir_jax.study import clips, page

    key = page.build(systems, _OUT.value, pairs=_PAIRS.value, seed=_SEED.value, ties=_TIES.value)
    for name, files in key.unmatched.items():
        print(f"left out of {name}, no partner for {len(files)}: {clips.some(files)}")
    prompts = len({pair.prompt for pair in key.pairs})
    print(f"study {key.study}: {len(key.pairs)} pairs, {len(systems)} systems, {prompts} prompts")
    out = pathlib.Path(_OUT.value)
    print(f"for raters: {out / 'page'} (index.html with videos)\nkeep: {out / 'key.json'}")


def _count(files: list[str]) -> None:
    if _SYSTEM.value or not _KEY.value or not files:
        raise InputError("study takes --tally ANSWERS.json ... --key KEY.json; see --help")
    from mimir_jax.study import form, tally

    key = form.read_key(_KEY.value)
    result = tally.tally(tally.read_answers(files, key), key)
    out = _OUT.value or pathlib.Path(_KEY.value).with_name("results.json")
    tally.write_result(result, out)
    print(f"study {key.study}: {result['raters']} raters\n{tally.table(result)}")
    for one, other in result["unmet"]:
        print(f"some axis has no answer on {one} against {other}: rates leave that out")
    print(f"-> {out}")


if __name__ == "__main__":
    flags_lib.run(main)
