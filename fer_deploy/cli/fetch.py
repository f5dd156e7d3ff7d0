"""``fer-deploy fetch``: downloads what no package carries, when the user says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_deploy.cli.options import JsonOption
from fer_deploy.cli.progress import late_bar
from fer_deploy.errors import OutputError, UsageError

if TYPE_CHECKING:
    from fer_deploy.faces.catalogue import DownloadableModel


def fetch(
    name: Annotated[str | None, typer.Argument(metavar="[yunet]", help="What to download.")] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Another address of the same file, as a mirror's; its hash is checked.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A new file, or a folder; if not given, where infer looks for it."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that a server may say nothing.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Download a detector that no package carries: YuNet, for infer --detector yunet.

    Tells what comes from where, under which licence, and where it is kept. The
    file is written only if its size and SHA-256 are right. Proxies are taken
    from https_proxy, http_proxy and no_proxy. Nothing else here goes online.
    Without a name, what there is to download is listed.

    Examples:

      fer-deploy fetch

      fer-deploy fetch yunet

      fer-deploy fetch yunet --url https://mirror.example/yunet.onnx --json
    """
    from fer_deploy.faces.catalogue import FETCHED

    if name is None:
        if url is not None or output is not None:
            raise UsageError(f"--url and --output are of one file: fer-deploy fetch {next(iter(FETCHED))}")
        _report([_row(each, each.url, each.path) for each in FETCHED.values()], as_json)
        return
    if name not in FETCHED:
        raise UsageError(f"There is nothing called {name!r} to fetch; there is: {', '.join(FETCHED)}")
    wanted = FETCHED[name]
    target = _target(wanted, output)
    row = _row(wanted, url or wanted.url, target)
    if not as_json:
        _report([row], as_json)
    if not row["is_there"]:
        _download(wanted, row["url"], target, timeout)
    row |= {"fetched": not row["is_there"], "is_there": True}
    if as_json:
        _report([row], as_json)
    else:
        use = name if output is None else target
        done = "fetched" if row["fetched"] else "nothing to do, it is there already"
        print(f"{done}; use it with: fer-deploy infer photos/ --detector {use}")


def _target(wanted: DownloadableModel, output: Path | None) -> Path:
    if output is None:
        return wanted.path
    target = output / wanted.file_name if output.is_dir() else output
    if target.exists() and not _is_right(wanted, target):
        raise OutputError(f"{target} exists and is another file; remove it, or choose another name")
    return target


def _is_right(wanted: DownloadableModel, path: Path) -> bool:
    try:
        return not wanted.fault(path.read_bytes())
    except OSError:
        return False


def _download(wanted: DownloadableModel, url: str, target: Path, timeout_s: float) -> None:
    from fer_deploy.errors import DownloadError
    from fer_deploy.system.download import download

    try:
        with late_bar(wanted.name) as progress:
            download(url, wanted.size_bytes, wanted.fault, target, progress, timeout_s)
    except DownloadError as error:
        raise DownloadError(f"{error}. --url takes another address; infer --detector takes the file itself") from error


def _row(wanted: DownloadableModel, url: str, target: Path) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "what": wanted.what,
        "url": url,
        "licence": wanted.licence,
        "size_bytes": wanted.size_bytes,
        "sha256": wanted.sha256,
        "path": str(target),
        "is_there": _is_right(wanted, target),
    }


def _report(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        from fer_deploy.system.machine import machine_info

        print(json.dumps({"schema": 1, "machine": machine_info(), "rows": rows}, indent=2))
        return
    from fer_deploy.inference.run import printable

    for row in rows:
        there = "" if row["is_there"] else " (not there yet)"
        print(f"{row['name']}: {row['what']}")
        print(f"  from     {printable(row['url'])}")
        print(f"  licence  {row['licence']}; {row['size_bytes']:,} bytes, SHA-256 {row['sha256'][:16]}...")
        print(f"  kept at  {printable(row['path'])}{there}", flush=True)
    sys.stdout.flush()
