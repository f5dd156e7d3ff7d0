"""``fer-deploy data``: looks at FER-2013 and converts it between the forms that people have it in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_deploy.cli.options import DataArgument, JsonOption, SkipBadOption
from fer_deploy.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from fer_deploy.data.fer2013 import Fer2013
    from fer_deploy.data.inspection import Inspection

_BAR_WIDTH = 24

app = typer.Typer(
    help="Look at FER-2013 and convert it between the forms that people have it in.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
def info(path: DataArgument, as_json: JsonOption = False, skip_bad: SkipBadOption = False) -> None:
    """Counts per class and partition, duplicates, blank pictures, fingerprints.

    Examples:

      fer-deploy data info fer2013.zip

      fer-deploy data info fer2013.csv --json --skip-bad
    """
    from fer_deploy.data.inspection import inspect

    found = inspect(_load(path, skip_bad))
    if as_json:
        from fer_deploy.system.machine import machine_info

        print(json.dumps({"schema": 1, "machine": machine_info(), **found.to_json()}, indent=2))
        return
    _print_inspection(found)


@app.command()
def convert(
    source: DataArgument,
    target: Annotated[Path, typer.Argument(help="Where to write; its name tells the form unless --form does.")],
    data_format: Annotated[
        str | None,
        typer.Option("--form", help="folder, zip, csv, csv.gz, csv.zip, icml.csv, icml.csv.gz or icml.csv.zip."),
    ] = None,
    skip_bad: SkipBadOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    names: Annotated[
        bool,
        typer.Option(
            "--names/--no-names",
            help="Keep file names in a CSV in a fourth column, where they are not just numbered from 0.",
        ),
    ] = True,
) -> None:
    """Write the data set in another form, losslessly; whole or not at all.

    Examples:

      fer-deploy data convert fer2013.zip fer2013.csv.gz

      fer-deploy data convert icml_face_data.csv pictures/

      fer-deploy data convert pictures/ old-script.csv --no-names
    """
    from fer_deploy.data.convert import check_target, guess_data_format
    from fer_deploy.data.convert import convert as write

    data_format = data_format or guess_data_format(target)
    check_target(target, data_format, overwrite)
    data = _load(source, skip_bad)
    with progress_bar(f"Writing {target.name}") as progress:
        write(data, target, data_format=data_format, overwrite=overwrite, names=names, progress=progress)
    count = sum(len(partition) for partition in data.partitions.values())
    print(f"{target}: {count:,} pictures as {data_format}{_format_skipped(data)}")


@app.command()
def preview(
    path: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write: .png, .jpg, .webp or .bmp.")],
    per_class: Annotated[int, typer.Option("--per-class", min=1, max=100, help="Pictures of each class.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed shows other pictures.")] = 0,
    partition: Annotated[
        str, typer.Option("--partition", help="Training, PublicTest, PrivateTest or Test (all test pictures).")
    ] = "Training",
    skip_bad: SkipBadOption = False,
) -> None:
    """Draw a grid of pictures, a row per class.

    FER-2013's pictures may be looked at but not published: keep the grid to yourself.

    Examples:

      fer-deploy data preview fer2013.zip --output grid.png

      fer-deploy data preview fer2013.zip --output test.png --partition Test --per-class 20 --seed 7
    """
    from fer_deploy.data.fer2013 import PARTITIONS
    from fer_deploy.data.preview import check_output, draw_preview, save_image
    from fer_deploy.errors import UsageError
    from fer_deploy.system.files import check_writable

    if partition not in PARTITIONS:
        raise UsageError(f"The partition {partition!r} is unknown; it must be one of {', '.join(PARTITIONS)}")
    check_output(output)
    check_writable(output, overwrite=True)
    data = _load(path, skip_bad)
    title = f"{path.name}, {partition}, seed {seed}"
    save_image(draw_preview(data.partition(partition), title, per_class=per_class, seed=seed), output)
    print(f"{output}: {per_class} pictures per class of {partition}{_format_skipped(data)}")


def _load(path: Path, skip_bad: bool) -> Fer2013:
    from fer_deploy.data.fer2013_reader import load_fer2013

    with progress_bar(f"Reading {path.name}") as progress:
        return load_fer2013(path, skip_bad=skip_bad, progress=progress)


def _format_skipped(data: Fer2013) -> str:
    return f", {len(data.skipped):,} bad left out" if data.skipped else ""


def _print_inspection(found: Inspection) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(_table(found))
    duplicates = found.duplicates
    lines = {
        "Duplicates": ", ".join(f"{count:,} in {key}" for key, count in duplicates.within.items()),
        "In two partitions": ", ".join(f"{count:,} in {key}" for key, count in duplicates.across.items()),
        "In two classes": f"{duplicates.label_conflicts:,} pictures",
        "Blank pictures": f"{len(found.blank):,}" + (f" ({_some(found.blank)})" if found.blank else ""),
        "Bad, left out": f"{len(found.data.skipped):,}",
    }
    for name, text in lines.items():
        if text:
            console.print(f"[bold]{name:18}[/bold] {escape(text)}", soft_wrap=True)
    for key, digest in found.fingerprints.items():
        console.print(f"[bold]{'SHA-256 ' + key:18}[/bold] {digest}", soft_wrap=True)
    for bad in found.data.skipped[:20]:
        console.print(f"[red]Left out[/red] {escape(bad.where)}: {escape(bad.reason)}", soft_wrap=True)
    if len(found.data.skipped) > 20:
        console.print(f"[red]Left out[/red] and {len(found.data.skipped) - 20:,} more (all with --json)")
    for note in found.data.notes:
        console.print(f"[yellow]Note[/yellow] {escape(note)}", soft_wrap=True)


def _table(found: Inspection) -> Table:
    from rich.markup import escape
    from rich.table import Table

    rows = found.rows()
    keys = list(found.counts)
    sums = [sum(int(row[key]) for key in keys) for row in rows]
    table = Table(title=escape(f"{found.data.source} ({found.data.data_format})"), title_justify="left")
    table.add_column("class")
    for name in (*keys, "share"):
        table.add_column(name, justify="right")
    table.add_column("", min_width=_BAR_WIDTH, no_wrap=True)
    for row, total in zip(rows, sums, strict=True):
        if row["class"] == "total":
            table.add_section()
        bar = "" if row["class"] == "total" else "█" * round(_BAR_WIDTH * total / max(sums[:-1]))
        share = f"{total / sums[-1]:.1%}"
        table.add_row(str(row["class"]), *(f"{row[key]:,}" for key in keys), share, bar)
    return table


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
