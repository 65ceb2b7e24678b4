# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds a study: a page that opens from a file, its videos under random names, and the key."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import random
import secrets
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import combinations

from mimir_jax import files
from mimir_jax.errors import InputError
from mimir_jax.study import clips, form


def build(
    systems: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    pairs: int | None = None,
    seed: int | None = None,
    ties: bool = False,
) -> form.Key:
    """Writes `page` (index.html, videos) for raters, and `key.json`; complete or not at all.

    Args:
        systems: Folder of videos by name of the system.
        out: Folder to write; must not exist.
        pairs: How many pairs to ask about, spread evenly over systems and prompts; None asks about
            every two systems on every common prompt.
        seed: Draws pairs, sides and names; None takes one that nobody can guess.
        ties: Whether to offer "no difference", which counts as half a win for both.

    Returns:
        The key, as written.

    Raises:
        ValueError: if the folders cannot be compared, or `out` exists or cannot be written.
    """
    folders = {name: files.expand_path(folder) for name, folder in systems.items()}
    groups, unmatched = clips.match({n: clips.read_folder(f) for n, f in folders.items()})
    seed = secrets.randbits(64) if seed is None else seed
    rng = random.Random(seed)
    drawn = draw_pairs(groups, pairs, rng)
    drawn = _name_videos(drawn, rng)
    key = form.Key(
        study="",
        seed=seed,
        ties=ties,
        systems={name: str(folder) for name, folder in folders.items()},
        unmatched=unmatched,
        pairs=tuple(drawn),
    )
    sources = {
        side.video: folders[side.system] / side.file
        for pair in key.pairs
        for side in (pair.left, pair.right)
    }
    with files.atomic_directory(files.expand_path(out)) as folder:
        videos = folder / "page" / "videos"
        videos.mkdir(parents=True)
        digest = hashlib.sha256(json.dumps([key.to_json()["pairs"], seed, ties]).encode())
        for name in sorted(sources):  # an order, and so times, that tell nothing
            clips.copy_bare(sources[name], videos / name)
            digest.update((videos / name).read_bytes())
        key = dataclasses.replace(key, study=digest.hexdigest()[:16])
        (folder / "page" / "index.html").write_text(render(key), encoding="utf-8")
        text = json.dumps(key.to_json(), indent=1, ensure_ascii=False)
        (folder / "key.json").write_text(text + "\n", encoding="utf-8")
    return key


def render(key: form.Key) -> str:
    """Returns the page, which holds nothing of the key but prompts and the names of videos."""
    data = {
        "study": key.study,
        "axes": [axis._asdict() for axis in form.AXES],
        "ties": key.ties,
        "pairs": [
            {"id": p.id, "prompt": p.prompt, "left": p.left.video, "right": p.right.video}
            for p in key.pairs
        ],
    }
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no tag can open or close
    web = resources.files("mimir_jax.study") / "web"
    html = (web / "index.html").read_text(encoding="utf-8")
    for slot, part in (
        ("/* style */", (web / "style.css").read_text(encoding="utf-8").strip()),
        ("/* script */", (web / "study.js").read_text(encoding="utf-8").strip()),
        ("/* data */", text),
    ):
        before, found, after = html.partition(slot)
        assert found, slot
        html = before + part + after
    return html


def draw_pairs(
    groups: Sequence[Mapping[str, clips.Clip]], count: int | None, rng: random.Random
) -> list[tuple[str, form.Side, form.Side]]:
    """Draws (prompt, left, right), with every two systems, prompt and side as often as another.

    Args:
        groups: Clips of each prompt by system.
        count: Number of pairs; None takes all there are.
        rng: Draws.

    Raises:
        InputError: for more pairs than there are, or none.
    """
    duels = list(combinations(groups[0], 2))
    total = len(duels) * len(groups)
    count = total if count is None else count
    if not 0 < count <= total:
        raise InputError(
            f"pairs must be 1 to {total}, {len(duels)} of systems times {len(groups)} common "
            f"prompts, got {count}"
        )
    groups = rng.sample(groups, len(groups))
    rng.shuffle(duels)
    period = math.lcm(len(duels), len(groups))
    flips = {duel: rng.random() < 0.5 for duel in duels}
    drawn = []
    for index in range(count):  # the shift by index // period makes the round robin complete
        duel, group = duels[(index + index // period) % len(duels)], groups[index % len(groups)]
        order = duel[::-1] if flips[duel] else duel
        flips[duel] = not flips[duel]
        left, right = (form.Side(name, group[name].path.name, "") for name in order)
        drawn.append((group[order[0]].prompt, left, right))
    rng.shuffle(drawn)
    return drawn


def _name_videos(
    drawn: Sequence[tuple[str, form.Side, form.Side]], rng: random.Random
) -> list[form.Pair]:
    """Gives pairs and videos names that tell nothing; a video of several pairs has one."""
    files = sorted({side[:2] for _, left, right in drawn for side in (left, right)})
    names = {file: _token(rng) + pathlib.Path(file[1]).suffix.lower() for file in files}
    return [
        form.Pair(_token(rng), prompt, *(s._replace(video=names[s[:2]]) for s in sides))
        for prompt, *sides in drawn
    ]


def _token(rng: random.Random) -> str:
    return f"{rng.getrandbits(64):016x}"
