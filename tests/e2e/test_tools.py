"""What the Docker image is made of: the bundle runs from its own libraries, and is small."""

import os
import pathlib
import subprocess

from conftest import BIN

ROOT = pathlib.Path(__file__).parents[2]
SYSTEM = ("linux-vdso", "ld-linux", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libresolv.so")


def test_the_bundle_needs_nothing_but_glibc_and_is_small(tmp_path):
    out = tmp_path / "out"
    subprocess.run([ROOT / "tools" / "bundle", BIN, out], check=True, capture_output=True)
    for name in ["pelton-server", "pelton", "pelton-bench"]:
        program = out / "bin" / name
        assert subprocess.run([program, "--help"], capture_output=True, env={}).returncode == 0
        needed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for line in needed.splitlines():
            if "=>" in line and not line.strip().startswith(SYSTEM):
                assert str(out) in line, line
    assert os.path.getsize(out / "bin" / "pelton-server") <= 60 << 20
    assert any((out / "licenses").iterdir())


def test_set_up_has_nothing_left_to_do_on_a_machine_that_builds():
    answer = subprocess.run([ROOT / "tools" / "setup"], capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0
    assert "nothing to install" in answer.stdout


def test_set_up_without_the_right_to_install_lists_what_is_missing(tmp_path):
    for name, text in {
        "dpkg-query": "exit 1",  # nothing is installed
        "id": "echo 1000",
        "sudo": "exit 1",
        "apt-get": "echo must not be called >&2; exit 99",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    answer = subprocess.run([ROOT / "tools" / "setup"], capture_output=True, text=True, env=env, timeout=60)
    assert answer.returncode == 3
    assert "libgrpc++-dev" in answer.stderr and "apt-get install" in answer.stderr
    assert "must not be called" not in answer.stderr
