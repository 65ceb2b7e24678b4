# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the retrieval of documents (VIMI, arXiv 2407.06304)."""

import dataclasses

from mimir_jax.config import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class BM25Config:
    """Constants of BM25 (V-U4). Lucene's own are 0.9 and 0.4.

    Attributes:
        k1: Where further occurrences of a word in a document stop counting.
        b: How much longer documents are discounted, 0 to 1.
    """

    k1: float = 1.5
    b: float = 0.75

    def __post_init__(self):
        checks.within(self, "k1", 0)
        checks.within(self, "b", 0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Which document a caption gets (V-U3, V-U5).

    Attributes:
        top: Documents from which training draws one; sampling takes the first.
        drop_words: Share of the words of a query that training leaves out.
        near_duplicate: Share of its own relevance from which a text counts as a near-duplicate of
            the query, or of a document that is already taken; neither is taken.
    """

    top: int = 10
    drop_words: float = 0.2
    near_duplicate: float = 0.9

    def __post_init__(self):
        checks.within(self, "top", 1)
        checks.within(self, "drop_words", 0, 1, below=True)
        checks.within(self, "near_duplicate", 0, 1, above=True)
