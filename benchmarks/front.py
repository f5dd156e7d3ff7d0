#!/usr/bin/env python3
"""The front of accuracy and speed: every form of every bundle and the peers, as measured together by ``peers/run.py``.

    benchmarks/front.py benchmarks/results/peers-*.json --output benchmarks/results/

Writes ``front-<processor>-<CPU class>.png`` and ``.md``. Files of one processor and class make one picture; a row that
is in two of them counts as in the last one. A point is a row whose accuracy was measured in that run. Peers whose
weights are random have a speed and no accuracy: they are vertical lines. On the front lies what nothing faster equals.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rounds import markdown, result_name

from fer_deploy.system.figures import new_figure
from fer_deploy.system.files import written_whole

Row = dict[str, Any]

OURS: Final = ("#0072B2", "#D55E00", "#56B4E9", "#E69F00")
RUNTIMES, THEIRS, RANDOM, LINE = "#009E73", "#CC79A7", "#8C8C8C", "#333333"
"""Of Okabe and Ito's palette, which people with any kind of colour blindness can tell apart; markers differ too."""
_OFFSETS: Final = [(x, y) for y in (7, -15, 21, -29, 35, -43, 49, -57) for x in (-20, 6, -50, -80, 30)]


@dataclass(frozen=True)
class Point:
    """A row that has an accuracy.

    Args:
        label: What stands beside it.
        kind: Its entry in the legend.
        per_s: Images per second.
        accuracy: Top-1, a fraction.
    """

    label: str
    kind: str
    per_s: float
    accuracy: float


def join(results: list[Row]) -> Row:
    """Makes one result of several of the same processor and CPU class, the last one's rows before earlier ones."""
    rows = {row["name"]: row for result in results for row in result["rows"]}
    return {**results[-1], "rows": list(rows.values()), "dates": sorted({result["date"] for result in results})}


def points(result: Row) -> list[Point]:
    """Takes what was measured in both, the fastest first."""
    rows = [row for row in images(result) if row["accuracy"] is not None]
    return sorted((Point(label(row), kind(row), row["per_s"], row["accuracy"]) for row in rows), key=lambda p: -p.per_s)


def images(result: Row) -> list[Row]:
    """Takes the rows that ran and count pictures."""
    return [row for row in result["rows"] if row["status"] == "ok" and row["unit"] == "images"]


def label(row: Row) -> str:
    """Names a row: bundle and precision if it is ours."""
    return f"{row['bundle']} {row['precision']}" if row.get("bundle") else row["name"]


def kind(row: Row) -> str:
    """Names the row's entry in the legend."""
    if row.get("bundle"):
        return f"fer-deploy, {row['bundle']}"
    return "our network on other runtimes" if row["weights"] == "ours" else "networks of others, their weights"


def front(ordered: list[Point]) -> list[Point]:
    """Takes, of points with the fastest first, those that no faster one equals in accuracy (Pareto)."""
    found: list[Point] = []
    for point in ordered:
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def colours(kinds: list[str]) -> dict[str, tuple[str, str]]:
    """Gives each kind a colour and a marker."""
    ours = [name for name in kinds if name.startswith("fer-deploy")]
    found = {name: (OURS[n % len(OURS)], "oDP*"[n % 4]) for n, name in enumerate(sorted(ours))}
    return found | {
        name: (RUNTIMES, "s") if name.startswith("our") else (THEIRS, "^") for name in kinds if name not in found
    }


def draw(result: Row) -> Any:
    """Draws the picture.

    Returns:
        The ``matplotlib.figure.Figure``. Its labels don't cover one another.
    """
    ordered = points(result)
    if not ordered:
        sys.exit("front.py: no row has an accuracy: give --data to peers/run.py")
    figure = new_figure(10, 6, "the front of accuracy and speed")
    axes = figure.subplots()
    best = front(ordered)
    axes.plot([p.per_s for p in best], [100 * p.accuracy for p in best], color=LINE, linewidth=1, label="the front")
    style = colours(sorted({p.kind for p in ordered}))
    for name, (colour, marker) in style.items():
        mine = [p for p in ordered if p.kind == name]
        axes.scatter(
            [p.per_s for p in mine], [100 * p.accuracy for p in mine], 45, colour, marker=marker, label=name, zorder=3
        )
    random = sorted((row["per_s"], row["name"]) for row in images(result) if row["weights"] == "random")
    for n, (per_s, _) in enumerate(random):
        axes.axvline(
            per_s, color=RANDOM, linestyle=":", linewidth=1, label="speed only: random weights" if not n else None
        )
    machine = result["machine"]
    axes.set_xscale("log")
    axes.margins(0.12, 0.25)
    axes.set_xlim(right=1.6 * max(row["per_s"] for row in images(result)))
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, place: f"{value:,.0f}" if str(f"{value:.0e}")[0] in "125" else "")
    axes.set(xlabel="images/s, each at its best batch size", ylabel=f"top-1 accuracy on {result['pictures']}, %")
    axes.set_title(f"{machine['cpu']}, CPU class {machine['cpu_class']}, {machine['usable_cpus']} CPUs")
    axes.grid(alpha=0.2)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=3, frameon=False, fontsize=9)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels are placed by pixels from here on
    taken = [marker_box(axes, point) for point in ordered]
    for point in ordered:
        place(axes, point.label, (point.per_s, 100 * point.accuracy), 0, taken)
    bottom = axes.get_ylim()[0]
    for per_s, name in random:
        place(axes, name, (per_s, bottom), 90, taken)
    return figure


