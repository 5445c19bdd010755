"""A room as a Prefect task: named, tried again, and silent about what a library's message may quote."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from mrtai.values.refusal import DosimetryError
from workflows.faults import where_of

Result = TypeVar("Result")


class RoomFault(Exception):
    """A fault of ours in a room: not the study's refusal, and not a lost disk."""


def lost_disk(fault: object) -> bool:
    """Return True when a failed room is worth another try: a refusal is final, a full disk or lost mount may pass."""
    return isinstance(fault, OSError)


def room_as_task(
    room: Callable[..., Result], *args: Any, delays_s: Sequence[float] = (5.0, 5.0), may_pass: Callable[[object], bool] = lost_disk
) -> Result:
    """Enter the room in a Prefect task of its name, again after each of ``delays_s`` [s] where ``may_pass`` says so of what was raised.

    The arguments ride in a closure instead of as task parameters, so that Prefect neither walks through nor hashes voxels.

    Raises:
        RoomFault: in place of any exception but refusals and those of the operating system.
    """
    name = room.__name__.strip("_")

    def enter() -> Result:
        try:
            return room(*args)
        except (DosimetryError, OSError):
            raise
        except Exception as fault:
            # Prefect keeps messages and traces; those of a library may quote a header
            raise RoomFault(f"{name}: {where_of(fault)}") from None

    wrapped = task(
        name=name,
        task_run_name=name,
        retries=len(delays_s),
        retry_delay_seconds=[float(delay) for delay in delays_s],
        retry_condition_fn=lambda _, __, state: may_pass(state.result(raise_on_failure=False)),
        cache_policy=NO_CACHE,
        persist_result=False,
    )(enter)
    return wrapped()
