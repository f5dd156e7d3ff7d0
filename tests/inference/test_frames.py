"""Predictions as Arrow tables and data frames: the same cells as in the CSV."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fer_deploy.errors import MissingDependencyError
from fer_deploy.faces.face import Face
from fer_deploy.inference.prediction import COLUMNS, Prediction, Predictions, prediction_of, row_of

_PREDICTION = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05], np.float32)


@pytest.fixture
def predictions() -> Predictions:
    face = Face((3.4, 5.0, 60.6, 70.0), 0.75)
    return Predictions(
        [
            Prediction.of("a.png", _PREDICTION),
            Prediction.of_face("photo.jpg", 1, face, _PREDICTION[::-1].copy()),
            Prediction.of_no_face("sea.jpg"),
            Prediction.failed("torn.png", "truncated"),
        ]
    )


def test_arrow_holds_what_the_table_holds(predictions: Predictions) -> None:
    pytest.importorskip("pyarrow")
    table = predictions.to_arrow()
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert [prediction_of(row).status for row in rows] == ["ok", "ok", "no-face", "error"]
    assert (rows[1]["x"], rows[1]["width"], rows[1]["face"], rows[1]["face_score"]) == (3, 61, 1, 0.75)
    assert rows[0]["x"] is rows[2]["emotion"] is rows[0]["reason"] is None
    assert rows[0]["angry"] == 0.5
    assert {str(table.schema.field(name).type) for name in ("confidence", "face", "time_s", "path")} == {
        *("float", "int32", "double", "string")
    }


def test_pandas_holds_what_the_table_holds(predictions: Predictions) -> None:
    pytest.importorskip("pandas")
    frame = predictions.to_pandas()
    assert tuple(frame.columns) == COLUMNS
    assert frame["status"].tolist() == ["ok", "ok", "no-face", "error"]
    assert [str(frame[name].dtype) for name in ("confidence", "face", "time_s")] == ["float32", "Int32", "float64"]
    assert frame.loc[1, "width"] == 61
    assert frame["face"].isna().tolist() == [True, False, True, True]
    by_hand = [row_of(each)["confidence"] for each in predictions]
    assert frame["confidence"].fillna(-1).tolist() == [-1 if cell is None else cell for cell in by_hand]
    assert frame[frame.emotion == "angry"]["path"].tolist() == ["a.png"]


@pytest.mark.parametrize(("method", "module"), [("to_arrow", "pyarrow"), ("to_pandas", "pandas")])
def test_no_rows_are_an_empty_table(method: str, module: str) -> None:
    pytest.importorskip(module)
    table = getattr(Predictions([]), method)()
    assert table.shape == (0, len(COLUMNS))


@pytest.mark.parametrize(("method", "module"), [("to_arrow", "pyarrow"), ("to_pandas", "pandas")])
def test_what_is_missing_is_named(
    predictions: Predictions, method: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=module):
        getattr(predictions, method)()
