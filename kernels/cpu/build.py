"""Compiles the C kernels at first use and keeps the libraries by the digest of their sources."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

_SOURCES = ("lora.c", "kv_cache.c", "attention.c", "elementwise.c")
_HEADERS = ("common.h", "lanes.h", "kv_cache.h")
_FLAGS = (
    *("-O3", "-std=c11", "-shared", "-fPIC", "-fvisibility=hidden"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    "-ffp-contract=fast",  # fused multiply-add, which -std=c11 would turn off
    *(("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()),
)
_OPENMP = "-fopenmp"
_HERE = Path(__file__).parent


class CompilerMissingError(RuntimeError):
    """No C compiler works here; the caller falls back to the reference kernels and says so."""


def load_library(element_type: str) -> ctypes.CDLL:
    """The kernels for "float32" or "bfloat16", compiled now if they are not in the cache.

    torch must be imported before: the libraries share its OpenMP runtime and its thread pool.
    """
    flags = [*_FLAGS, *(["-DLORIKEET_BF16"] if element_type == "bfloat16" else [])]
    library = _cache_directory() / f"{element_type}-{_digest(flags)}.so"
    if not library.exists():
        _compile(flags, library)
    return ctypes.CDLL(str(library))


def _cache_directory() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(root) / "lorikeet" / "kernels"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(directory, os.W_OK):
            return directory
    except OSError as error:
        logger.warning("cannot keep compiled kernels: %s", error)
    # Private, so that nobody else can put a library there; compiled again at each start.
    return Path(tempfile.mkdtemp(prefix="lorikeet-kernels-"))


def _digest(flags: list[str]) -> str:
    digest = hashlib.sha256(" ".join(flags).encode())
    for name in (*_HEADERS, *_SOURCES):
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def _compile(flags: list[str], library: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompilerMissingError("no C compiler found: install gcc or set CC")
    logger.info("compiling CPU kernels into %s", library)
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        output = Path(directory) / "kernels.so"
        sources = [str(_HERE / name) for name in _SOURCES]
        command = [compiler, *flags, *sources, "-o", str(output), "-lm"]
        if _run([*command, _OPENMP]) is not None:
            logger.warning("%s has no OpenMP: the kernels will use one thread", compiler)
            if (problem := _run(command)) is not None:
                raise CompilerMissingError(f"{' '.join(command)} failed:\n{problem}")
        output.replace(library)  # atomic: another process may be doing the same


def _run(command: list[str]) -> str | None:
    """What a failed command said; None when it succeeded."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return result.stderr if result.returncode else None
