# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Networks of a user's folder that turn frames, clips and texts into features.

A folder holds a CLIP or a vision transformer that `mimir_jax.load` opens, or `extractor.json`
beside an ONNX file; see `encoders.onnx_file`.
"""
