"""Our Monte Carlo around a point against EGSnrc: kernels, spheres and voxel S values."""

import csv

import numpy as np
import pytest

from mrtai.engines.monte_carlo.kernel import shell_energy, water_kernel
from mrtai.engines.monte_carlo.source import photons
from mrtai.engines.monte_carlo.tables import PHOTON_KERNEL_CUTS
from mrtai.io.cross_sections import photon_cross_sections
from mrtai.io.tables import point_kernel, spectrum
from mrtai.physics.kernel import electron_octant, photon_octant
from mrtai.units import JOULES_PER_MEV

FILES = {"Lu-177": "177Lu", "I-131": "131I", "Y-90": "90Y"}


def cumulated(edges_mm, energy_mev, at_mm):
    return np.interp(np.log(at_mm), np.log(edges_mm[1:]), np.cumsum(energy_mev))


def radius_of(table, column, share):
    total = float(table[f"emitted_{column}_MeV"])
    return np.interp(share * total, np.concatenate([[0.0], np.cumsum(table[f"E_{column}_MeV"])]), table["r_edges_mm"]), total


@pytest.mark.parametrize("name", FILES)
def test_the_electrons_energy_within_a_radius_is_egsnrcs(reference, name):
    # the shipped kernel's electrons, and the bremsstrahlung that EGSnrc counts with them is below 0.5 % and mostly far away
    table, kernel = np.load(reference / "dpk" / f"dpk_{FILES[name]}_water.npz"), point_kernel(name)
    for share, tolerance in ((0.05, 0.04), (0.1, 0.04), (0.2, 0.02), (0.5, 0.02), (0.8, 0.02), (0.9, 0.02), (0.95, 0.02)):
        radius, total = radius_of(table, "electron", share)
        assert cumulated(kernel.r_edges_mm, kernel.electron_mev, radius) / (share * total) == pytest.approx(1.0, abs=tolerance), share


@pytest.mark.parametrize("name", ["Lu-177", pytest.param("I-131", marks=pytest.mark.slow)])
def test_the_photons_energy_within_a_radius_is_egsnrcs(reference, name):
    # a run of its own: the shipped photon column holds bremsstrahlung, which the reference counts with the electrons
    table = np.load(reference / "dpk" / f"dpk_{FILES[name]}_water.npz")
    mine = shell_energy(photons(spectrum(name)), PHOTON_KERNEL_CUTS, photon_cross_sections(), 400_000, 5, 2)[:, 1].mean(axis=0)
    edges = point_kernel(name).r_edges_mm
    # 400 000 photons: 0.6 % at the smallest share
    for share in (0.05, 0.1, 0.2, 0.5, 0.8, 0.95):
        radius, total = radius_of(table, "photon", share)
        assert cumulated(edges, mine, radius) / (share * total) == pytest.approx(1.0, abs=0.02), share


@pytest.mark.parametrize("name", FILES)
def test_emitted_energy_is_conserved(name):
    kernel, emitted = point_kernel(name), spectrum(name)
    beta = np.trapezoid(emitted.betas[:, 0] * emitted.betas[:, 1], emitted.betas[:, 0])
    expected = beta + (emitted.electrons.prod(axis=1)).sum() + emitted.photons.prod(axis=1).sum()
    # 0.1 % of 131I's photon energy passes one metre of water
    assert kernel.electron_mev.sum() + kernel.photon_mev.sum() == pytest.approx(expected, rel=1.5e-3)


@pytest.mark.parametrize("name", FILES)
def test_voxel_s_values_of_4_8_mm_are_egsnrcs(reference, name):
    table = np.load(reference / "vsv" / f"vsv_{FILES[name]}_water_4.8mm.npz")["S_total"]
    kernel, spacing = point_kernel(name), np.full(3, 4.8)
    octant = photon_octant(kernel, spacing, (3, 3, 3))
    electrons = electron_octant(kernel, spacing, (3, 3, 3))
    octant[tuple(slice(n) for n in electrons.shape)] += electrons
    # mGy/(MBq s) of one voxel's mass in water
    mine = octant * JOULES_PER_MEV * 1e9 / (4.8**3 * 1e-6)
    assert mine[0, 0, 0] == pytest.approx(table[0, 0, 0], rel=0.03)
    assert mine[0, 0, 1] == pytest.approx(table[0, 0, 1], rel=0.03)
    assert mine[0, 1, 1] == pytest.approx(table[0, 1, 1], rel=0.03)
    assert mine[1, 1, 1] == pytest.approx(table[1, 1, 1], rel=0.03)


def test_spheres_of_177lu_have_egsnrcs_s_values(reference):
    kernel = point_kernel("Lu-177")
    middle = np.sqrt(kernel.r_edges_mm[1:] * np.maximum(kernel.r_edges_mm[:-1], 1e-3))
    energy = kernel.electron_mev + kernel.photon_mev
    with (reference / "spheres" / "sphere_S_177Lu_water.csv").open() as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    assert rows
    for row in rows:
        volume_ml = float(next(value for key, value in row.items() if "mL" in key or "ml" in key))
        radius_mm = (volume_ml * 1e3 * 3 / (4 * np.pi)) ** (1 / 3)
        x = middle / radius_mm
        pairs = np.where(x < 2, 1 - 0.75 * x + x**3 / 16, 0.0)  # both points of a pair inside the sphere
        s_mgy = (energy * pairs).sum() * JOULES_PER_MEV * 1e9 / (volume_ml * 1e-3)
        expected = float(next(value for key, value in row.items() if key.startswith("S_total") or key.lower().startswith("s_total")))
        assert s_mgy == pytest.approx(expected, rel=0.02)


def test_the_shipped_kernel_can_be_made_again():
    made = water_kernel(spectrum("Lu-177"), photon_cross_sections(), histories=20_000, seed=3, threads=2).kernel
    shipped = point_kernel("Lu-177")
    for radius in (0.2, 0.5, 1.0):
        # 20 000 electrons of one another's like: 1 %
        assert cumulated(made.r_edges_mm, made.electron_mev, radius) == pytest.approx(
            cumulated(shipped.r_edges_mm, shipped.electron_mev, radius), rel=0.02
        )


def test_the_number_of_threads_changes_nothing():
    one, two = (water_kernel(spectrum("Lu-177"), photon_cross_sections(), histories=2_000, threads=n).kernel for n in (1, 2))
    assert np.allclose(one.electron_mev, two.electron_mev, rtol=1e-9)
    assert np.allclose(one.photon_mev, two.photon_mev, rtol=1e-9)
