"""The rows of ``infer`` as a table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_deploy.inference.predictions import NO_FACE

if TYPE_CHECKING:
    from types import TracebackType

    from fer_deploy.inference.predictions import Prediction

_SHOWN: Final = 50


class Shown:
    """The first rows as a table on the terminal."""

    def __enter__(self) -> Shown:
        self._first: list[Prediction] = []
        self._seen = 0
        return self

    def write(self, prediction: Prediction) -> None:
        """Keeps it if it is among the first."""
        self._seen += 1
        if self._seen <= _SHOWN:
            self._first.append(prediction)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._first:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from fer_deploy.inference.summary import printable

        table = Table("picture", "emotion", "confidence", box=None, pad_edge=False, header_style="bold")
        for each in self._first:
            path = Text(printable(each.path), overflow="fold")
            if each.face is not None:
                path.append(f"  face {each.face}", "dim")
            if each.time_s is not None:
                path.append(f"  {each.time_s:.1f} s", "dim")
            if each.track is not None:
                path.append(f"  track {each.track}", "dim")
            if each.status == NO_FACE:
                table.add_row(path, Text(each.status, "dim"), "")
            elif each.confidence is None:
                table.add_row(path, Text(each.status, "red"), Text(printable(each.reason), "red"))
            else:
                table.add_row(path, Text(each.emotion or "", "bold"), _bar(each.confidence))
        console = Console()
        console.print(table)
        if self._seen > _SHOWN:
            console.print(
                f"and {self._seen - _SHOWN:,} more; all rows: --output emotions.csv", style="dim", highlight=False
            )


def _bar(confidence: float) -> str:
    return f"{100 * confidence:5.1f} % " + "█" * round(10 * confidence)
