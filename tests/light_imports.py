"""Checks that neither the package nor any command's --help imports something heavy, and that --help works.

A plain script, so that it also runs where pytest is not installed: python tests/light_imports.py
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

HEAVY = {
    "tensorflow", "keras", "jax", "torch", "onnx", "onnxruntime", "onnxslim", "tf2onnx", "openvino", "tensorrt",
    "tensorrt_rtx", "cv2", "matplotlib", "pyarrow", "pandas", "scipy", "av",
}  # fmt: skip
REPORT = "import sys; print(*sys.modules, file=sys.stderr)"
HELP = f"""
from fer_deploy.cli import main
try:
    main()
finally:
    {REPORT}
"""


def commands() -> list[list[str]]:
    """Lists every command and group as the words to type; the root is no words."""
    import typer

    from fer_deploy.cli import app

    def walk(command: object, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*words, name])

    return list(walk(typer.main.get_command(app), []))


def heavy_modules(code: str, *arguments: str) -> list[str]:
    """Runs code that ends with ``REPORT`` in a new process; returns the heavy modules that it imported."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{code} with {arguments} failed:\n{done.stderr}")
    return sorted(HEAVY.intersection(done.stderr.split()))


def main() -> int:
    """Checks the import of the package and every --help; returns the number of failures."""
    cases = {"import fer_deploy": heavy_modules(f"import fer_deploy; {REPORT}")}
    for words in commands():
        cases[" ".join(["fer-deploy", *words, "--help"])] = heavy_modules(HELP, *words, "--help")
    for name, found in cases.items():
        print(f"{'imports ' + ', '.join(found) if found else 'light':40} {name}")
    return sum(bool(found) for found in cases.values())


if __name__ == "__main__":
    sys.exit(main())
