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
