# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which document a caption gets (VIMI; the policy of arXiv 2309.02591).

The query is the caption. Never taken are documents of the caption's own record, those of the same
text, near-duplicates of the caption, and near-duplicates of a document that is already taken. While
training, a share of the query's words is left out and one of the best documents is drawn; sampling
takes the first.
"""

from collections.abc import Collection

import numpy as np

from mimir_jax import hashing
from mimir_jax.errors import InputError
from mimir_jax.retrieval.config import RetrievalConfig
from mimir_jax.retrieval.documents import Document, words
from mimir_jax.retrieval.index import Index

_TRIES = 100  # documents drawn before it is certain that there is no other


class Retriever:
    """A policy over an index.

    Args:
        index: The index.
        config: The policy.
        seed: Names the draws of training.
    """

    def __init__(self, index: Index, config: RetrievalConfig, *, seed: int = 0):
        self.index, self.config, self._seed = index, config, seed

    def first(self, caption: str, *, exclude: Collection[str] = ()) -> Document | None:
        """Returns the best document for a caption; None where no other shares a word with it.

        Args:
            caption: The caption.
            exclude: Ids and sources of documents never to return, that of the caption's record.

        Raises:
            InputError: if the memory holds nothing but the query itself.
        """
        found = self.rank(caption, words(caption), 1, exclude=exclude)
        return found[0] if found else None

    def draw(self, caption: str, number: int, *, exclude: Collection[str] = ()) -> Document | None:
        """Returns one of the best documents, as training reads them; see `first`.

        Args:
            caption: The caption.
            number: Number of the draw, such as the step: equal ones give equal documents.
            exclude: As in `first`.
        """
        digest = hashing.content_key("retrieval", caption, str(self._seed), str(number))
        rng = np.random.default_rng(list(digest))
        query = words(caption)
        kept = rng.random(len(query)) >= self.config.drop_words
        chosen = [word for word, keep in zip(query, kept, strict=True) if keep] or query
        found = self.rank(caption, chosen, self.config.top, exclude=exclude)
        return found[rng.integers(len(found))] if found else None

    def draw_any(self, caption: str, number: int = 0, *, exclude: Collection[str] = ()) -> Document:
        """Returns a document at random, whatever the caption; never its own.

        Args:
            caption: The caption.
            number: As in `draw`.
            exclude: As in `first`.

        Raises:
            InputError: as `first`.
        """
        digest = hashing.content_key("any document", caption, str(self._seed), str(number))
        rng, memory = np.random.default_rng(list(digest)), self.index.memory
        own, excluded = words(caption), set(exclude)
        for place in rng.integers(len(memory), size=_TRIES).tolist():
            document = memory[place]
            if words(document.text) != own and not {document.id, document.source} & excluded:
                return document
        raise self._nothing_else(caption)

    def rank(
        self, caption: str, query: list[str], count: int, *, exclude: Collection[str] = ()
    ) -> list[Document]:
        """Returns the best documents that may be taken, best first.

        Args:
            caption: The caption, which no document may repeat.
            query: Its words, or some of them.
            count: How many documents.
            exclude: As in `first`.
        """
        own, memory = words(caption), self.index.memory
        itself = self.index.relevance(own, own)
        depth = max(32, 4 * count)
        while True:
            hits = self.index.search(query, depth)
            taken: list[Document] = []
            texts: list[list[str]] = []
            repeats = 0
            for number in hits.numbers.tolist():
                document = memory[number]
                text = words(document.text)
                if text == own or {document.id, document.source} & set(exclude):
                    repeats += 1
                elif not self._alike(own, text, itself) and not any(
                    self._alike(other, text) for other in texts
                ):
                    taken.append(document)
                    texts.append(text)
                if len(taken) == count:
                    return taken
            if len(hits.numbers) < depth:
                break
            depth *= 4
        if repeats == len(memory):
            raise self._nothing_else(caption)
        return taken

    def _nothing_else(self, caption: str) -> InputError:
        memory = self.index.memory
        return InputError(
            f"memory {memory.folder} must hold a document besides the query itself, got "
            f"{len(memory)} of it: {caption[:80]!r}; append others, or go without retrieval"
        )

    def _alike(self, query: list[str], text: list[str], itself: float | None = None) -> bool:
        """Whether a text is almost as relevant to `query` as `query` itself."""
        if itself is None:
            itself = self.index.relevance(query, query)
        return self.index.relevance(query, text) >= self.config.near_duplicate * itself
