"""Which engines a run is worked with: what was asked for, else what the protocol says, with the names that the report gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mrtai.engines import CHECK_ENGINES, DOSE_ENGINES, METHODS, NEURAL, dose_engine, known_beside, tac_model
from mrtai.engines.curve_fit import BloodFit
from mrtai.engines.curve_net import NAME, TASK
from mrtai.engines.dose_net_input import DOSE_NET, DOSE_TASK
from mrtai.engines.lesion_tracking import Tracked
from mrtai.engines.segmenters import LESION_METHODS, Drawing, as_given, drawn_by
from mrtai.io.bundles import load_bundle, load_network
from mrtai.io.earlier_cycles import EarlierCase, by_region
from mrtai.io.earlier_lesions import names_are_identities, read_earlier_lesions
from mrtai.io.nifti import read_labels
from mrtai.io.nuclear_data import NUCLEAR_DATA
from mrtai.io.priors import known_agent
from mrtai.io.tables import nuclide
from mrtai.physics.chain import chain
from mrtai.ports import Aligner, DoseEngine, Segmenter, TacModel
from mrtai.values.bundle import Network
from mrtai.values.chain import Chain
from mrtai.values.half_life import Known
from mrtai.values.kernel import PointKernel
from mrtai.values.nuclide import Nuclide
from mrtai.values.protocol import NO_SEGMENTER, PARTIAL_VOLUME, TOTAL_SEGMENTATOR
from mrtai.values.protocol import Protocol as DosimetryProtocol
from mrtai.values.refusal import DosimetryError
from mrtai.values.study import Cycle


@dataclass(frozen=True, slots=True)
class Engines:
    """What fills the sockets of this run for one nuclide, with the names the report gives them (room → engine).

    ``known`` is what the kinetics know beside the scans; without it no next scan is proposed. ``blood`` fits blood samples, else
    ``kinetics`` does. ``models`` are the digests of the trained models among them, by name. ``kernel`` is the energy around a decay,
    where one is shipped. ``rates`` gives the dose rates of single scans where that is another engine than ``dose``.
    """

    nuclide: Nuclide
    aligner: Aligner
    segmenter: Segmenter
    kinetics: TacModel
    dose: DoseEngine
    check: DoseEngine | None
    chain: Chain
    names: Mapping[str, str]
    device: str = "cpu"
    threads: int = 1
    known: Known | None = None
    blood: TacModel | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    kernel: PointKernel | None = None
    rates: DoseEngine | None = None


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """What ``mrtai run`` is asked for: paths, names and numbers, so that it can cross to another process.

    ``kinetics``, ``engine``, ``check_engine``, ``pvc`` (partial volume) and the segmenters replace the protocol's; ``patient`` and
    ``cycle`` choose where the study holds several; ``priors`` are CASE folders or fits of the patient's earlier cycles. With ``whole``
    the study is one cycle by a person's or a site's word: ``cycle`` is only its number, and no scan may be left out.
    """

    study: Path
    protocol: str
    out: Path
    labels: Path | None = None
    patient: str | None = field(default=None, repr=False)
    cycle: str | None = None
    study_toml: Path | None = None
    calibrations: tuple[Path, ...] = ()
    priors: tuple[Path, ...] = ()
    kinetics: str | None = None
    engine: str | None = None
    check_engine: str | None = None
    segmenter: str | None = None
    lesion_segmenter: str | None = None
    pvc: str | None = None
    device: str = "cpu"
    threads: int = 1
    seed: int = 7
    whole: bool = False


def chosen(protocol: DosimetryProtocol, request: CaseRequest) -> DosimetryProtocol:
    """Return the protocol with what the request names in place of its own; refuses names that no engine has."""
    choice = replace(
        protocol,
        kinetics=request.kinetics or protocol.kinetics,
        dose_engine=request.engine or protocol.dose_engine,
        check_engine=request.check_engine or protocol.check_engine,
        segmenter=request.segmenter or protocol.segmenter,
        lesion_segmenter=request.lesion_segmenter or protocol.lesion_segmenter,
        partial_volume=request.pvc or protocol.partial_volume,
    )
    for key, value, known in (
        ("kinetics", choice.kinetics, METHODS),
        ("dose_engine", choice.dose_engine, DOSE_ENGINES),
        ("check_engine", choice.check_engine, CHECK_ENGINES),
        ("pvc", choice.partial_volume, PARTIAL_VOLUME),
    ):
        if value not in known:
            raise DosimetryError(
                f"unknown {key}",
                where=f"protocol {protocol.name}",
                found=repr(value),
                remedy=f"choose {', '.join(known)}",
                code="BAD_PROTOCOL",
            )
    return choice


def engines_for(
    protocol: DosimetryProtocol, request: CaseRequest, earlier: tuple[EarlierCase, ...] = (), *, cycle: Cycle | None = None
) -> Engines:
    """Return the engines of a run with the names that its report gives them.

    ``earlier`` cycles and the population of the ``cycle``'s agent, else of the protocol's, inform the kinetics. Lesions of an earlier
    cycle do so only where drawn lesions keep their names: else the same number need not be the same lesion. Contours that the cycle
    brings are taken instead of a model's.
    """
    from mrtai.engines.align import RigidAligner  # SimpleITK, which `mrtai --help` does not need

    decay = nuclide(protocol.nuclide)
    population = known_agent(cycle.administration.agent if cycle else "") or known_agent(protocol.agent)
    priors = {} if population is None else population.kinetics
    drawing = _drawing(protocol, request, cycle)
    lesions = read_earlier_lesions(earlier)
    # a person's names stay as they are, so that only those of drawn lesions mean the same in every cycle
    same = not drawing.given and names_are_identities(earlier, lesions)
    known = known_beside(decay, protocol, priors=priors, earlier=by_region(earlier, lesions=same))
    aligner = RigidAligner(seed=request.seed)
    network, of_dose = curve_network(protocol.kinetics), dose_network(protocol.dose_engine)
    networks: list[Network] = [found for found in (network, of_dose) if found is not None]
    names = {"aligner": "rigid", **drawing.names, "kinetics": protocol.kinetics, "dose": protocol.dose_engine}
    return Engines(
        nuclide=decay,
        aligner=aligner,
        segmenter=Tracked(drawing.segmenter, aligner, lesions, rename=not drawing.given),
        kinetics=tac_model(protocol.kinetics, known, network),
        dose=_engine(protocol.dose_engine, protocol, request, network=of_dose),
        rates=_engine("convolution", protocol, request) if of_dose else None,
        check=None if protocol.check_engine == "none" else _engine(protocol.check_engine, protocol, request, protocol.check_histories),
        chain=chain(protocol.nuclide, NUCLEAR_DATA),
        names=names | {"check": protocol.check_engine},
        device=request.device,
        threads=request.threads,
        known=known,
        blood=BloodFit(known),
        models={model.label: model.sha256 for model in drawing.models} | {model.label: model.sha256 for model in networks},
        kernel=_kernel(protocol.nuclide),
    )


def _kernel(name: str) -> PointKernel | None:
    try:
        return NUCLEAR_DATA.point_kernel(name)
    except DosimetryError:  # only uncertainties would use it, and they have a default
        return None


def curve_network(method: str) -> Network | None:
    """Return the verified network that a method of kinetics reads curves with, None for a method without one."""
    return load_network(NAME, TASK) if method == "neural" else None


def dose_network(engine: str) -> Network | None:
    """Return the verified network that a dose engine answers with, None for an engine without one."""
    return load_network(DOSE_NET, DOSE_TASK) if engine == NEURAL else None


def _drawing(protocol: DosimetryProtocol, request: CaseRequest, cycle: Cycle | None) -> Drawing:
    """Return what draws: contours given with the request, else the study's own, else the protocol's models."""
    if request.labels is not None:
        return as_given(read_labels(request.labels))
    if protocol.segmenter == NO_SEGMENTER or (cycle and any(point.contours is not None for point in cycle.time_points)):
        return as_given()
    organs = None if protocol.segmenter == TOTAL_SEGMENTATOR else load_bundle(protocol.segmenter)
    lesions = protocol.lesion_segmenter
    model = None if lesions in LESION_METHODS else load_bundle(lesions)
    return drawn_by(organs, lesions, model, device=request.device, threads=request.threads)


def _engine(
    name: str, protocol: DosimetryProtocol, request: CaseRequest, histories: int | None = None, network: Network | None = None
) -> DoseEngine:
    """Return one dose engine of a run; ``histories`` for a Monte Carlo that only checks, ``network`` for the neural one."""
    settings: dict[str, Any] = {"seed": request.seed} if name == "monte-carlo" else {}
    if settings and histories is not None:
        settings["histories"] = histories
    if name == NEURAL:
        settings = {"model": network, "fwhm_mm": protocol.spect_fwhm_mm}
    return dose_engine(
        name,
        nuclide(protocol.nuclide),
        NUCLEAR_DATA,
        progeny=protocol.progeny,
        device=request.device,
        threads=request.threads,
        **settings,
    )
