"""Numbers and pairs as options take them."""

import argparse
from typing import Final

CENTURY_DAYS: Final = 36_500


def positive(text: str) -> int:
    """Return a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return value


def days(text: str) -> int:
    """Return a whole number of days, at most a century."""
    value = positive(text)
    if value > CENTURY_DAYS:
        raise argparse.ArgumentTypeError(f"at most {CENTURY_DAYS} days are meant")
    return value


def seed(text: str) -> int:
    """Return a whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a whole number from 0 is needed")
    return value


def positive_number(text: str) -> float:
    """Return a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return value


def spoken(text: str) -> str:
    """Return a text with something in it, without blanks around it."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("a text in one line is needed")
    return text.strip()


def times(text: str) -> tuple[float, ...]:
    """Return increasing positive hours, separated by commas."""
    hours = tuple(float(part) for part in text.split(","))
    if not hours or not all(a < b < float("inf") for a, b in zip((0.0, *hours), hours, strict=False)):
        raise argparse.ArgumentTypeError("increasing positive hours are needed, for example 24,96,168")
    return hours


def region_half_life(text: str) -> tuple[str, float]:
    """Return region and hours of ``REGION=HOURS``."""
    region, _, hours = text.partition("=")
    try:
        return region, positive_number(hours)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError("REGION=HOURS is needed, for example kidney_left=48") from error
