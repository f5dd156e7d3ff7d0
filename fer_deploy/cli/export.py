"""``fer-deploy export``: a trained Keras model becomes a bundle."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_deploy.cli.options import JsonOption
from fer_deploy.cli.progress import steps

if TYPE_CHECKING:
    from fer_deploy.bundle.manifest import Bundle

FOREIGN = "A network that others trained"


def export(
    model: Annotated[Path, typer.Argument(help="A trained .keras (or .h5) file; 48x48 gray in, 7 probabilities out.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder.")] = Path("bundle"),
    name: Annotated[str | None, typer.Option("--name", help="The model's name in tables; else the folder's.")] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="all, or of fp32,fp16,int8,int8-trt those wanted beside fp32.")
    ] = "all",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="FER-2013 in any form: compare on its PublicTest, not on the built-in pictures."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="FER-2013 whose Training pictures INT8 is calibrated on; else --data."),
    ] = None,
    calibration_count: Annotated[
        int | None, typer.Option("--calibration-count", help="How many pictures, alike from every class; else 512.")
    ] = None,
    calibration_force: Annotated[
        bool, typer.Option("--calibration-force", help="Calibrate on test pictures where there are no others.")
    ] = False,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A TOML file that says how INT8 is made (export/recipes).")
    ] = None,
    target_accuracy: Annotated[
        float | None, typer.Option("--target-accuracy", help="Top-1 in percent that verify is to hold it to.")
    ] = None,
    fit_temperature: Annotated[
        bool,
        typer.Option(
            "--fit-temperature", help="Scale confidence to --data's PublicTest, by likelihood; no answer changes."
        ),
    ] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Build TensorRT engines too, for the GPU that is here or for --target.")
    ] = False,
    target: Annotated[
        str, typer.Option("--target", help="GPUs to build for, without one: sm86,sm89 (needs TensorRT for RTX).")
    ] = "",
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
    """Make a bundle of a trained Keras model: ONNX in fp32, fp16, int8 and int8-trt, each proved.

    Every written file is loaded by the runtimes that it is for and compared
    with Keras at two batch sizes; one that is off leaves no bundle and exit
    code 2. INT8 needs FER-2013's Training pictures to calibrate with; without
    any, fp32 and fp16 are made. int8 is for CPUs and gives the same answers
    with and without VNNI; int8-trt is for TensorRT. --fit-temperature divides
    the last layer's weights by one number, so that the probabilities mean what
    they say; bundle.json has it, with the calibration error before and after.

    Examples:

      fer-deploy export runs/first/model.keras

      fer-deploy export model.keras --output bundles/mine --data fer2013.zip --overwrite

      fer-deploy export model.keras --precision fp16 --target-accuracy 64.02

      fer-deploy export model.keras --data fer2013.zip --fit-temperature

      fer-deploy export model.keras --data fer2013.zip --engine --target sm86,sm89

      fer-deploy export model.keras --json > export.json

      fer-deploy export their.h5 --input-size 64x64 --channels 1 --scale -1,1
      --classes angry,disgust,fear,happy,sad,surprise,neutral
    """
    from fer_deploy.errors import UsageError
    from fer_deploy.exporting.contract import model_contract
    from fer_deploy.exporting.engines import engine_step, parse_targets
    from fer_deploy.exporting.export_recipe import ExportRecipe, load_export_recipe
    from fer_deploy.exporting.exporter import export_bundle
    from fer_deploy.exporting.inputs import parse_precisions, with_count, with_target

    if target and not engine:
        raise UsageError("--target says what --engine builds for: give both")
    extras = [engine_step(parse_targets(target))] if engine else []
    if engine and not target:
        os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # the GPU must be seen, and is not TensorFlow's to fill
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # conversion and comparison run on the CPU
    foreign = model_contract(
        network, input_size=input_size, channels=channels, scale=scale, classes=classes, logits=logits
    )
    chosen = load_export_recipe(recipe) if recipe else ExportRecipe()
    if fit_temperature:
        chosen = replace(chosen, fit_temperature=True)
    with steps() as report:
        bundle = export_bundle(
            model,
            output,
            name=name,
            precisions=parse_precisions(precision),
            data=data,
            calibration=calibration,
            force_calibration=calibration_force,
            recipe=with_count(with_target(chosen, target_accuracy), calibration_count),
            network=foreign,
            extras=extras,
            overwrite=overwrite,
            report=report,
        )
    if as_json:
        print(json.dumps(_as_json(bundle), indent=2))
    else:
        _print_tables(bundle)


def _as_json(bundle: Bundle) -> dict[str, Any]:
    """Makes the one object of ``--json``: a row per comparison, and the files."""
    from fer_deploy.system.machine import machine_info

    rows = [
        {
            "backend": entry["backend"],
            "precision": entry["precision"],
            "effective": entry["effective"],
            "simulated": entry["simulated"],
            "device": "cpu",
            "runtime": entry["runtime"],
            "batch": entry["batch"],
            "n": entry["n"],
            "agreement": entry["agreement"],
            "max_abs_difference": entry["max_abs_difference"],
            "mean_abs_difference": entry["mean_abs_difference"],
            "pictures": entry["pictures"],
            "status": "ok",
            "reason": None,
        }
        for artefact in bundle.artefacts
        for entry in artefact.made_with.get("parity", ())
    ]
    files = [
        {
            "file": a.file,
            "format": a.format,
            "precision": a.precision,
            "target": a.target,
            "size": a.size,
            "sha256": a.sha256,
            "build_elsewhere": a.made_with.get("build_elsewhere", {}),
        }
        for a in bundle.artefacts
    ]
    reported = {"path": str(bundle.path), "name": bundle.name, "temperature": _temperature(bundle), "files": files}
    return {"schema": 1, "machine": machine_info(), "rows": rows, "bundle": reported}


def _temperature(bundle: Bundle) -> Any:
    """Gives what was recorded of the temperature; None where there is none."""
    keras = bundle.find("keras")
    return keras.made_with.get("temperature") if keras else None


def _print_tables(bundle: Bundle) -> None:
    """Prints the files and the comparisons on stdout."""
    from rich.console import Console
    from rich.table import Table

    files = Table("file", "precision", title=f"Bundle {bundle.name}", title_justify="left")
    files.add_column("size", justify="right")
    files.add_column("SHA-256")
    proof = Table("precision", "runtime", "computed in", title_justify="left")
    for column in ("same top-1", "mean", "max difference"):
        proof.add_column(column, justify="right")
    for artefact in bundle.artefacts:
        kind = "Keras's answers" if artefact.format == "outputs" else artefact.precision
        files.add_row(artefact.file, kind, f"{artefact.size / 1e6:.2f} MB", artefact.sha256[:16])
        entries = artefact.made_with.get("parity", ())
        for (precision, runtime), group in groupby(entries, key=lambda entry: (entry["precision"], entry["runtime"])):
            one, *others = group  # one entry per batch size: the worst counts
            proof.title = f"Compared with Keras: {one['pictures']}"
            computed = one["effective"] + (", simulated" if one["simulated"] else "")
            mean, largest = (
                max(entry[f"{name}_abs_difference"] for entry in (one, *others)) for name in ("mean", "max")
            )
            agreement = max((one, *others), key=lambda entry: entry["n"])["agreement"]
            proof.add_row(precision, runtime, computed, f"{agreement:.2%}", f"{mean:.1e}", f"{largest:.1e}")
    console = Console(highlight=False)
    console.print(files)
    console.print(proof)
    for line in [*_temperature_lines(bundle), *_engine_lines(bundle)]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Written: {bundle.path}", markup=False, soft_wrap=True)


def _temperature_lines(bundle: Bundle) -> list[str]:
    """Tells the temperature and what it did to the expected calibration error."""
    if (made := _temperature(bundle)) is None:
        return []
    left = "" if made["temperature"] != 1 else ": near enough to 1, the model is left as it is"
    lines = [f"Temperature {made['fitted']:.3f}, fitted on {made['n']:,} pictures of {made['partition']}{left}"]
    for name, found in made["reliability"].items():
        before, after = (found[frame]["ece"] for frame in ("before", "after"))
        lines.append(f"{name}: expected calibration error {before:.2%} before, {after:.2%} after")
    return lines


def _engine_lines(bundle: Bundle) -> list[str]:
    """Says of each engine what its convolutions read and write, and how to build such engines elsewhere."""
    lines = []
    for artefact in bundle.artefacts:
        made = artefact.made_with
        if artefact.format == "engine":
            convolutions = made.get("built", {}).get("convolutions", {})
            reported = ", ".join(f"{n} convolutions {types}" for types, n in convolutions.items()) or "built"
            lines.append(f"{artefact.file}: {reported} ({made['runtime']} {made['version']}, {made['seconds']} s)")
    commands = [line for a in bundle.artefacts for line in a.made_with.get("build_elsewhere", {}).values()]
    return [*lines, "", "The same engines elsewhere, in the bundle's folder:", *commands, ""]
