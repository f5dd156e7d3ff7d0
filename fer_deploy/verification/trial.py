"""Tries a backend for real, in a process of its own: whatever a runtime does there, it takes nothing else down.

Each finding is written at once, as a line of JSON, so that what is known before a crash or a time-out is known after it
too.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fer_deploy.errors import FerDeployError, MissingDependencyError, UnavailableError, one_line
from fer_deploy.system.processes import child_command, describe_exit

IMPORTED, STARTED, DONE, DRIVER = "imported", "begun", "done", "driver"
"""What a finding is about."""
_FINDINGS: Final = "findings.jsonl"

Finding = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a trial is to do.

    Args:
        folder: Where ``findings.jsonl`` goes, ``<precision>.npy`` for each form that ran, and where ``images.npy`` is.
        backend: Its name; empty to ask the GPU's driver.
        device: The device.
        precisions: To be tried in this order.
        bundle: The bundle's folder.
        threads: Threads of the runtime, or None.
    """

    folder: str
    backend: str = ""
    device: str = ""
    precisions: tuple[str, ...] = ()
    bundle: str = ""
    threads: int | None = None


def start(request: Request, limit_s: float) -> tuple[list[Finding], str]:
    """Has a request carried out in a process of its own.

    Args:
        request: What is to be done.
        limit_s: Seconds that it may take.

    Returns:
        What was found, each with its ``event``, and how the process ended: words to follow its name.
    """
    command = child_command("fer_deploy.verification.trial:carry_out", asdict(request))
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=limit_s, check=False
            )
            ended = describe_exit(done.returncode, output)
        except subprocess.TimeoutExpired:
            ended = f"took longer than {limit_s:g} s"
    return list(_findings(Path(request.folder) / _FINDINGS)), ended


def _findings(path: Path) -> Iterator[Finding]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        with suppress(ValueError):  # cut off by a crash
            yield json.loads(line)


def carry_out(argument: str) -> None:
    """Does what a request asks for, in this process.

    Args:
        argument: A ``Request`` as JSON.
    """
    request = Request(**json.loads(argument))
    if not request.backend:
        from fer_deploy.system.gpus import ask_driver

        _report(request, event=DRIVER, driver=ask_driver())
    elif _import(request):
        for precision in request.precisions:
            _report(request, event=STARTED, precision=precision)
            _report(request, event=DONE, precision=precision, **_run(request, precision))


def _import(request: Request) -> bool:
    """Imports the runtime and tells its version, or why it cannot be imported."""
    from fer_deploy.backends.registry import backend_class

    version, reason = None, None
    try:
        module = backend_class(request.backend).import_runtime()
    except Exception as error:  # a runtime can fail in any way while it is imported
        reason = f"{type(error).__name__}: {one_line(error, 500)}"
    else:
        version = str(getattr(module, "__version__", "")).partition("-")[0]
    _report(request, event=IMPORTED, version=version, reason=reason)
    return reason is None


def _run(request: Request, precision: str) -> dict[str, Any]:
    """Opens one form and runs all pictures as one batch."""
    import numpy as np

    from fer_deploy.backends.registry import backend_class
    from fer_deploy.bundle.manifest import Bundle

    folder = Path(request.folder)
    images = np.load(folder / "images.npy", allow_pickle=False)
    try:
        kind = backend_class(request.backend)
        with kind(Bundle.load(request.bundle), precision, request.device, request.threads) as backend:
            predictions = backend.run(images)
            if not np.isfinite(predictions).all():
                return {"status": "failed", "reason": "its answers are not finite numbers"}
            np.save(folder / f"{precision}.npy", predictions, allow_pickle=False)
            found = {
                **{"effective": backend.effective, "runtime": backend.runtime},
                **{"gpu": backend.gpu or None, "simulated": backend.simulated},
            }
    except (MissingDependencyError, UnavailableError) as error:
        return {"status": "skipped", "reason": one_line(error, 500)}
    except FerDeployError as error:
        return {"status": "failed", "reason": one_line(error, 500)}
    return {"status": "ok", "reason": None, **found}


def _report(request: Request, **finding: Any) -> None:
    with (Path(request.folder) / _FINDINGS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(finding) + "\n")
