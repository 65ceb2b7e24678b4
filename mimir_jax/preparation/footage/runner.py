# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Does the work of a preparation: in one process after the other, or in many at the same time.

    measure    each raw video: cut, measured; a record of its clips
    select     all records: duplicates; by one process, from the records alone
    export     each video with kept clips: written, captioned
    finish     captions.jsonl, decisions.jsonl, quarantine.jsonl
    pack       where asked for: the kept clips, in shards

Processes of one command or of many machines share these steps, but `finish`, through the
destination: each claims a video, and takes over what an ended process had claimed. All of them
finish, and write the same files.
"""

import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mimir_jax import files, hashing
from mimir_jax.data import clip_shards
from mimir_jax.data.sources import captions as captions_lib
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.errors import InputError
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage import export as export_lib
from mimir_jax.preparation.footage import rules as rules_lib
from mimir_jax.preparation.footage import scan, selection, store
from mimir_jax.preparation.footage.config import FootageConfig

_WAIT_SECONDS = 0.5
_ABANDONED_SECONDS = 3600.0
Report = Callable[[str, str], None]
"""Called with a step and the video that it has finished."""


class Share(NamedTuple):
    """Part of one step.

    Attributes:
        kind: Of its records, `store.MEASURED` or `store.EXPORTED`.
        kept: Its videos; in the step of `store.EXPORTED`, with the clips that are kept.
    """

    kind: str
    kept: dict[str, list[str]]


class Preparation:
    """A preparation, as one process sees it.

    Args:
        root: Folder of raw videos.
        out: Folder of prepared clips.
        config: The preparation.

    Raises:
        InputError: for a folder without videos, or of other settings.
    """

    def __init__(self, root: pathlib.Path, out: pathlib.Path, config: FootageConfig):
        if not root.is_dir():
            raise InputError(f"RAW must be a folder of videos, got {root}; pass an existing one")
        if root.resolve() in (out.resolve(), *out.resolve().parents):
            raise InputError(f"OUT must not be in RAW, got {out} in {root}; choose another")
        self.root, self.config = root, config
        self.videos, self.left_out = folder_lib.list_videos(root)
        if not self.videos:
            raise InputError(f"RAW must hold videos, found none in {root}; choose another")
        self.store = store.Store(out)
        self.store.check(config)
        self._rules = rules_lib.of_videos(config)
        self._kept: dict[str, list[str]] = {}

    def work(
        self,
        report: Report = lambda step, video: None,
        limit: Callable[[], None] = lambda: None,
        begin: float = 0.0,
        share: Share | None = None,
    ) -> None:
        """Measures and exports until nothing is left, also by other processes.

        Raises:
            InputError: for a plug-in that cannot be made, before anything is written, or one that
                returns nonsense; what was done stays.

        Args:
            report: Called when this process has finished a video.
            limit: Called before a video, to limit what it may take.
            begin: Where in the list of videos to begin, from 0 to 1, so that processes begin with
                different ones.
            share: What to do; by default everything.
        """
        self._scanner = scan.Scanner(self.config)
        self._exporter = export_lib.Exporter(self.config, self.root, self.store.clips)
        self.store.create(self.config)
        if share is not None:
            self._kept = share.kept
            make = self._measure if share.kind == store.MEASURED else self._export
            self._share(share.kind, list(share.kept), make, report, limit, begin)
            return
        self._share(store.MEASURED, self.videos, self._measure, report, limit, begin)
        limit()
        self._choose()
        self._share(store.EXPORTED, list(self._kept), self._export, report, limit, begin)

    def left(self, kind: str) -> Share:
        """Returns what is left of a step; that of `store.EXPORTED` needs all of the other."""
        if kind == store.MEASURED:
            self._kept = {video: [] for video in self.videos}
        else:
            self._choose()
        kept = {v: k for v, k in self._kept.items() if self._current(kind, v) is None}
        return Share(kind, kept)

    def records(self) -> list[dict[str, Any]]:
        """Returns the records of all videos."""
        records = (self._current(store.MEASURED, video) for video in self.videos)
        return [record for record in records if record is not None]

    def _choose(self) -> None:
        """Selects clips, or reads what another process has selected of the same records."""
        state = self._state()
        while not self._is_chosen(state):
            with self.store.claim(store.SELECTED, "kept") as ended:
                if ended is not None and not self._is_chosen(state):
                    self._select()
                    content = {"state": state, "kept": self._kept}
                    self.store.write(store.SELECTED, "kept", content)
            if ended is None:
                time.sleep(_WAIT_SECONDS)

    def _is_chosen(self, state: str) -> bool:
        """Reads the selection of some state of the records; returns whether it was made."""
        found = self.store.read(store.SELECTED, "kept")
        if found is None or found["state"] != state:
            return False
        self._kept = found["kept"]
        return True

    def _select(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the decisions on every clip, up to that on duplicates.

        All pairs of clips are compared once; a process reads what another one has found.
        """
        state, records = self._state(), self.records()
        found = self.store.read(store.SELECTED, "nearest")
        if found is None or found["state"] != state:
            near = selection.nearest(records, self._rules, self.config)
            found = {"state": state, "nearest": near}
            self.store.write(store.SELECTED, "nearest", found)
        decisions = selection.decide(records, self._rules, self.config, found["nearest"])
        self._kept = selection.kept(records, decisions)
        return decisions

    def _state(self) -> str:
        """Returns a hash of what tells the records from others: raw videos and sizes."""
        facts = [
            [video, store.stamp(self.root / video), self.store.size(store.MEASURED, video)]
            for video in self.videos
        ]
        return hashing.sha256(json.dumps(facts))

    def _share(
        self,
        kind: str,
        videos: Sequence[str],
        make: Callable[[str, int], None],
        report: Report,
        limit: Callable[[], None],
        begin: float,
    ) -> None:
        """Makes the records that are missing, together with other processes."""
        start = int(begin * len(videos))
        todo = [*videos[start:], *videos[:start]]
        while todo := [video for video in todo if self._current(kind, video) is None]:
            worked = False
            for video in todo:
                if self._current(kind, video) is not None:
                    continue
                with self.store.claim(kind, store.video_key(video)) as ended:
                    if ended is None or self._current(kind, video) is not None:
                        continue
                    limit()
                    make(video, ended)
                    worked = True
                report(kind, video)
            if not worked:
                time.sleep(_WAIT_SECONDS)  # others work on what is left

    def _current(self, kind: str, video: str) -> dict[str, Any] | None:
        """Returns a record that is still true of the raw video and the selection."""
        record = self.store.read(kind, store.video_key(video))
        if record is None or record["stamp"] != store.stamp(self.root / video):
            return None
        if kind == store.EXPORTED and record["kept"] != self._kept[video]:
            return None
        return record

    def _measure(self, video: str, ended: int) -> None:
        key, sheet = store.video_key(video), b""
        record = {"video": video, "stamp": store.stamp(self.root / video), "clips": []}
        if ended >= self.config.output.attempts:
            record["failed"] = f"has ended {ended} processes that read it"
        else:
            try:
                record, sheet = self._scanner.scan(self.root, video)
            except MemoryError:
                record["failed"] = self._too_large()
        if sheet:
            files.write_bytes(self.store.work / "images" / f"{key}.jpg", sheet)
        self.store.write(store.MEASURED, key, record)

    def _too_large(self) -> str:
        return f"needs more than {self.config.output.gigabytes:g} GB"

    def _export(self, video: str, ended: int) -> None:
        key, names = store.video_key(video), self._kept[video]
        record = self._current(store.MEASURED, video)
        if record is None:
            raise InputError(
                f"raw video {self.root / video} must stay as it was measured, it has changed; "
                "repeat the command when it is complete"
            )
        done = {"kept": names, "clips": {}}
        if ended >= self.config.output.attempts:
            done["failed"] = f"has ended {ended} processes that wrote its clips"
        else:
            try:
                done = self._exporter.export(record, names)
            except MemoryError:
                done["failed"] = self._too_large()
        self.store.write(store.EXPORTED, key, {"video": video, "stamp": record["stamp"], **done})

    def finish(self) -> list[dict[str, Any]]:
        """Writes the lists, and returns a line for each clip.

        Clips that an earlier run kept and this one does not are removed.
        """
        decisions, lines, captions = self._select(), [], []
        exported, left = {}, [*self.left_out.items()]
        for video in self._kept:
            record = self.store.read(store.EXPORTED, store.video_key(video))
            exported |= record["clips"]
            left += [(video, record["failed"])] if "failed" in record else []
        for record in self.records():
            if "failed" in record:
                lines.append(
                    {"video": record["video"], "dropped_by": "read", "reason": record["failed"]}
                )
            for clip in record["clips"]:
                line = self._line(record, clip, decisions[clip["clip"]], exported)
                lines.append(line)
                if line["dropped_by"] is None:
                    captions.append({"file": line["file"], "caption": line["captions"]})
        names = {captions_lib.OWN, *(line["file"] for line in captions)}
        for path in self.store.clips.iterdir():
            if path.name not in names and not _is_written(path):
                path.unlink(missing_ok=True)
        store.write_lines(self.store.clips / captions_lib.OWN, captions)
        store.write_lines(self.store.folder / "decisions.jsonl", lines)
        left += [(x["video"], x["reason"]) for x in lines if x["dropped_by"] == "read"]
        rows = [{"file": file, "reason": reason} for file, reason in left]
        store.write_lines(self.store.folder / "quarantine.jsonl", rows)
        return lines

    def pack(self, lines: Sequence[dict[str, Any]], shard_bytes: int) -> int:
        """Writes the kept clips as shards, together with other processes; returns how many.

        Args:
            lines: Of the clips; see `finish`.
            shard_bytes: Size from which a shard is full.

        Raises:
            InputError: for a clip that is missing or has changed since it was written.
        """
        entries = [
            clip_shards.Entry(line["file"], line["bytes"], tuple(line["captions"]))
            for line in lines
            if line["dropped_by"] is None
        ]
        plan, folder = clip_shards.plan(entries, shard_bytes), self.store.shards
        if clip_shards.is_complete(folder, plan):
            return len(plan.parts)
        with files.writing(folder, "OUT"):
            folder.mkdir(exist_ok=True)
        todo = list(range(len(plan.parts)))
        while todo := [k for k in todo if not (folder / plan.shard(k)).is_file()]:
            worked = False
            for number in todo:
                name = plan.shard(number)
                with self.store.claim("packed", name) as ended:
                    if ended is not None and not (folder / name).is_file():
                        clip_shards.write_shard(folder, plan, number, self.store.read_clip)
                        worked = True
            if not worked:
                time.sleep(_WAIT_SECONDS)
        clip_shards.complete(folder, plan)
        return len(plan.parts)

    def _line(
        self,
        record: dict[str, Any],
        clip: dict[str, Any],
        decisions: list[dict[str, Any]],
        exported: dict[str, Any],
    ) -> dict[str, Any]:
        """Returns what is known of a clip."""
        dropped = selection.dropped_by(decisions)
        line = {
            "clip": clip["clip"],
            "video": record["video"],
            "start": clip["start"],
            "seconds": clip["measures"]["seconds"],
            "dropped_by": dropped,
            "decisions": decisions,
        }
        if dropped is not None:
            return line
        done = exported.get(clip["clip"], {"captions": []})
        words = max((len(text.split()) for text in done["captions"]), default=0)
        rule = clip_lib.Rule("captions", "words", low=1)
        decision = clip_lib.Decision(rule, float(words)).to_json()
        line["decisions"] = [*decisions, decision]
        line["dropped_by"] = selection.dropped_by(line["decisions"])
        return {**line, **done} if words else line


def _is_written(path: pathlib.Path) -> bool:
    """Whether another process may be writing a hidden file, and was not killed long ago."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    return path.name.startswith(".") and age < _ABANDONED_SECONDS
