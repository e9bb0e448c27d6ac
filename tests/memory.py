"""How much memory a few lines of Python need at most, measured in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest


_PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
"""


def peak_memory(imports: str, work: str) -> int:
    """Bytes that `work` needs at its peak above what `imports` needed; skips the test on systems other than Linux."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc, which this system lacks")
    script = f"{_PEAK}\n{imports}\nbefore = peak()\n{work}\nprint(peak() - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])
