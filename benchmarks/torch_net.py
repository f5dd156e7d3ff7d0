"""Our network's layers in PyTorch, with random weights and batch normalisation folded, as for inference: for speed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parents[1] / "train/recipes/default.toml"


def build_torch_net() -> Any:
    """Builds it in evaluation mode, in the shape that the shipped model's recipe gives.

    Returns:
        A module that takes uint8 (N, 1, 48, 48) and gives float32 probabilities (N, 7).
    """
    import torch
    from torch import nn

    class Scale(nn.Module):
        """Scales pixels in the type that the network was cast to, which a buffer of its own tells."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("offset", torch.full((1,), -2.0))

        def forward(self, x: Any) -> Any:
            return x.to(self.offset.dtype) / 64 + self.offset

    shape = tomllib.loads(RECIPE.read_text(encoding="utf-8"))["model"]
    dense = shape["dense_units"]
    layers: list[Any] = [Scale()]
    before = 1
    for stage, width in enumerate(shape["widths"]):
        padding = 0 if stage < shape["unpadded"] else 1
        for _ in range(2):
            layers += [nn.Conv2d(before, width, 3, padding=padding), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, dense), nn.ReLU(), nn.Linear(dense, 7)]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.layers(x).float(), dim=1)

    return Net().eval()
