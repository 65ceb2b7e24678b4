# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A memory of documents, text with an image, and their retrieval by BM25 (VIMI).

documents   what is remembered, and where it comes from
memory      documents on disk: append-only, in shards, with checksums
index       BM25 over a memory
retriever   which document a caption gets
"""
