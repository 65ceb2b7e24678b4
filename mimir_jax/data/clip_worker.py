# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads clips in a process of its own, so that no file can hang, blow up or kill a run.

    run                                  worker
    path, size of frames       ->        list the frames
                               <-        timeline
    numbers of frames          ->        decode and resize them
                               <-        pixels

A clip has a limit of processor time, of memory, and of time altogether (a mount that no longer
answers). A worker that exceeds one is replaced, and so is one that clips have left large: memory is
counted from the start of the worker, since a decoder may keep what it has freed. There are as many
workers as threads that read at the same time; they end with the process.
"""

import atexit
import contextlib
import functools
import math
import os
import pathlib
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mimir_jax.data import covering, video_io

WAITS = 5
"""Time that a clip may take altogether, in limits of processor time."""

KEPT = 0.25
"""Share of the limit of memory that a worker may still hold after a clip, or it is replaced."""

ANY_SIZE = video_io.FrameLimits()

_START_SECONDS = 120.0
_HEAD = struct.Struct("<Q")
_LOCK = threading.Lock()

IDLE: list["_Worker"] = []
"""Workers that wait for the next clip, the last one used at the end."""


class ClipLimit(video_io.UnreadableClip):
    """A clip that took more time or memory than it may; it will again."""


def read_clip(
    path: video_io.File,
    pick: video_io.Pick,
    *,
    height: int,
    width: int,
    seconds: float | int,
    gigabytes: float | int,
    limits: video_io.FrameLimits = ANY_SIZE,
) -> UInt8[np.ndarray, "f {height} {width} 3"]:
    """Reads the frames that `pick` chooses, resized to cover `height` x `width`.

    Args:
        path: The video file, or its content.
        pick: Maps the clip's `Timeline` to frame numbers, repeats allowed.
        height: Rows of a frame.
        width: Columns of a frame.
        seconds: Limit of processor time.
        gigabytes: Limit of memory.
        limits: Sizes of stored frames that are read.

    Raises:
        UnreadableClip: if the file cannot be decoded, takes more than it may, is outside `limits`,
            or `pick` refuses it.
    """
    worker = _take()
    try:
        fit = ((height, width), limits)
        return worker.read(path, pick, fit, float(seconds), float(gigabytes))
    finally:
        _give_back(worker, gigabytes)


def measure_clip(
    path: video_io.File, *, seconds: float | int, gigabytes: float | int
) -> tuple[video_io.Timeline, tuple[float, float]]:
    """Returns the timeline of a clip, and height and width of its first frame in square pixels.

    Arguments and errors are those of `read_clip`.
    """
    seen = []

    def pick(timeline: video_io.Timeline) -> np.ndarray:
        seen.append(timeline)
        return np.zeros(1, np.int64)

    worker = _take()
    try:
        sizes = worker.read(path, pick, (None, ANY_SIZE), float(seconds), float(gigabytes))
    finally:
        _give_back(worker, gigabytes)
    height, width = sizes[0].tolist()
    return seen[0], (height, width)


def _give_back(worker: "_Worker", gigabytes: float | int) -> None:
    if not worker.alive:
        return
    if worker.growth() > KEPT * gigabytes * 1e9:
        worker.end()
        return
    with _LOCK:
        IDLE.append(worker)


def _take() -> "_Worker":
    """Returns a worker that is idle, or a new one."""
    while True:
        with _LOCK:
            worker = IDLE.pop() if IDLE else None
        if worker is None:
            return _Worker()
        if worker.runs():
            return worker


@atexit.register
def _end_all() -> None:
    while IDLE:
        IDLE.pop().end()


class _Worker:
    """A process that decodes, seen from the run."""

    def __init__(self):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.alive = True
        self._start()
        self._mapped = _mapped(self.process.pid)

    def growth(self) -> int:
        """Returns by how many bytes of address space the process has grown since its start."""
        return _mapped(self.process.pid) - self._mapped

    def _start(self) -> None:
        """Waits until the process answers, so that its start counts for no clip."""
        try:
            _receive(self.process.stdout, time.monotonic() + _START_SECONDS)
        except (EOFError, TimeoutError) as error:
            self.end()
            raise RuntimeError("the process that decodes clips does not start") from error

    def runs(self) -> bool:
        """Whether the process is there; nobody should have ended it, but somebody may."""
        if self.alive and self.process.poll() is not None:
            self.end()
        return self.alive

    def read(
        self,
        path: video_io.File,
        pick: video_io.Pick,
        fit: tuple[tuple[int, int] | None, video_io.FrameLimits],
        seconds: float,
        gigabytes: float,
    ) -> np.ndarray:
        done = False
        try:
            timeline = self._ask((path, fit, seconds, gigabytes), seconds)
            try:
                chosen = pick(timeline)
            except video_io.UnreadableClip:
                self._ask(None, seconds)
                done = True
                raise
            pixels = self._ask(chosen, seconds)
            done = True
            return pixels
        except _Refused as error:
            done = True
            raise video_io.UnreadableClip(str(error)) from None
        finally:
            if not done:
                self.end()

    def _ask(self, message: Any, seconds: float) -> Any:
        """Sends a message and returns the answer."""
        limit = WAITS * seconds
        try:
            _send(self.process.stdin, message)
            fine, answer = _receive(self.process.stdout, time.monotonic() + limit)
        except (EOFError, BrokenPipeError):
            self.end()
            code = self.process.returncode
            if code == -signal.SIGXCPU:
                raise ClipLimit(f"takes more than {seconds:g} s to decode") from None
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise ClipLimit(f"ends its decoder ({how})") from None
        except TimeoutError:
            raise ClipLimit(f"takes more than {limit:g} s to read") from None
        if not fine:
            raise _Refused(answer)
        return answer

    def end(self) -> None:
        """Kills the process, without waiting for one that a blocked mount holds."""
        if not self.alive:
            return
        with contextlib.suppress(OSError):
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.alive = False
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.returncode = 0  # nobody waits for it any more


class _Refused(Exception):
    """The reason why a worker cannot read a clip."""


def _send(pipe: Any, message: Any) -> None:
    data = pickle.dumps(message, protocol=5)
    pipe.write(_HEAD.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: Any, until: float = math.inf) -> Any:
    (count,) = _HEAD.unpack(_read(pipe, _HEAD.size, until))
    return pickle.loads(_read(pipe, count, until))


def _read(pipe: Any, count: int, until: float) -> bytearray:
    data = bytearray()
    while len(data) < count:
        left = None if until == math.inf else until - time.monotonic()
        if left is not None and (left <= 0 or not select.select([pipe], [], [], left)[0]):
            raise TimeoutError
        part = os.read(pipe.fileno(), min(count - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data


# In the worker.


def _serve() -> None:
    """Answers requests until the run is gone."""
    wire = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    start = _mapped()
    _send(wire, "ready")
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            path, fit, seconds, gigabytes = _receive(source)
            limit_process(seconds, gigabytes, start)
            try:
                pixels = video_io.read_clip(
                    path,
                    lambda timeline: _chosen(wire, source, timeline),
                    functools.partial(_fit, *fit),
                )
            except _Declined:
                _send(wire, (True, None))
            except MemoryError:
                _send(wire, (False, f"needs more than {gigabytes:g} GB to decode"))
            except video_io.UnreadableClip as error:
                _send(wire, (False, str(error)))
            else:
                _send(wire, (True, pixels))


class _Declined(BaseException):
    """The run does not want the clip; no fault of a file."""


def _chosen(wire: Any, source: Any, timeline: video_io.Timeline) -> np.ndarray:
    _send(wire, (True, timeline))
    chosen = _receive(source)
    if chosen is None:
        raise _Declined
    return chosen


def _fit(
    size: tuple[int, int] | None, limits: video_io.FrameLimits, frame: np.ndarray, aspect: float
) -> np.ndarray:
    """Returns a frame that covers `size`, or its own size in square pixels for None."""
    if size is None:
        return np.array([frame.shape[0], frame.shape[1] * aspect])
    limits.check(*frame.shape[:2])
    return covering.resize_cover(frame, *size, pixel_aspect=aspect)


def limit_process(seconds: float, gigabytes: float, mapped: int | None = None) -> None:
    """Gives the process so much more processor time than it has used, and so much more memory.

    Args:
        seconds: Processor time.
        gigabytes: Address space, beside `mapped`.
        mapped: Bytes of address space that do not count; by default those in use.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds))
    mapped = _mapped() if mapped is None else mapped
    if mapped:
        _limit(resource.RLIMIT_AS, mapped + int(gigabytes * 1e9))


def _mapped(process: int | str = "self") -> int:
    """Returns the bytes of a process's address space, or 0 where /proc does not tell."""
    try:
        pages = pathlib.Path(f"/proc/{process}/statm").read_text()
    except OSError:
        return 0
    return int(pages.split()[0]) * resource.getpagesize()


def _limit(kind: int, value: int) -> None:
    """Sets a limit, or the one that the system allows, which is lower."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run
    _serve()
