# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the building of a memory with its index, and queries, on synthetic captions.

Words follow Zipf's law over a vocabulary that grows with the documents, as that of captions does;
a caption has 12 words on average. Queries are captions of documents that are not in the memory.
`--bm25s` also times the library of that name, on the same words.

python benchmarks/retrieval.py --documents 1000000
"""

import argparse
import pathlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mimir_jax.config import BM25Config, RetrievalConfig  # noqa: E402
from mimir_jax.retrieval import index as index_lib  # noqa: E402
from mimir_jax.retrieval import memory as memory_lib  # noqa: E402
from mimir_jax.retrieval.documents import Document, words  # noqa: E402
from mimir_jax.retrieval.retriever import Retriever  # noqa: E402


def captions(count: int, vocabulary: int, seed: int) -> Iterator[str]:
    """Yields random captions, drawn in groups."""
    rng = np.random.default_rng(seed)
    odds = 1 / np.arange(1, vocabulary + 1)
    steps = np.cumsum(odds / odds.sum())
    for begin in range(0, count, 10_000):
        lengths = rng.integers(4, 21, min(10_000, count - begin))
        numbers = np.searchsorted(steps, rng.random(lengths.sum()))
        for part in np.split(numbers, np.cumsum(lengths)[:-1]):
            yield " ".join([f"w{x}" for x in part.tolist()])


def peak() -> str:
    """Returns the peak memory of this process."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def measure(folder: pathlib.Path, args: argparse.Namespace) -> None:
    """Builds, opens again and queries; prints every number."""
    size = 20_000 + args.documents // 10
    start = time.perf_counter()
    memory = memory_lib.create(folder)
    texts = captions(args.documents, size, seed=0)
    documents = (Document(f"d{i}", text, f"images/d{i}.jpg") for i, text in enumerate(texts))
    memory.append(documents, shard_size=args.shard_size)
    report("documents written", args.documents, time.perf_counter() - start)
    start = time.perf_counter()
    index_lib.build(memory, BM25Config())
    report("documents indexed", args.documents, time.perf_counter() - start)
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"memory and index: {stored / 2**30:.2f} GiB on disk")
    start = time.perf_counter()
    index = index_lib.Index(memory_lib.open_memory(folder), BM25Config())
    print(f"opened in {time.perf_counter() - start:.2f} s")
    queries = list(captions(args.queries, size, seed=1))
    for query in queries[:20]:
        index.search(words(query), 32)  # pages of the index enter memory
    start = time.perf_counter()
    for query in queries:
        index.search(words(query), 32)
    report("searches for 32 documents", len(queries), time.perf_counter() - start)
    retriever = Retriever(index, RetrievalConfig())
    start = time.perf_counter()
    for number, query in enumerate(queries):
        retriever.draw(query, number)
    report("draws from the best 10", len(queries), time.perf_counter() - start)
    if args.bm25s:
        compare(index, queries)


def compare(index: index_lib.Index, queries: list[str]) -> None:
    """Times `bm25s` on the shards of the index, as many documents per query."""
    import bm25s

    shards = sorted(index.memory.folder.glob("index-*/shard-*"))
    opened = [bm25s.BM25.load(shard, mmap=True) for shard in shards]
    start = time.perf_counter()
    for query in queries[:100]:
        tokens = words(query)
        for shard in opened:
            known = [word for word in tokens if word in shard.vocab_dict]
            shard.retrieve([known], k=32, show_progress=False, backend_selection="numpy")
    report("searches of bm25s", len(queries[:100]), time.perf_counter() - start)


def report(what: str, count: int, seconds: float) -> None:
    """Prints a rate."""
    print(
        f"{what}: {count} in {seconds:.1f} s, {count / seconds:.0f} per second, peak {peak()}",
        flush=True,
    )


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--shard_size", type=int, default=memory_lib.SHARD_SIZE)
    parser.add_argument("--bm25s", action="store_true", help="also time bm25s")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        measure(folder / "memory", args)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
