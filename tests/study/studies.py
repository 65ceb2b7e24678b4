# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Small folders of videos, studies of them, and answers without a browser."""

import json
import pathlib
from collections.abc import Callable, Sequence

import av
import numpy as np

from mimir_jax.sampling import video
from mimir_jax.study import form

PROMPTS = ("a red ball <rolls> left", "two cubes & a cone", "</script><b>ein blauer Würfel 球</b>")


def write_video(path: pathlib.Path, level: int, count: int = 6) -> None:
    """Writes a few frames that darken; the container carries a title that would tell the system."""
    frames = np.full((count, 48, 64, 3), level, np.uint8)
    frames -= 5 * np.arange(count, dtype=np.uint8)[:, None, None, None]
    if path.suffix == ".mp4":
        plain = path.with_suffix(".plain.mp4")
        video.write_mp4(plain, frames, fps=8.0)
        with av.open(str(plain)) as old, av.open(str(path), "w") as new:
            copy = new.add_stream_from_template(old.streams.video[0])
            new.metadata["title"] = f"SECRET {path.parent.name}"
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    new.mux(packet)
        plain.unlink()
        return
    with av.open(str(path), "w") as new:
        stream = new.add_stream("libvpx", rate=8)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        new.metadata["title"] = f"SECRET {path.parent.name}"
        for frame in frames:
            new.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        new.mux(stream.encode())


def write_folder(
    folder: pathlib.Path, prompts: Sequence[str] = PROMPTS, *, how: str = "captions"
) -> pathlib.Path:
    """Writes one video a prompt, with prompts in one of the three forms."""
    folder.mkdir(parents=True)
    for index, prompt in enumerate(prompts):
        suffix = ".webm" if how == "txt" else ".mp4"
        path = folder / f"{index:02d}{suffix}"
        write_video(path, 120 + 10 * index)
        if how == "json":
            path.with_suffix(".json").write_text(json.dumps({"prompt": prompt, "seed": 0}))
        elif how == "txt":
            path.with_suffix(".txt").write_text(prompt + "\n", encoding="utf-8")
    if how == "captions":
        (folder / "captions.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    return folder


def make_key(systems: Sequence[str], prompts: int, *, ties: bool = False) -> form.Key:
    """Makes the key of a full round robin, without any video."""
    pairs = []
    for prompt in range(prompts):
        for i, one in enumerate(systems):
            for other in systems[:i]:
                sides = [form.Side(name, "00.mp4", "0.mp4") for name in (one, other)]
                sides = sides[:: 1 if len(pairs) % 2 else -1]
                pairs.append(form.Pair(f"p{len(pairs)}", f"prompt {prompt}", *sides))
    folders = {name: f"/videos/{name}" for name in systems}
    return form.Key("0123456789abcdef", 0, ties, folders, {}, tuple(pairs))


def write_answers(
    path: pathlib.Path,
    key: form.Key,
    choose: Callable[[form.Pair, str], str | None],
    *,
    session: str | None = None,
) -> pathlib.Path:
    """Writes what a page would download; `choose` maps pair and axis to a choice or None."""
    answers = []
    for pair in key.pairs:
        chosen = {axis.id: choose(pair, axis.id) for axis in form.AXES}
        answers.append({"pair": pair.id} | {k: v for k, v in chosen.items() if v is not None})
    content = {
        "kind": "study answers",
        "study": key.study,
        "session": session or path.stem,
        "rater": "",
        "answers": answers,
    }
    path.write_text(json.dumps(content))
    return path


def prefer(system: str) -> Callable[[form.Pair, str], str]:
    """Chooses a system where it takes part, and the left video elsewhere."""
    return lambda pair, axis: "right" if pair.right.system == system else "left"
