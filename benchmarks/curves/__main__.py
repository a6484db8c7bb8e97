"""How cost grows with one thing at a time, each curve beside its floor.

    python -m benchmarks.curves NAME…|all [--layers 4] [--rounds 3] [--plots docs/plots] [--json]

"of floor" is the part of a measured time that bytes and arithmetic take at this machine's own
rates; "growth" how much was added since the first point, as a multiple of what the floor added.
Points take turns, so that what else the machine does falls on all of them; figures are medians of
rounds after one of warm-up.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.curves import concurrency, context, distinct, known, ranks, registered
from benchmarks.curves.curve import Curve
from benchmarks.curves.floor import Floor
from benchmarks.curves.setting import Setting
from benchmarks.options import AsJson, Layers
from benchmarks.report import Machine, Report, publish

_FAMILIES: dict[str, Callable[[Setting], list[Curve]]] = {
    "registered": registered.measure,
    "registered-all": registered.measure_all_modules,
    "ranks": ranks.measure,
    "distinct": distinct.measure,
    "context": context.measure,
    "concurrency": concurrency.measure,
    "known": known.measure,
}


def main(
    names: Annotated[list[str], typer.Argument(help=f"all, or of {', '.join(_FAMILIES)}.")],
    layers: Layers = 4,
    rounds: int = 3,
    plots: Annotated[Path | None, typer.Option(help="Where to write SVG files.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write JSON files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures curves, one family after the other."""
    chosen = list(_FAMILIES) if names == ["all"] else names
    if unknown := set(chosen) - _FAMILIES.keys():
        raise typer.BadParameter(f"no curve is named {', '.join(sorted(unknown))}")
    machine = Machine.measure()
    with tempfile.TemporaryDirectory() as root:
        for name in chosen:
            setting = Setting(Path(root), layers, rounds, Floor())
            for curve in _FAMILIES[name](setting):
                title = f"{curve.title} ({layers} layers; floor: {setting.floor})"
                path = output / f"{curve.name}.json" if output else None
                publish(Report(title, machine, curve.rows()), as_json, path)
                if plots is not None:
                    curve.draw(plots)


if __name__ == "__main__":
    typer.run(main)
