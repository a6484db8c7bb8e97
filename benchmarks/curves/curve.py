"""A curve: what was measured at some points, and the floor there."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.plots import line_plot
from benchmarks.report import Row


@dataclass(frozen=True)
class Point:
    """`drawn`: by series; `figures` are for the table alone. Without `drawn` it is only a row."""

    x: float
    drawn: dict[str, float]
    figures: dict[str, float] = field(default_factory=dict)
    name: str = ""
    bar: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Curve:
    """`name` is that of its file; `floor` that of the series nothing can pass, if there is one."""

    name: str
    title: str
    x_label: str
    y_label: str
    points: list[Point]
    floor: str | None = None

    def rows(self) -> list[Row]:
        return [self._row(point) for point in self.points]

    def _row(self, point: Point) -> Row:
        figures: dict[str, float | None] = {
            f"{name}, {self.y_label}": y for name, y in point.drawn.items()
        }
        figures.update(point.figures)
        name = point.name or f"{point.x:,.6g} {self.x_label}"
        return Row(name, figures, point.bar, point.met)

    def draw(self, directory: Path) -> None:
        names = dict.fromkeys(name for point in self.points for name in point.drawn)
        series = {
            name: [(point.x, point.drawn[name]) for point in self.points if name in point.drawn]
            for name in names
        }
        path = directory / f"{self.name}.svg"
        line_plot(path, self.title, self.x_label, self.y_label, series, True, self.floor)


def beside_floor(measured: dict[float, float], floors: dict[float, float]) -> list[Point]:
    """Points of seconds by x, in milliseconds.

    "growth": how much was added since the first point, as a multiple of what the floor added, where
    that added anything.
    """
    first = min(measured)
    points = []
    for x, seconds in measured.items():
        figures = {"of floor": floors[x] / seconds}
        added = floors[x] - floors[first]
        if added > 0.01 * floors[first]:
            figures["growth"] = (seconds - measured[first]) / added
        points.append(Point(x, {"measured": 1000 * seconds, "floor": 1000 * floors[x]}, figures))
    return points
