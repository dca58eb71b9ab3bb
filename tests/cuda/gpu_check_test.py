"""tools/gpu_check under the emulator: every part runs and leaves its rows, whatever the others do.

    gpu_check_test.py SOURCE BUILD

A compute-sanitizer of our own stands in PATH: it says how it was called and runs the program, finds
something, or hangs. Standard library only.
"""

import json
import os
import subprocess
import sys
import tempfile

SOURCE, BUILD = sys.argv[1], sys.argv[2]
BINARY = os.path.join(BUILD, "gpu_check", "bin", "gpu_check")
FAKE = """#!/usr/bin/env bash
echo "$*" >> "$FAKE_LOG"
echo "========= COMPUTE-SANITIZER"
case "$FAKE_DOES" in
  find) echo "========= Invalid __global__ read of size 4 bytes"; exit 9 ;;
  hang) echo "0.012 s: a test that ended"; sleep 60 ;;
esac
while [[ $1 != */cuda_kernels_test ]]; do shift; done
"$@" || exit
echo "========= ERROR SUMMARY: 0 errors"
"""


def report(folder):
    with open(os.path.join(folder, "report.json")) as file:
        return {part["part"]: part for part in json.load(file)}


def run(command, folder, does="run", path=None, **environment):
    path = path or folder + ":" + os.environ["PATH"]
    return subprocess.run(
        command, capture_output=True, text=True,
        env={**os.environ, "PATH": path, "FAKE_DOES": does, "FAKE_LOG": folder + "/calls",
             "PELTON_GPU_CHECK_OUTPUT": folder, **environment})


def sanitizer(folder, does, *flags, **more):
    done = run([BINARY, "--only", "sanitizer", "--output", folder, *flags], folder, does, **more)
    part = report(folder)["sanitizer"]
    return done.returncode, part, {row["name"]: row for row in part["rows"]}


with tempfile.TemporaryDirectory() as folder:
    fake = os.path.join(folder, "compute-sanitizer")
    with open(fake, "w") as file:
        file.write(FAKE)
    os.chmod(fake, 0o755)

    script = os.path.join(SOURCE, "tools", "gpu_check")
    small = run([script, "--emulated", BUILD], folder, PELTON_GPU_CHECK_MOST_BYTES="1000")
    assert small.returncode == 1 and "more than 1000" in small.stderr, small.stderr

    done = run([script, "--emulated", BUILD], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = report(folder)
    assert list(parts) == ["card", "kernel tests", "backend tests", "kernel times", "models",
                           "sanitizer"], list(parts)
    assert all(part["status"] == "passed" for part in parts.values()), parts
    assert sum(part["limit_seconds"] for part in parts.values()) <= 480
    names = [f"{part}: {row['name']}" for part, of in parts.items() for row in of["rows"]]
    for wanted in ("card: copy bandwidth", "card: read bandwidth",
                   "card: bf16 matrix rate by mma.sync", "card: bf16 matrix rate by cuBLASLt",
                   "card: an empty kernel in a graph",
                   "kernel times: attention decode", "kernel times: attention of an encoder",
                   "kernel times: embedding", "kernel times: copy of", "kernel times: sampling",
                   "sanitizer: memcheck", "sanitizer: racecheck",
                   *(f"kernel times: linear {kind} " for kind in (
                       "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k",
                       "fp8", "int4")),
                   *(f"models: tiny {kind}{what}" for kind in (
                       "bf16", "fp8", "int4", "bf16, cuBLASLt") for what in (
                       ": start-up", ": prefill 8, batch 1", ": decode 4, batch 1",
                       ": decode 4, batch 2", ": idle between steps, decode 4, batch 1"))):
        assert any(name.startswith(wanted) for name in names), (wanted, names)
    with open(os.path.join(folder, "report.md")) as file:
        table = file.read().splitlines()
    assert all(line.startswith("|") for line in table), "one table"
    assert len(table) == 2 + len(parts) + len(names)
    with open(folder + "/calls") as file:
        calls = file.read().splitlines()
    assert [call.split()[1] for call in calls] == ["memcheck", "racecheck"], calls
    assert all("--error-exitcode 9" in call and "cuda_kernels_test" in call for call in calls)

    code, part, rows = sanitizer(folder, "find")
    assert code == 1 and part["status"] == "failed", part
    assert not rows["memcheck"]["ok"] and not rows["racecheck"]["ok"], rows

    code, part, rows = sanitizer(folder, "hang", "--time-scale", "0.05")
    assert code == 0 and len(rows) == 2, part  # cut off, each at its own share; nothing found
    assert all("were over after 1 tests" in row["note"] for row in rows.values()), rows

    code, part, rows = sanitizer(folder, "run", path="/nowhere", CUDA_HOME="", CUDA_PATH="")
    if not os.path.exists("/usr/local/cuda") and not os.path.exists("/opt/cuda"):
        assert code == 0 and "not there" in rows["compute-sanitizer"]["note"], part

# It is carried to machines that have nothing of ours.
libraries = " ".join(os.listdir(os.path.join(BUILD, "gpu_check", "lib")))
assert not any(word in libraries for word in ("grpc", "protobuf", "boost")), libraries
print("passed")
