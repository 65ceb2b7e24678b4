# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Libraries that commands do without."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from mimir_jax import libraries
libraries.leave_out_torch()
libraries.transformers().AutoTokenizer
assert "torch" not in sys.modules
import torch
"""


@pytest.mark.torch
def test_tokenizers_need_no_torch_which_can_still_be_imported():
    pytest.importorskip("torch")
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
