"""docs/gpu/kernels.md is what the kernels are counted to move.

    traffic_table_test.py SOURCE TRACED_TEST

Standard library only.
"""

import subprocess
import sys

SOURCE, TRACED = sys.argv[1], sys.argv[2]


def rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


counted = rows(subprocess.run([TRACED, "[.table]"], capture_output=True, text=True).stdout)
with open(SOURCE + "/docs/gpu/kernels.md") as file:
    written = rows(file.read())
assert len(counted) > 20, counted
for line in counted:
    assert line in written, f"counted, and not on the page (tools/gpu_tables writes it):\n{line}"
for line in written:
    assert line in counted, f"on the page, and not counted:\n{line}"
print("passed")
