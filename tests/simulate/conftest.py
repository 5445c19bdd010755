"""Small worlds for the simulator's tests."""

import numpy as np
import pytest

from mrtai.io.priors import agent_priors
from mrtai.io.tables import nuclide
from mrtai.simulate.anatomy import torso
from mrtai.simulate.patient import Settings, virtual_patient
from mrtai.values.kernel import PointKernel


def short_kernel(name="Lu-177", *, electron_mev=0.148, photon_mev=0.0, mean_mm=0.3):
    """Return a kernel with exponential electrons and photons that fall with exp(-r / 80 mm)."""
    edges = np.concatenate([[0.0], np.geomspace(0.01, 1000, 200)])
    electron = np.diff(-np.exp(-np.minimum(edges, 8 * mean_mm) / mean_mm))
    photon = np.diff(-np.exp(-edges / 80.0))
    return PointKernel(name, edges, electron_mev * electron / electron.sum(), photon_mev * photon, 8 * mean_mm, "test")


@pytest.fixture(scope="session")
def kernel_of():
    return short_kernel


@pytest.fixture(scope="session")
def lu177():
    return nuclide("Lu-177")


@pytest.fixture(scope="session")
def dotatate():
    return agent_priors("DOTATATE")


@pytest.fixture(scope="session")
def anatomy():
    return torso(np.random.default_rng(7))


@pytest.fixture(scope="session")
def patient_of(lu177, dotatate):
    """Return a function from settings to a virtual patient; its electrons are local and it has no photons, so truth is quick."""

    def build(**settings):
        progress = settings.pop("progress", None)
        chosen = Settings(dotatate, 7.4e9, **({"times_h": (24.1, 96.0), "seed": 3} | settings))
        return virtual_patient(nuclide=lu177, kernel=short_kernel(), settings=chosen, progress=progress)

    return build


@pytest.fixture(scope="session")
def exact(patient_of):
    return patient_of(scanner="exact", seed=4, times_h=(24.1,))


@pytest.fixture(scope="session")
def ideal(patient_of):
    return patient_of(scanner="ideal")


@pytest.fixture(scope="session")
def clinical(patient_of):
    return patient_of(scanner="clinical")
