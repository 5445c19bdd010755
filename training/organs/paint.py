"""From tissues to pictures as a scanner would give them: numbers, texture, blur, noise, streaks, truncation, table and slices.

All of it works on a batch ``(n, z, y, x)`` in torch, so that a GPU paints as fast as it learns. Voxels are ``coarser`` times 3 mm.
"""

import torch

from training.organs.canvas import SPACING_MM
from training.organs.luck import Luck, blurred
from training.organs.tissues import INDEX, drawn_hounsfield

AIR_HU = -1000.0


def painted(luck: Luck, tissue: torch.Tensor, coarser: int = 1) -> torch.Tensor:
    """Return CTs [HU] of the tissues, both ``(n, z, y, x)``, with everything about the pictures drawn by ``luck``.

    Noise and texture are weaker in coarse voxels, as averages are.
    """
    shape, voxel_mm = tuple(tissue.shape[1:]), SPACING_MM * coarser
    values, texture = (torch.from_numpy(table).to(luck.device) for table in drawn_hounsfield(luck.rng, luck.pictures))
    fine, wide = (luck.smooth(shape, luck.rng.uniform(low, high) / voxel_mm) for low, high in ((4, 9), (15, 50)))
    grain = (luck.uniform(0, 1.0) * fine + luck.uniform(0, 0.8) * wide) / coarser
    index = _with_lesions(luck, tissue.long(), voxel_mm).flatten(1)
    image = values.gather(1, index).view_as(grain) + texture.gather(1, index).view_as(grain) * grain
    image = torch.where(luck.chance(0.6), _laid_down(luck, image, tissue != INDEX["air"], coarser), image)
    image = blurred(image, luck.uniform(0.25, 1.0))
    return scanned(luck, torch.where(luck.chance(0.35), _in_slices(luck, image, voxel_mm), image), coarser)


def scanned(luck: Luck, image: torch.Tensor, coarser: int = 1) -> torch.Tensor:
    """Return pictures with a scanner's noise, streaks, shading, wrong scale and truncation; real CTs are varied by it too."""
    shape = tuple(image.shape[1:])
    noise = blurred(luck.white(shape), luck.uniform(0, 0.8))
    noise = noise / noise.std(dim=(1, 2, 3), keepdim=True)
    image = image + luck.sent(luck.rng.gamma(1.6, 12.0, luck.pictures)) / coarser * noise
    image = image + luck.chance(0.4) * _streaks(luck, image)
    # cupping and scatter
    image = image + luck.chance(0.3) * luck.uniform(5, 25) * luck.smooth(shape, 200 / (SPACING_MM * coarser))
    # soft tissues further apart or closer together, as another tube voltage or dose of contrast shows them
    image = image + luck.chance(0.4) * luck.uniform(-25, 35) * torch.tanh((image - luck.uniform(20, 70)) / 50)
    image = (image * luck.normal(1, 0.02) + luck.normal(0, 6)).clamp(min=-1024)
    return torch.where(luck.chance(0.25), _cut_view(luck, image), image)


def _with_lesions(luck: Luck, tissue: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    """Return the tissues with lesions in some of the livers, of any shape and up to the liver's rim."""
    lumps = luck.smooth(tuple(tissue.shape[1:]), luck.rng.uniform(20, 70) / voxel_mm)
    liver = (tissue == INDEX["liver"]) | (tissue == INDEX["liver vessels"])
    return torch.where(luck.chance(0.35) & liver & (lumps > luck.uniform(0.8, 2.5)), INDEX["liver lesion"], tissue)


def _streaks(luck: Luck, image: torch.Tensor) -> torch.Tensor:
    """Return horizontal streaks through dense slices, as between arms or hips."""
    lines = blurred(luck.white((*image.shape[1:3], 1)), luck.uniform(0.5, 1.5), axes=(1,))
    lines = lines / lines.std(dim=(1, 2, 3), keepdim=True)
    dense = blurred((image > 250).float().mean(dim=(2, 3), keepdim=True), luck.uniform(1, 2), axes=(1,))
    strength = luck.uniform(5, 40) * (0.2 + dense / dense.amax(dim=1, keepdim=True).clamp(min=1e-6))
    return lines * strength * (image > -500)


def _laid_down(luck: Luck, image: torch.Tensor, body: torch.Tensor, coarser: int) -> torch.Tensor:
    """Return pictures with a table behind the body, and now and then clothes or a blanket over it."""
    ny, nx = image.shape[2:]
    rows = torch.arange(ny, device=image.device).view(1, 1, -1, 1)
    last = torch.where(body.any(dim=(1), keepdim=True).any(dim=3, keepdim=True), rows, 0).amax(dim=(1, 2, 3), keepdim=True)
    across = torch.arange(nx, device=image.device) - nx / 2
    depth = (rows - last - luck.uniform(0, 3) / coarser + luck.uniform(0, 0.0022) * coarser * across**2).floor()
    thick = luck.uniform(5, 9) / coarser
    shell = (depth < 1) | (depth >= thick - 1)
    table = torch.where(shell, luck.uniform(-700, 200), luck.uniform(-980, -850))
    image = torch.where((depth >= 0) & (depth < thick) & ~body, table, image)
    near, at = (torch.nn.functional.max_pool3d(body[:, None].float(), width, 1, width // 2)[:, 0] > 0 for width in (5, 3))
    return torch.where(luck.chance(0.4) & near & ~at & (image < -900), luck.uniform(-950, -600), image)


def _in_slices(luck: Luck, image: torch.Tensor, voxel_mm: float) -> torch.Tensor:
    """Return pictures as thicker slices show them: averaged and interpolated along z."""
    thick_mm = luck.rng.uniform(3.5, 6.0)
    if thick_mm <= voxel_mm:
        return image
    size = tuple(image.shape[1:])
    count = max(int(size[0] * voxel_mm / thick_mm), 2)
    thick = torch.nn.functional.interpolate(image[:, None], size=(count, *size[1:]), mode="area")
    return torch.nn.functional.interpolate(thick, size=size, mode="trilinear", align_corners=False)[:, 0]


def _cut_view(luck: Luck, image: torch.Tensor) -> torch.Tensor:
    """Return pictures cut to a round field of view, with air or the scanner's padding beyond."""
    ny, nx = image.shape[2:]
    y, x = (torch.arange(n, device=image.device).view(shape) for n, shape in ((ny, (1, 1, -1, 1)), (nx, (1, 1, 1, -1))))
    beyond = (y - ny / 2 - luck.normal(0, 6)) ** 2 + (x - nx / 2 - luck.normal(0, 6)) ** 2 > (luck.uniform(0.36, 0.6) * nx) ** 2
    return torch.where(beyond, torch.where(luck.chance(0.5), AIR_HU, -1024.0), image)
