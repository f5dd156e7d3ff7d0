"""What a command shows on stderr while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

Count = Callable[[int, int], None]
"""Called with what is done and the total (0 where it is not known)."""
Stage = Callable[[str, int, int], None]
"""Called with what is under way, what of it is done, and its total."""
Step = Callable[[str], None]
"""Called with a line that names the step that begins."""
LASTING = "Left out"
"""How a line begins that says what was not done: it stays on the terminal."""


@contextmanager
def progress_bar(text: str) -> Iterator[Count]:
    """A bar on stderr that goes away when done; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=None)

        def show(done: int, total: int) -> None:
            # Called for each picture; the bar itself is drawn ten times a second by its own thread.
            bar.update(task, completed=done, total=total or None)

        yield show


@contextmanager
def late_bar(text: str, after_s: float = 2.0) -> Iterator[Count]:
    """The same for what is mostly done at once: nothing is drawn before some seconds have passed."""
    start = time.monotonic()
    with ExitStack() as stack:
        bar: list[Count] = []

        def show(done: int, total: int) -> None:
            if not bar and time.monotonic() - start >= after_s:
                bar.append(stack.enter_context(progress_bar(text)))
            for each in bar:
                each(done, total)

        yield show


@contextmanager
def stages() -> Iterator[Stage]:
    """A bar on stderr for one stage after the other; goes away when done; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:16}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda text, done, total: bar.update(task, description=text, completed=done, total=total or None)


@contextmanager
def steps() -> Iterator[Step]:
    """Shows the current step on stderr: a spinner on a terminal, a line per step elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    with console.status("Starting") as status:

        def show(line: str) -> None:
            if line.startswith(LASTING):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                status.update(f"{line} ...")

        yield show
