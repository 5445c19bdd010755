"""One way to use several cores: compiled code that lets go of the interpreter's lock, one call a thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def parallel(work: Callable[[int], None], rows: int) -> None:
    """Call ``work`` with 0 … ``rows`` - 1, each in a thread of its own, and wait for all."""
    if rows == 1:
        work(0)
        return
    with ThreadPoolExecutor(rows) as pool:
        list(pool.map(work, range(rows)))
