"""Compiling the C kernels where something is missing: it works, or it says what does not."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.cpu.build import load_library, supported_isas
from kernels.cpu.ops import CpuKernels
from kernels.reference import ReferenceKernels
from kernels.select import select_kernels

CPU = torch.device("cpu")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run_build(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "kernels.cpu.build", *options]
    return subprocess.run(command, capture_output=True, text=True)


def check_kernels(kernels: object) -> None:
    assert isinstance(kernels, CpuKernels)
    x = torch.randn(3, 40)
    torch.testing.assert_close(kernels.silu_mul(x), ReferenceKernels().silu_mul(x))


def test_a_second_start_compiles_nothing(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_kernels(select_kernels(CPU, torch.float32))
    names = {path.name for path in (empty_cache / "lorikeet" / "kernels").iterdir()}
    best = supported_isas("float32")[-1].name
    assert sorted(name.rsplit("-", 1)[0] for name in names) == [f"float32-{best}", "isa"]
    monkeypatch.setenv("CC", "/does/not/exist")
    check_kernels(select_kernels(CPU, torch.float32))


def test_without_openmp_the_kernels_use_one_thread(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    check_kernels(select_kernels(CPU, torch.float32))


def test_a_home_that_cannot_be_written_to_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    check_kernels(select_kernels(CPU, torch.float32))


def test_what_cannot_be_kept_goes_with_its_process(tmp_path: Path) -> None:
    """As in an image whose user has no home: nothing piles up with every start."""
    subprocess.run(
        [sys.executable, "-c", "import torch, kernels.cpu.build as b; b.load_library('float32')"],
        env={**os.environ, "XDG_CACHE_HOME": "/dev/null", "TMPDIR": str(tmp_path)},
        check=True,
    )
    assert not list(tmp_path.iterdir())


def test_installation_compiles_what_a_start_loads(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = run_build()
    assert compiled.returncode == 0, compiled.stderr
    best = {name: supported_isas(name)[-1].name for name in ("float32", "bfloat16")}
    for element_type, isa in best.items():
        assert f"{element_type} for {isa}" in compiled.stdout
    monkeypatch.setenv("CC", "/does/not/exist")
    check_kernels(select_kernels(CPU, torch.float32))
    assert isinstance(select_kernels(CPU, torch.bfloat16), CpuKernels)


@pytest.mark.parametrize(("options", "status"), [((), 1), (("--if-possible",), 0)])
def test_installation_without_a_compiler_says_so(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], status: int
) -> None:
    monkeypatch.setenv("CC", "/does/not/exist")
    tried = run_build(*options)
    assert tried.returncode == status
    assert "/does/not/exist" in tried.stderr
    assert "at first use" in tried.stderr


def test_what_was_compiled_for_less_runs_where_the_best_cannot_be_compiled(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image built with --every-isa on another machine, say, and moved here."""
    load_library("float32", "portable")
    monkeypatch.setenv("CC", "/does/not/exist")
    check_kernels(select_kernels(CPU, torch.float32))


def test_an_instruction_set_that_is_not_here_is_never_run() -> None:
    with pytest.raises(AssertionError, match="no avx1024"):
        load_library("float32", "avx1024")


def test_without_a_compiler_the_reference_runs_and_says_so(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "/does/not/exist")
    with caplog.at_level(logging.WARNING):
        assert isinstance(select_kernels(CPU, torch.float32), ReferenceKernels)
    assert "slow reference" in caplog.text
    assert "/does/not/exist" in caplog.text
