"""``fer-deploy export``: a trained Keras model becomes a bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_deploy.cli.options import JsonOption
from fer_deploy.cli.progress import steps

if TYPE_CHECKING:
    from fer_deploy.bundle import Bundle

FOREIGN = "A network that others trained"


def export(
    model: Annotated[Path, typer.Argument(help="A trained .keras (or .h5) file; 48x48 gray in, 7 probabilities out.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder.")] = Path("bundle"),
    name: Annotated[str | None, typer.Option("--name", help="The model's name in tables; else the folder's.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="FER-2013 in any form: compare on its PublicTest, not on the built-in pictures."),
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option("--network", help="A TOML file with what the options below say.", rich_help_panel=FOREIGN),
    ] = None,
    input_size: Annotated[
        str | None, typer.Option("--input-size", help="Pixels that it takes: HEIGHTxWIDTH.", rich_help_panel=FOREIGN)
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", help="1, or 3: the gray picture repeated.", rich_help_panel=FOREIGN)
    ] = None,
    scale: Annotated[
        str | None, typer.Option("--scale", help="What pixels 0,255 become: -1,1 or 0,1 ...", rich_help_panel=FOREIGN)
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Its outputs in order, - for one to leave out.", rich_help_panel=FOREIGN),
    ] = None,
    logits: Annotated[
        bool | None, typer.Option("--logits", help="Its outputs still need a softmax.", rich_help_panel=FOREIGN)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle of a trained Keras model: the Keras file and ONNX fp32, proved to compute the same.

    The written ONNX file is loaded and run in OpenVINO, and in ONNX Runtime
    where that is installed, at two batch sizes. It must be within 1e-5 of Keras
    with the same top-1 everywhere; else no bundle is written and the exit code
    is 2. Models trained on any Keras backend and in mixed precision are taken.

    Examples:

      fer-deploy export runs/first/model.keras

      fer-deploy export model.keras --output bundles/mine --data fer2013.zip --overwrite

      fer-deploy export model.keras --json > export.json

      fer-deploy export their.h5 --input-size 64x64 --channels 1 --scale -1,1
      --classes angry,disgust,fear,happy,sad,surprise,neutral
    """
    from fer_deploy.exporting import export_bundle
    from fer_deploy.exporting.foreign import foreign_contract

    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # conversion and comparison run on the CPU: claim no GPU memory for them
    foreign = foreign_contract(
        network, input_size=input_size, channels=channels, scale=scale, classes=classes, logits=logits
    )
    with steps() as report:
        bundle = export_bundle(model, output, name=name, data=data, network=foreign, overwrite=overwrite, report=report)
    if as_json:
        print(json.dumps(_as_json(bundle), indent=2))
    else:
        _print_tables(bundle)


def _as_json(bundle: Bundle) -> dict[str, Any]:
    """Makes the one object of ``--json``: a row per comparison, and the files."""
    from fer_deploy.machine import machine_info

    rows = [
        {
            "backend": entry["backend"],
            "precision": artefact.precision,
            "effective": "fp32",
            "simulated": False,
            "device": "cpu",
            "runtime": entry["runtime"],
            "batch": entry["batch"],
            "n": entry["n"],
            "agreement": entry["agreement"],
            "max_abs_difference": entry["max_abs_difference"],
            "pictures": entry["pictures"],
            "status": "ok",
            "reason": None,
        }
        for artefact in bundle.artefacts
        for entry in artefact.made_with.get("parity", ())
    ]
    files = [{"file": a.file, "precision": a.precision, "size": a.size, "sha256": a.sha256} for a in bundle.artefacts]
    return {
        "schema": 1,
        "machine": machine_info(),
        "rows": rows,
        "bundle": {"path": str(bundle.path), "name": bundle.name, "files": files},
    }


def _print_tables(bundle: Bundle) -> None:
    """Prints the files and the comparisons on stdout."""
    from rich.console import Console
    from rich.table import Table

    files = Table("file", "precision", title=f"Bundle {bundle.name}", title_justify="left")
    files.add_column("size", justify="right")
    files.add_column("SHA-256")
    proof = Table("runtime", title_justify="left")
    for column in ("batch", "pictures", "max difference", "same top-1"):
        proof.add_column(column, justify="right")
    for artefact in bundle.artefacts:
        files.add_row(artefact.file, artefact.precision, f"{artefact.size / 1e6:.2f} MB", artefact.sha256[:16])
        for entry in artefact.made_with.get("parity", ()):
            proof.title = f"Compared with Keras: {entry['pictures']}"
            difference, agreement = f"{entry['max_abs_difference']:.1e}", f"{entry['agreement']:.2%}"
            proof.add_row(entry["runtime"], str(entry["batch"]), str(entry["n"]), difference, agreement)
    console = Console(highlight=False)
    console.print(files)
    console.print(proof)
    console.print(f"Written: {bundle.path}", markup=False, soft_wrap=True)
