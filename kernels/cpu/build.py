"""Compiles the C kernels, at installation or at first use, and keeps them by their digest.

    python -m kernels.cpu.build [--every-isa] [--if-possible]

compiles what this machine will use; with --every-isa also what another machine may, as when an
image is built. There is one library for each element type and instruction set, in
$XDG_CACHE_HOME/lorikeet/kernels (~/.cache by default): run this as the user who is to serve. A
missing compiler is an error; with --if-possible it is said, and no error.
"""

import argparse
import atexit
import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kernels.cpu.isa import AMX_BIT, Isa, known_isas

logger = logging.getLogger(__name__)

ELEMENT_TYPES = ("float32", "bfloat16")
_FLAGS = ("-O3", "-std=c11", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast")
_VECTORISED = ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
# Where the compiler may choose the order of a sum. Elsewhere the order is the source's, so that a
# row's result is the same to the bit whatever rows are worked on beside it.
_REORDERED = ("-fassociative-math",)
_SOURCES = {
    "lora.c": (),
    "adapted_gemm.c": (),
    "gemm.c": (),
    "attention.c": (),
    "kv_cache.c": _REORDERED,
    "elementwise.c": (),
}
_PROBE = {"isa.c": ()}
_OPENMP = "-fopenmp"
_HERE = Path(__file__).parent


class CompilerMissingError(RuntimeError):
    """No C compiler works here; the caller falls back to the reference kernels and says so."""


def load_library(element_type: str, isa: str | None = None) -> ctypes.CDLL:
    """The kernels for "float32" or "bfloat16", compiled now if they are not in the cache.

    `isa` names one of `supported_isas`, None means the best of them. Where it cannot be compiled
    the best that was compiled before does. torch must be imported before: the libraries share its
    OpenMP runtime and its thread pool. Raises CompilerMissingError.
    """
    isas = supported_isas(element_type)
    if isa is not None:
        isas = tuple(known for known in isas if known.name == isa)
        assert isas, f"this processor has no {isa}"
    problem: CompilerMissingError | None = None
    for candidate in reversed(isas):
        try:
            return ctypes.CDLL(str(_kernels(element_type, candidate)))
        except CompilerMissingError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def supported_isas(element_type: str) -> tuple[Isa, ...]:
    """What of `known_isas` this processor can run. Raises CompilerMissingError."""
    bits = _processor_bits()
    return tuple(isa for isa in known_isas(element_type) if isa.bit & bits == isa.bit)


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bfloat16. Raises CompilerMissingError."""
    return bool(_processor_bits() & AMX_BIT)


def _processor_bits() -> int:
    probe = ctypes.CDLL(str(_library("isa", _PROBE, ())))
    probe.supported_isas.restype = ctypes.c_int32
    bits: int = probe.supported_isas()
    return bits


def build(every_isa: bool) -> list[str]:
    """Compiles what this machine will load; the names. Raises CompilerMissingError."""
    isas_of = known_isas if every_isa else lambda element_type: supported_isas(element_type)[-1:]
    isas = [(element_type, isa) for element_type in ELEMENT_TYPES for isa in isas_of(element_type)]
    for element_type, isa in isas:
        _kernels(element_type, isa)
    return [f"{element_type} for {isa.name}" for element_type, isa in isas]


def _kernels(element_type: str, isa: Isa) -> Path:
    element = ("-DLORIKEET_BF16",) if element_type == "bfloat16" else ()
    return _library(f"{element_type}-{isa.name}", _SOURCES, (*isa.flags, *element))


def _library(name: str, sources: dict[str, tuple[str, ...]], flags: tuple[str, ...]) -> Path:
    file_name = f"{name}-{_digest(sources, flags)}.so"
    kept = _kept_directory() / file_name
    if kept.exists():  # also where it may not be written, as in an image
        return kept
    library = _cache_directory() / file_name
    if not library.exists():
        _compile(sources, flags, library)
    return library


def _kept_directory() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lorikeet" / "kernels"


def _cache_directory() -> Path:
    directory = _kept_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(directory, os.W_OK):
            return directory
    except OSError as error:
        logger.warning("cannot keep compiled kernels: %s", error)
    return _private_directory()


@functools.cache
def _private_directory() -> Path:
    """This process's own, so that nobody else can put a library there; gone when it ends."""
    directory = tempfile.mkdtemp(prefix="lorikeet-kernels-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def _digest(sources: dict[str, tuple[str, ...]], flags: tuple[str, ...]) -> str:
    described = (*_FLAGS, *_VECTORISED, *flags, *(f"{name} {sources[name]}" for name in sources))
    digest = hashlib.sha256(" ".join(described).encode())
    for path in (*sorted(_HERE.glob("*.h")), *(_HERE / name for name in sources)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(sources: dict[str, tuple[str, ...]], flags: tuple[str, ...], library: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompilerMissingError("no C compiler found: install gcc or set CC")
    logger.info("compiling CPU kernels into %s", library)
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        commands = _commands(compiler, sources, flags, Path(directory))
        if _run(commands, _OPENMP) is not None:
            logger.warning("%s has no OpenMP: the kernels will use one thread", compiler)
            if (problem := _run(commands)) is not None:
                raise CompilerMissingError(problem)
        # Atomic: another process may be doing the same.
        (Path(directory) / "kernels.so").replace(library)


def _commands(
    compiler: str, sources: dict[str, tuple[str, ...]], flags: tuple[str, ...], directory: Path
) -> list[list[str]]:
    """One command for each source, then the one that links."""
    objects = [str(directory / f"{name}.o") for name in sources]
    common = [compiler, *_FLAGS, *_VECTORISED, *flags]
    commands = [
        [*common, *own, "-c", str(_HERE / name), "-o", output]
        for (name, own), output in zip(sources.items(), objects, strict=True)
    ]
    return [*commands, [compiler, "-shared", *objects, "-o", f"{directory}/kernels.so", "-lm"]]


def _run(commands: list[list[str]], *flags: str) -> str | None:
    """What the first command that failed said; None when all succeeded."""
    for command in commands:
        try:
            result = subprocess.run([*command, *flags], capture_output=True, text=True)
        except OSError as error:
            return f"{' '.join(command)} failed:\n{error}"
        if result.returncode:
            return f"{' '.join(command)} failed:\n{result.stderr}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m kernels.cpu.build")
    parser.add_argument("--every-isa", action="store_true", help="not only what this machine has")
    parser.add_argument("--if-possible", action="store_true", help="without a compiler, succeed")
    arguments = parser.parse_args()
    try:
        print("CPU kernels compiled:", ", ".join(build(arguments.every_isa)))
    except CompilerMissingError as error:
        print(f"CPU kernels not compiled: {error}", file=sys.stderr)
        print("They will be at first use, if there is a compiler then.", file=sys.stderr)
        sys.exit(0 if arguments.if_possible else 1)


if __name__ == "__main__":
    main()
