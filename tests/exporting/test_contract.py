"""What a user states of a foreign network: options and TOML, and every mistake told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fer_deploy.errors import UsageError
from fer_deploy.exporting.contract import SYNONYMS, ModelContract, model_contract
from fer_deploy.labels import LABELS

OURS = ",".join(LABELS)
NETWORKS = Path(__file__).parents[2] / "export/networks"


def test_nothing_given_is_our_own_contract() -> None:
    assert model_contract(None, scale=None, classes=None, logits=None) is None


def test_options_as_on_the_command_line() -> None:
    contract = model_contract(input_size="64X56", channels=3, scale="-1,1", classes=" Happy,ANGER,sad,-,fearful,"
                                "surprised,disgusted,neutral,-", logits=True)  # fmt: skip
    assert contract == ModelContract(
        scale=(-1.0, 1.0),
        classes=("happy", "angry", "sad", "-", "fear", "surprise", "disgust", "neutral", "-"),
        input_size=(64, 56),
        channels=3,
        logits=True,
    )
    assert contract.order == (1, 6, 4, 0, 2, 5, 7)


def test_options_come_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "their.toml"
    file.write_text(f'scale = [0, 1]\ninput_size = [40, 40]\nmean = 0.5\nstd = [0.25]\nclasses = "{OURS}"')
    assert model_contract(file, scale="0,255", channels=None) == ModelContract(
        (0.0, 255.0), LABELS, input_size=(40, 40), mean=(0.5,), std=(0.25,)
    )


@pytest.mark.parametrize("file", sorted(NETWORKS.glob("*.toml")), ids=lambda file: file.stem)
def test_shipped_files_are_read(file: Path) -> None:
    assert model_contract(file) is not None


def test_synonyms_are_other_names_of_ours() -> None:
    assert set(SYNONYMS.values()) <= set(LABELS)
    assert not set(SYNONYMS) & set(LABELS)


GOOD = {"scale": "0,1", "classes": OURS}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": "64x64"}, "needs scale and classes too: pass --scale"),
        ({"scale": "0,1"}, "needs classes too"),
        ({**GOOD, "scale": "1"}, "scale is 1.0, expected two different numbers"),
        ({**GOOD, "scale": "1,1"}, "expected two different numbers"),
        ({**GOOD, "scale": "0,nan"}, "expected two different numbers"),
        ({**GOOD, "scale": "a,b"}, "scale is 'a,b', expected numbers such as -1,1"),
        ({**GOOD, "input_size": "64"}, "input_size is 64, expected height and width"),
        ({**GOOD, "input_size": "0x64"}, "input_size is 0,64"),
        ({**GOOD, "input_size": "64x9999"}, "1 to 1024"),
        ({**GOOD, "input_size": [64.5, 64]}, "expected numbers such as 64x64"),
        ({**GOOD, "input_size": [True, 64]}, "expected numbers"),
        ({**GOOD, "channels": 4}, "channels is 4, expected 1"),
        ({**GOOD, "channels": "3"}, "channels is '3', expected a int"),
        ({**GOOD, "logits": 1}, "logits is 1, expected a bool"),
        ({**GOOD, "mean": [0.5, 0.5]}, "mean is 0.5,0.5, expected one number or one per channel"),
        ({**GOOD, "std": 0}, "std is 0.0, expected numbers above 0"),
        ({**GOOD, "colour": "bgr"}, "'colour' is unknown; known are scale, classes"),
        ({**GOOD, "classes": [1, 2]}, "expected a list of names"),
        ({**GOOD, "classes": OURS.replace("fear,", "")}, "classes lacks fear: expected"),
        ({**GOOD, "classes": OURS + ",anger"}, "classes has angry more than once"),
        ({**GOOD, "classes": OURS + ",contempt"}, "'contempt', which is none of FER-2013's seven.*write '-'"),
        ({**GOOD, "classes": OURS + ",-" * 200}, "classes has too many"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        model_contract(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("scale = [0,", "is not valid TOML"), ("\xff", "is not valid TOML"), ("scale = [0, 1]", "needs classes too")],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "their.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=message) as caught:
        model_contract(file)
    assert str(file) in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        model_contract(tmp_path / "none.toml")
