"""Channels whose values a network wants stretched to each image's own range: settled for one image, before anything else sees them."""

from collections.abc import Sequence
from dataclasses import replace

from mrtai.engines.prepare import Map, lattice, on_lattice
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.grid import Grid


def for_image(contract: InputContract, maps: Sequence[Map]) -> InputContract:
    """Return the contract with the range of these maps, one per channel, where a channel is ``stretched``; else as it is."""
    if not any(channel.stretched for channel in contract.channels):
        return contract
    grid = lattice(maps[0][1], contract.spacing_mm)
    pairs = zip(contract.channels, maps, strict=True)
    return replace(contract, channels=tuple(_settled(channel, image, grid) for channel, image in pairs))


def _settled(channel: Channel, image: Map, grid: Grid) -> Channel:
    if not channel.stretched:
        return channel
    values = on_lattice(*image, grid, channel.outside).clip(channel.low, channel.high)
    # an image of one value has no range: one unit keeps it finite
    low = float(values.min())
    high = max(float(values.max()), low + 1.0)
    width = high - low
    return replace(channel, low=low, high=high, shift=low + channel.shift * width, scale=channel.scale * width, stretched=False)
