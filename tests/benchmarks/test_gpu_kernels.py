"""The GPU benchmark runs, tiny and interpreted; its figures mean nothing here."""

import json

import pytest
import typer

from benchmarks.gpu_kernels import main


def test_smoke(capsys: pytest.CaptureFixture[str]) -> None:
    main(smoke=True, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["device"] == "no GPU: interpreted"
    assert [(case["ranks"], case["batch"]) for case in report["cases"]] == [
        ("16", 1),
        ("16", 3),
        ("8-64", 3),
    ]
    assert all(case["microseconds"] > 0 for case in report["cases"])
    main(smoke=True)
    assert "gather" in capsys.readouterr().out


def test_without_a_gpu_nothing_is_measured() -> None:
    with pytest.raises(typer.BadParameter, match="no GPU"):
        main()
