"""A virtual patient under the clinical scanner, read as a study is: what the benchmarks of the walk start from."""

import tempfile
from pathlib import Path

from mrtai.cycle import read, study_of
from mrtai.engines_of_run import CaseRequest, Engines, engines_for
from mrtai.io.priors import agent_priors
from mrtai.io.simulated_study import write_study
from mrtai.io.tables import nuclide, point_kernel
from mrtai.simulate.patient import Settings, virtual_patient
from mrtai.values.protocol import Protocol
from mrtai.values.study import Cycle
from mrtai.values.virtual import VirtualPatient


def virtual_cycle(seed: int, protocol: Protocol, times_h: tuple[float, ...]) -> tuple[VirtualPatient, Cycle, Engines]:
    """Return the patient of a seed with population kinetics, its cycle, and engines that take the true contours and check nothing."""
    settings = Settings(
        agent_priors(protocol.agent), protocol.typical_administered_bq, times_h, seed, scanner="clinical", kinetics="population"
    )
    virtual = virtual_patient(nuclide=nuclide(protocol.nuclide), kernel=point_kernel(protocol.nuclide), settings=settings)
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        write_study(virtual, study, as_format="nifti")
        request = CaseRequest(study, protocol.name, Path(folder) / "case", labels=study / "truth" / "labels.nii.gz")
        cycle = read(study_of(request), protocol)
        return virtual, cycle, engines_for(protocol, request, cycle=cycle)
