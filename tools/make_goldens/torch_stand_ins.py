#!/usr/bin/env python3
"""Lets PyPI's CUDA build of torch (installed with --no-deps) run on a machine without CUDA libraries.

For each missing nvidia library that torch's shared objects need it compiles a stand-in with the right
soname and symbol versions, in which every function only returns an error code. CPU work never calls them.
Usage: torch_stand_ins.py            (inside the virtual environment that holds torch)
"""
import collections
import pathlib
import re
import subprocess
import sysconfig
import tempfile

CUDA_ERROR_INSUFFICIENT_DRIVER = 35
PREFIXES = ("libcu", "libnv", "libnccl")
# Preloaded by torch/__init__.py, though no object names them as needed.
ALSO = ["libnvrtc-builtins.so.13", "libnvJitLink.so.13"]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    site = pathlib.Path(sysconfig.get_paths()["purelib"])
    lib = site / "torch" / "lib"
    target = site / "nvidia" / "cu13" / "lib"  # on torch's own RPATH
    target.mkdir(parents=True, exist_ok=True)
    needed, symbols, defined = set(ALSO), collections.defaultdict(set), set()
    versions = collections.defaultdict(set)
    plain = set()
    for path in sorted(lib.glob("*.so*")):
        dynamic = run("readelf", "-dW", str(path))
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
            if name.startswith(PREFIXES):
                needed.add(name)
        owner = None
        for line in run("readelf", "-VW", str(path)).splitlines():
            if match := re.search(r"File: (\S+)", line):
                owner = match[1]
            elif owner and (match := re.search(r"Name: (\S+)\s+Flags", line)):
                versions[owner].add(match[1])
        for line in run("nm", "-D", "--with-symbol-versions", str(path)).splitlines():
            kind, name = line.split()[-2:]
            base, _, version = name.replace("@@", "@").partition("@")
            if kind == "U":
                (symbols[version] if version else plain).add(base)
            elif kind != "w":
                defined.add(base)
    loose = {s for s in plain - defined if re.match(r"_?_?(cu|nv|nccl)", s)}
    for name in sorted(needed):
        if (target / name).exists():
            continue
        source, script = [], []
        own = sorted(versions.get(name, ()))
        for version in own:
            names = sorted(symbols[version])
            source += [f"int {s}(void) {{ return {CUDA_ERROR_INSUFFICIENT_DRIVER}; }}" for s in names]
            script.append(f"{version} {{ global: {' '.join(s + ';' for s in names)} }};")
        if name.startswith("libnvshmem"):  # unversioned symbols: any library will do
            source += [f"int {s}(void) {{ return {CUDA_ERROR_INSUFFICIENT_DRIVER}; }}" for s in sorted(loose)]
        with tempfile.TemporaryDirectory() as scratch:
            c, v = pathlib.Path(scratch, "s.c"), pathlib.Path(scratch, "s.ver")
            c.write_text("\n".join(source) + "\nstatic int unused;\n")
            v.write_text("\n".join(script))
            extra = [f"-Wl,--version-script={v}"] if script else []
            run("gcc", "-shared", "-fPIC", "-fno-builtin", "-w", f"-Wl,-soname,{name}", *extra, "-o", str(target / name), str(c))
        print(f"{name}: {len(source)} functions")


if __name__ == "__main__":
    main()
