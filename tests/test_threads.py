import subprocess
import sys

import pytest

from mimir_jax import threads

ENDLESS = """
import threading
from mimir_jax import threads
threads.submit(threading.Event().wait)
print("told", end="")
threads.leave("error: no such folder")
"""


def test_a_command_ends_with_its_line_while_a_thread_works_on():
    done = subprocess.run([sys.executable, "-c", ENDLESS], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "told", "error: no such folder\n")


def test_without_such_a_thread_it_ends_as_usual():
    with pytest.raises(SystemExit, match="error: no such folder"):
        threads.leave("error: no such folder")


def test_what_work_raises_reaches_who_asks_for_its_result():
    def work():
        raise ValueError("not finite")

    with pytest.raises(ValueError, match="not finite"):
        threads.submit(work).result()
