"""The daemon keeps little memory that nothing uses."""

import ctypes
import os
import subprocess
import sys

import pytest

GLIBC = hasattr(ctypes.CDLL(None), "malloc_trim")
pytestmark = pytest.mark.skipif(not GLIBC, reason="needs glibc")

TRIM = """
import os
from promad.detection.freed_memory import return_freed_memory

def measure():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

blocks = [bytes(2000) for _ in range(20_000)]
last = bytes(2000)
del blocks
before = measure()
return_freed_memory()
print(before - measure())
"""

ARENAS = """
import ctypes, threading
from promad.detection.freed_memory import use_one_arena

use_one_arena()
ready = threading.Barrier(4)

def allocate():
    block = bytes(5000)
    ready.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def run(script: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_what_was_freed_goes_back_to_the_system():
    assert float(run(TRIM)) > 20.0


def test_all_threads_share_an_arena():
    assert run(ARENAS).count("<heap nr=") == 1


def test_the_environment_may_ask_for_more_arenas():
    assert run(ARENAS, MALLOC_ARENA_MAX="8").count("<heap nr=") > 1


COMMAND = """
import sys
{first}
from promad.cli import main
sys.argv = ["promad", "--version"]
try:
    main()
except SystemExit as end:
    assert not end.code
import promad.stages.detect
print({then})
"""


@pytest.mark.parametrize(
    ("first", "then", "printed"),
    [
        ("", "'rich' in sys.modules", "False"),
        ("", "__import__('rich.progress').__name__", "rich"),
        ("import rich", "'rich' in sys.modules", "True"),
    ],
    ids=["not loaded", "can be loaded later", "loaded before"],
)
def test_what_colours_lines_is_only_loaded_where_it_is_used(first, then, printed):
    assert run(COMMAND.format(first=first, then=then)).split()[-1] == printed
