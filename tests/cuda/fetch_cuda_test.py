"""tools/fetch_cuda takes what is there and fetches only where there is nothing.

    fetch_cuda_test.py SOURCE

No network: pip is not to be reached. Standard library only.
"""

import os
import subprocess
import sys
import tempfile

SOURCE = sys.argv[1]


def toolkit(root, version):
    os.makedirs(f"{root}/include")
    os.makedirs(f"{root}/bin")
    open(f"{root}/include/cuda_runtime.h", "w").close()
    with open(f"{root}/include/cuda.h", "w") as file:
        file.write(f"#define CUDA_VERSION {version}\n")
    with open(f"{root}/bin/nvcc", "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod(f"{root}/bin/nvcc", 0o755)


with tempfile.TemporaryDirectory() as folder:
    os.makedirs(folder + "/bin")
    with open(folder + "/bin/python3", "w") as file:
        file.write("#!/bin/sh\necho no network >&2\nexit 1\n")
    os.chmod(folder + "/bin/python3", 0o755)

    def fetch(**environment):
        kept = {k: v for k, v in os.environ.items() if k not in ("PELTON_CUDA_ROOT", "CUDA_HOME")}
        done = subprocess.run(
            [SOURCE + "/tools/fetch_cuda"], capture_output=True, text=True,
            env={**kept, "PATH": folder + "/bin:" + os.environ["PATH"],
                 "XDG_CACHE_HOME": folder + "/cache", **environment})
        return done.returncode, done.stdout.strip()

    for version in (12060, 12080, 13000):
        toolkit(f"{folder}/{version}", version)
    assert fetch(CUDA_HOME=folder + "/12080") == (0, folder + "/12080")
    assert fetch(CUDA_HOME=folder + "/13000") == (0, folder + "/13000")
    assert fetch(PELTON_CUDA_ROOT=folder + "/12060") == (0, folder + "/12060")  # as it is
    assert fetch(PELTON_CUDA_ROOT=folder + "/none")[0] == 1
    if not os.path.exists("/usr/local/cuda"):
        assert fetch(CUDA_HOME=folder + "/12060")[0] != 0  # too old: fetched, were there a network
        assert fetch()[0] != 0
        assert os.listdir(folder + "/cache/pelton") == [".cuda-13.0.lock"]
    toolkit(folder + "/cache/pelton/cuda-13.0", 13000)
    assert fetch(CUDA_HOME=folder + "/13000") == (0, folder + "/cache/pelton/cuda-13.0")
print("passed")
