"""How long `kvfs get` takes, beside what Python takes to do nothing.

    .venv/bin/python tests/benchmarks/startup.py [ROUNDS]

The commands take turns, so that a busy machine is busy for all of them. The
median and the least of each, in milliseconds of wall-clock and of CPU time.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import kvfs

ROUNDS = 40


def measure(command):
    """Run `command`; return the milliseconds that passed, and those of the CPU."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    passed = time.perf_counter() - began
    assert process.returncode == 0, command
    return passed * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        store = os.path.join(directory, "store")
        with kvfs.open(store) as opened:
            opened.put("key", "value")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import click'": [sys.executable, "-c", "import click"],
            "kvfs get": [sys.executable, "-m", "kvfs", "get", store, "key"],
            "kvfs list": [sys.executable, "-m", "kvfs", "list", store],
            "kvfs stat": [sys.executable, "-m", "kvfs", "stat", store],
        }
        found = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                found[name].append(measure(command))
    print(f"{'':26}{'median':>8}{'least':>8}{'CPU':>8}")
    for name, times in found.items():
        passed, used = zip(*times[1:], strict=True)  # the first may have compiled
        figures = (statistics.median(passed), min(passed), statistics.median(used))
        print(f"{name:26}" + "".join(f"{figure:8.1f}" for figure in figures))


if __name__ == "__main__":
    main()
