"""``benchmarks/folder_profile.py`` in a short form."""

from __future__ import annotations

from pathlib import Path

import folder_profile

from fer_deploy.backends.openvino import OpenVinoBackend
from fer_deploy.bundle.manifest import Bundle


def test_shares_and_stages(tiny_bundle: Bundle, tmp_path: Path) -> None:
    suffix, content = folder_profile.contents()["crops"]
    folder = tmp_path / "crops"
    folder.mkdir()
    for n in range(130):
        (folder / f"{n:03}{suffix}").write_bytes(content)
    with OpenVinoBackend(tiny_bundle, "fp32") as backend:
        row = folder_profile.measure(folder, backend, rounds=2)
    assert row["n"] == 130
    assert len((tmp_path / "crops.csv").read_text(encoding="utf-8").splitlines()) == 1 + 130
    rates = row["images_per_s"]
    assert row["slower"] == min(("decode alone", "model alone"), key=rates.__getitem__)
    assert rates["one after the other"] < rates[row["slower"]]
    assert row["share"]["min"] <= row["share"]["median"] <= row["share"]["max"]
    assert all(value > 0 for value in row["stages_us"].values())
    assert f"share of {row['slower']}" in folder_profile.draw(row)
