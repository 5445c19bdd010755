"""What a terminal shows while work goes on; a pipe sees nothing of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mrtai.cycle import Step

Result = TypeVar("Result")


def watched(title: str) -> "Step":
    """Return a step that shows each room on a terminal's progress bar, and nothing in a pipe."""
    from rich.console import Console
    from rich.status import Status

    console = Console(stderr=True)

    def step(room: Callable[..., Result], *args: Any) -> Result:
        if not console.is_terminal:
            return room(*args)
        with Status(f"{title}: {room.__name__} …", console=console):
            result = room(*args)
        console.print(f"[green]✓[/green] {room.__name__}")
        return result

    return step


@contextmanager
def bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """Give a function that takes what is being done and the fraction finished; quiet where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        work = progress.add_task(title, total=1.0)
        yield lambda what, done: progress.update(work, completed=done, description=f"{title}: {what}")


@contextmanager
def working(title: str) -> Iterator[None]:
    """Show on a terminal that something is being done whose length nobody knows; a pipe sees nothing of it."""
    from rich.console import Console
    from rich.status import Status

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Status(f"{title} …", console=console):
        yield
