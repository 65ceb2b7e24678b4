# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A preparation by the workers of an Apache Beam pipeline, in place of processes of commands.

The pipeline gives out videos, and starts again what it has lost. Records, claims and clips are
those of the ordinary run, so that one may go on with what the other has begun.
"""

import itertools
import pathlib
import shlex
from collections.abc import Iterator

from mimir_jax.errors import InputError
from mimir_jax.preparation.footage import processes, runner, store
from mimir_jax.preparation.footage.config import FootageConfig

VIDEOS = 64
"""Videos that a worker gets at once."""


def run(
    root: pathlib.Path,
    out: pathlib.Path,
    config: FootageConfig,
    report: runner.Report,
    options: str,
) -> None:
    """Runs a pipeline for each of the two steps that take time.

    Args:
        root: Folder of raw videos; all workers see it.
        out: Folder of prepared clips; all workers see it.
        config: The preparation.
        report: Called with a step and a video, once its pipeline has ended.
        options: Of the pipelines, as for their command line, such as `--runner=SparkRunner`.

    Raises:
        InputError: without Apache Beam, or with which a worker ended.
    """
    try:
        import apache_beam as beam
    except ImportError:
        raise InputError(
            "--beam_options must have apache-beam, which is not installed; pip install "
            '"mimir-jax[beam]"'
        ) from None
    preparation = runner.Preparation(root, out, config)
    preparation.store.create(config)
    for kind in (store.MEASURED, store.EXPORTED):
        share = preparation.left(kind)
        with beam.Pipeline(argv=shlex.split(options)) as pipeline:
            shares = pipeline | beam.Create(list(_parts(share))) | beam.Reshuffle()
            shares | beam.Map(_work, root, out, config)
        for video in share.kept:
            report(kind, video)


def _parts(share: runner.Share) -> Iterator[runner.Share]:
    videos = iter(share.kept.items())
    while part := dict(itertools.islice(videos, VIDEOS)):
        yield runner.Share(share.kind, part)


def _work(
    share: runner.Share, root: pathlib.Path, out: pathlib.Path, config: FootageConfig
) -> None:
    """Works in a process of its own, which a video may end."""
    processes.run(root, out, config, 1, lambda kind, video: None, share=share)
