# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The exact judge of Toyworld clips.

`recognition.observe` turns a clip into an `observation.Observation`: `frames` prepares the pixels,
`segmentation` finds foreground blobs, `tracks` follows them, `templates` names their shapes,
`actions`, `camera` and `background` read what happens. `scoring` compares the observation with the
scene graph of a prompt, in the categories that `prompt_coverage` finds in the prompt.
"""