def marker_box(axes: Any, point: Point) -> Any:
    """Gives the pixels that a point's marker covers."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform((point.per_s, 100 * point.accuracy))
    return Bbox.from_extents(x - 6, y - 6, x + 6, y + 6)


def place(axes: Any, text: str, at: tuple[float, float], rotation: int, taken: list[Any]) -> None:
    """Writes a label at the first offset where it covers no other one and stays inside, at the last one if none does.

    Args:
        axes: Drawn once, with final limits.
        text: The label.
        at: What it belongs to, in data.
        rotation: In degrees; 90 for that of a vertical line.
        taken: Boxes of the labels so far, in pixels; the new one's is added.
    """
    from matplotlib.text import Text  # its box is that of the words, an annotation's has the arrow in it

    offsets = [(x, y) for y in range(4, 300, 60) for x in (2, -12)] if rotation else _OFFSETS
    inside, renderer = axes.get_window_extent(), axes.figure.canvas.get_renderer()
    for offset in offsets:
        far = {"arrowstyle": "-", "color": RANDOM, "linewidth": 0.6} if not rotation and abs(offset[1]) > 20 else None
        how = {"textcoords": "offset points", "rotation": rotation, "fontsize": 8, "arrowprops": far}
        note = axes.annotate(text, at, offset, **how)
        note.update_positions(renderer)
        box = Text.get_window_extent(note, renderer)
        within = inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
        if offset == offsets[-1] or (within and not any(box.overlaps(other) for other in taken)):
            taken.append(box)
            return
        note.remove()


def table(result: Row) -> str:
    """Draws every row in markdown, the fastest first, those without a speed last."""
    best = {point.label for point in front(points(result))}
    cells = []
    rows = [row for row in result["rows"] if row["unit"] == "images"]
    for row in sorted(rows, key=lambda row: -(row["per_s"] or 0)):
        speed = f"{row['per_s']:,.0f}" if row["status"] == "ok" else row["reason"]
        missing = "random weights" if row["weights"] == "random" else "not measured"
        accuracy = missing if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        mark = "yes" if row["status"] == "ok" and label(row) in best else ""
        cells.append([label(row), row["remark"], row["batch"] or "", speed, accuracy, mark])
    machine, dates = result["machine"], ", ".join(result["dates"])
    head = f"{machine['cpu']}, CPU class {machine['cpu_class']}, {machine['usable_cpus']} CPUs, {dates}"
    rounds = f"Medians of {result['rounds']} rounds of {result['seconds']:g} s each, in turns."
    columns = ["form", "what is run", "batch", "images/s", f"top-1 on {result['pictures']}", "on the front"]
    return f"{head}. {rounds}\n\n{markdown(columns, cells)}\n"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=Path(), help="the folder for pictures and tables; default: here")
    args = parser.parse_args()
    machines: dict[str, list[Row]] = {}
    for path in args.results:
        result = json.loads(path.read_text(encoding="utf-8"))
        machines.setdefault(result_name("front", result["machine"]), []).append(result)
    for name, results in machines.items():
        image = (args.output / name).with_suffix(".png")
        joined = join(results)
        with written_whole(image) as partial:
            draw(joined).savefig(partial, dpi=120, format="png")
        with written_whole(image.with_suffix(".md")) as partial:
            partial.write_text(table(joined), encoding="utf-8")
        print(f"{table(joined)}\n{image}\n{image.with_suffix('.md')}")


if __name__ == "__main__":
    main()
