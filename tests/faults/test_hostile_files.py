# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of others, mutated at random: each is read, or refused in one line that names it."""

import json
import os
import pathlib
import resource
import shutil
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mimir_jax import weights
from mimir_jax.data import loader
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.errors import InputError, printable
from tests.data import video_files
from tests.faults import program
from tests.weights import references, test_gguf

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.faults, pytest.mark.torch]

FULL_CLIPS, FULL_MUTATED_CLIPS, FULL_CAPTIONS, FULL_WEIGHTS = 200, 1200, 300, 400
GEOMETRY = dict(frames=9, height=32, width=32, fps=8.0, start="first")
SUFFIXES = (".mp4", ".webm", ".avi", ".gif", ".webp", ".mkv", ".mov")


def mutated(content, rng):
    """Returns content with bits flipped, parts cut, moved, repeated, zeroed or made of noise."""
    data = bytearray(content)
    kind = rng.integers(6)
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, max(2, min(len(data) - start, len(data) // 4 + 2))))
    if kind <= 1:  # a few bits, in the head of the file every other time
        for _ in range(int(rng.integers(1, 9))):
            place = int(rng.integers(min(len(data), 300) if kind else len(data)))
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        del data[start:]
    elif kind == 3:
        data[start : start + length] = rng.bytes(length)
    elif kind == 4:
        data[start : start + length] = bytes(length)
    else:
        part = data[start : start + length]
        place = int(rng.integers(len(data)))
        data[place:place] = part
    return bytes(data)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Contents of good clips by suffix."""
    root = tmp_path_factory.mktemp("clips")
    for suffix in SUFFIXES:
        video_files.write_clip(root / f"a{suffix}", 12)
    return {suffix: (root / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


def crafted(clips):
    """Returns contents that are no clips, or clips that would harm a reader, by file name."""
    bomb = pathlib.Path("bomb.gif")
    pages = [Image.new("P", (4000, 4000), color) for color in (0, 1)] * 20
    pages[0].save(bomb, save_all=True, append_images=pages[1:], duration=50)
    found = {
        "empty.mp4": b"",
        "text.mp4": b"no video at all\n" * 20,
        "zeros.webm": bytes(4000),
        "archive.mov": b"PK\x03\x04" + bytes(200),
        "page.mkv": b"<!DOCTYPE html><html><body>404</body></html>",
        "riff.avi": b"RIFF\xff\xff\xff\xffAVI LIST" + b"\xff" * 64,
        "bomb.gif": bomb.read_bytes(),
        "two.mp4": clips[".mp4"] * 2,
        "codec.avi": clips[".avi"].replace(b"FMP4", b"QQQQ").replace(b"XVID", b"QQQQ"),
        "name with spaces, \u00e9 and \U0001f600.mp4": clips[".mp4"][:300],
        "line\nfeed.mp4": clips[".mp4"][:500],
    }
    bomb.unlink()
    return found


def require_read_or_named(folder, files, listed):
    """Each file can be read, or is among those that were listed with a reason."""
    for file in files:
        alone = folder.parent / "alone" / file
        shutil.rmtree(alone.parent, ignore_errors=True)
        alone.parent.mkdir()
        shutil.copy(folder / file, alone)
        alone.with_suffix(".txt").write_text("a clip")
        try:
            record = folder_lib.VideoFolder(alone.parent, **GEOMETRY)[0]
        except InputError as error:
            assert "\n" not in str(error)
            assert printable(file) in listed, (file, error)
        else:
            assert record["video"].shape == (9, 32, 32, 3) and record["video"].dtype == np.uint8


def test_a_run_goes_on_with_hostile_clips_and_names_them(clips, tmp_path, tried, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "videos"
    folder.mkdir()
    hostile = crafted(clips)
    while len(hostile) < program.count(FULL_CLIPS):
        suffix = SUFFIXES[int(rng.integers(len(SUFFIXES)))]
        hostile[f"{len(hostile):04}{suffix}"] = mutated(clips[suffix], rng)
    good = {f"good-{k}.mp4": clips[".mp4"] for k in range(4)}
    for file, content in (hostile | good).items():
        (folder / file).write_bytes(content)
        (folder / file).with_suffix(".txt").write_text("a clip")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "ring").symlink_to(folder)
    # Every clip once: the batches of one pass over the training split.
    code, _, err = program.run(
        *("train", "--config", "vae", "--workdir", tmp_path / "run"),
        *("--config.data.source=folder", f"--config.data.folder.path={folder}"),
        *("--config.data.frames=9", "--config.data.height=32", "--config.data.width=32"),
        "--config.data.window=first",
        *("--config.data.clip_seconds=5", "--config.batch_size=4"),
        *(f"--config.steps={len(hostile) // 4 + 2}", "--config.system.crop_size=32"),
        *("--config.system.crop_frames=9", "--config.eval_every=0", "--config.sample_every=0"),
    )
    assert code == 0 and "Traceback" not in err, err
    lines = (tmp_path / "run/quarantine.jsonl").read_text().splitlines()
    listed = {json.loads(line)["file"] for line in lines}
    assert {"pipe.mp4", "ring"} <= listed
    seen = [name for name in hostile if name not in heldout(folder)]
    require_read_or_named(folder, seen, listed)
    for _ in hostile:
        tried("hostile clip in the folder of a run")


def heldout(folder):
    return folder_lib.VideoFolder(folder, split="heldout", **GEOMETRY).files


def test_mutated_clips_are_read_or_named(clips, tmp_path, tried, rng):
    folder = tmp_path / "videos"
    folder.mkdir()
    total = program.count(FULL_MUTATED_CLIPS)
    for number in range(total):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        (folder / f"{number:04}{suffix}").write_bytes(mutated(clips[suffix], rng))
        (folder / f"{number:04}.txt").write_text("a clip")
    (folder / "good.mp4").write_bytes(clips[".mp4"])
    (folder / "good.txt").write_text("a clip")
    source = folder_lib.VideoFolder(folder, **GEOMETRY, seconds=10)
    batches = loader.make_loader(source, global_batch=8, seed=0, num_threads=2)
    batches.quarantine(tmp_path)
    for _ in range(-(-len(source) // 8)):
        assert next(batches)["video"].shape == (8, 9, 32, 32, 3)
    batches.close()
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    listed = {json.loads(line)["file"] for line in lines}
    files = [file for file in source.files if file != "good.mp4"]
    require_read_or_named(folder, [f for f in files if f not in listed], listed)
    for _ in range(total):
        tried("mutated clip, read or named")


def captions(folder):
    """Writes the caption lists of every layout that opens; returns their files."""
    rows = [{"file": f"{k}.mp4", "caption": f"clip {k}, \u00e9\U0001f600"} for k in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    metadata = [{"file_name": row["file"], "text": row["caption"]} for row in rows]
    return {
        "captions.jsonl": lines,
        "metadata.jsonl": "".join(json.dumps(row) + "\n" for row in metadata),
        "metadata.csv": "file_name,text\n"
        + "".join(f'{row["file_name"]},"{row["text"]}"\n' for row in metadata),
        "videos2caption.json": json.dumps(
            [{"path": row["file"], "cap": [row["caption"]]} for row in rows]
        ),
    }


def test_mutated_captions_are_read_or_refused_in_one_line(clips, tmp_path, tried, rng):
    lists = captions(tmp_path)
    total = program.count(FULL_CAPTIONS)
    for number in range(total):
        folder = tmp_path / str(number)
        folder.mkdir()
        for k in range(3):
            (folder / f"{k}.mp4").write_bytes(clips[".mp4"])
        name = list(lists)[number % len(lists)]
        (folder / name).write_bytes(mutated(lists[name].encode(), rng))
        try:
            source = folder_lib.VideoFolder(folder, **GEOMETRY)
            assert all(isinstance(text, str) and text for row in source.captions for text in row)
        except InputError as error:
            assert "\n" not in str(error) and str(folder) in str(error), error
        tried("mutated list of captions, read or refused")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folders as others publish them, and one of ours."""
    root = tmp_path_factory.mktemp("published")
    for name in ("llama", "t5-gated", "vae", "5b"):
        references.save(name, root / name)
    model = references.REFERENCES["llama"].build()
    pickled = root / "pickle"
    pickled.mkdir()
    shutil.copy(root / "llama/config.json", pickled)
    state = {k: torch.from_numpy(x) for k, x in load_file(root / "llama/model.safetensors").items()}
    torch.save(state, pickled / "pytorch_model.bin")
    (root / "gguf").mkdir()
    test_gguf.write(model, root / "gguf/model.gguf")
    weights.convert(root / "llama", root / "native")
    return {folder.name: folder for folder in sorted(root.iterdir())}


def test_mutated_weights_load_or_are_refused_in_one_line(published, tmp_path, tried, rng):
    names = list(published)
    for name in names:
        weights.load(published[name])  # whole ones do; also takes what a first time costs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(program.count(FULL_WEIGHTS)):
        name = names[number % len(names)]
        folder = tmp_path / str(number)
        shutil.copytree(published[name], folder)
        files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.stat().st_size]
        chosen = files[int(rng.integers(len(files)))]
        chosen.write_bytes(mutated(chosen.read_bytes(), rng))
        begun = time.monotonic()
        try:
            weights.load(folder)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000, (name, chosen.name, error)
        except Exception as error:
            kept = shutil.copytree(folder, pathlib.Path("/tmp/mutated") / folder.name)
            raise AssertionError(f"{chosen.name} of {name}, kept in {kept}") from error
        assert time.monotonic() - begun < 60, (name, chosen.name)
        tried(f"mutated weights, {name}")
        shutil.rmtree(folder)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000, f"{grown} kB more"
