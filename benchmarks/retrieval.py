# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the building of a memory with its index, and queries, on synthetic captions; or recall.

Words follow Zipf's law over a vocabulary that grows with the documents, as that of captions does;
a caption has 12 words on average. Queries are captions of documents that are not in the memory.
`--bm25s` also times the library of that name, on the same words. `--scenes` measures recall
instead: how often a scene of Toyworld gets one of the same shape.

    python benchmarks/retrieval.py --documents 1000000
    python benchmarks/retrieval.py --scenes 2000
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
from mimir_jax.data.toyworld.source import ToyworldSource  # noqa: E402
from mimir_jax.retrieval import building
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
    watch = Stopwatch()
    memory = memory_lib.create(folder)
    texts = captions(args.documents, size, seed=0)
    documents = (Document(f"d{i}", text, f"images/d{i}.jpg") for i, text in enumerate(texts))
    memory.append(documents, shard_size=args.shard_size)
    watch.report("documents written", args.documents)
    watch = Stopwatch()
    building.build(memory, BM25Config())
    watch.report("documents indexed", args.documents)
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"memory and index: {stored / 2**30:.2f} GiB on disk")
    start = time.perf_counter()
    index = index_lib.Index(memory_lib.open_memory(folder), BM25Config())
    print(f"opened in {time.perf_counter() - start:.2f} s")
    queries = list(captions(args.queries, size, seed=1))
    for query in queries[:20]:
        index.search(words(query), 32)  # pages of the index enter memory
    watch = Stopwatch()
    for query in queries:
        index.search(words(query), 32)
    watch.report("searches for 32 documents", len(queries))
    retriever = Retriever(index, RetrievalConfig())
    watch = Stopwatch()
    for number, query in enumerate(queries):
        retriever.draw(query, number)
    watch.report("draws from the best 10", len(queries))
    if args.bm25s:
        compare(index, queries)


def compare(index: index_lib.Index, queries: list[str]) -> None:
    """Times `bm25s` on the shards of the index, as many documents per query."""
    import bm25s

    shards = sorted(index.memory.folder.glob("index-*/shard-*"))
    opened = [bm25s.BM25.load(shard, mmap=True) for shard in shards]
    watch = Stopwatch()
    for query in queries[:100]:
        tokens = words(query)
        for shard in opened:
            known = [word for word in tokens if word in shard.vocab_dict]
            shard.retrieve([known], k=32, show_progress=False, backend_selection="numpy")
    watch.report("searches of bm25s", len(queries[:100]))


def recall(folder: pathlib.Path, scenes: int, queries: int) -> None:
    """Prints how often the documents of captions show their shape, and how often themselves."""
    source = ToyworldSource("train", caption_style="short", scenery="single")
    names = [f"s{i}" for i in range(scenes)]
    memory = memory_lib.create(folder)
    memory.append(Document(x, source.text(i), source=x) for i, x in enumerate(names))
    retriever = Retriever(building.build(memory, BM25Config()), RetrievalConfig())
    shapes = [source.scene(i).groups[0].shape for i in range(scenes)]
    first, among, itself = 0, 0, 0
    for number in range(queries):
        text = source.text(number)
        found = retriever.rank(text, words(text), 10, exclude=[names[number]])
        right = [shapes[int(document.id[1:])] == shapes[number] for document in found]
        first += right[:1] == [True]
        among += any(right)
        itself += names[number] in [document.id for document in found]
    chance = sum((shapes.count(x) / scenes) ** 2 for x in set(shapes))
    print(
        f"same shape: first {first / queries:.3f}, among ten {among / queries:.3f}, by chance "
        f"{chance:.3f}; itself {itself} of {queries}"
    )


class Stopwatch:
    """Time and time on a core, which differ where other programs run beside this one."""

    def __init__(self):
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def report(self, what: str, count: int) -> None:
        """Prints the rates since the start."""
        seconds = time.perf_counter() - self._start
        core = time.process_time() - self._cpu
        print(
            f"{what}: {count} in {seconds:.1f} s, {count / seconds:.0f} per second, "
            f"{count / core:.0f} per second of a core, peak {peak()}",
            flush=True,
        )


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--shard_size", type=int, default=memory_lib.SHARD_SIZE)
    parser.add_argument("--scenes", type=int, default=0, help="measure recall on so many scenes")
    parser.add_argument("--bm25s", action="store_true", help="also time bm25s")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        if args.scenes:
            recall(folder / "memory", args.scenes, min(args.queries, args.scenes))
        else:
            measure(folder / "memory", args)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
