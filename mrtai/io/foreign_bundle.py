"""The input contract and the classes of a MONAI bundle that another house made, read from its configurations without running them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mrtai.io.monai_config import NeedsCode, told
from mrtai.physics.axes import lengths_back
from mrtai.values.bundle import Channel, InputContract
from mrtai.values.class_names import LESION, our_region
from mrtai.values.refusal import DosimetryError

AIR_HU: Final = -1000.0
WIDEST_HU: Final = (-32768.0, 32767.0)
"""Where nothing is clipped."""

SPACING_TOLERANCE_MM: Final = 1e-3
HARMLESS: Final = frozenset(
    {"LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType", "ToDevice", "CropForeground"}
)
"""What neither moves a voxel nor changes its value, as far as a window can see."""

READABLE: Final = frozenset({"Orientation", "Spacing", "ScaleIntensityRange", "NormalizeIntensity", "ScaleIntensity"})

Config = Mapping[str, Any]
Transforms = dict[str, Config]


def foreign_contract(name: str, metadata: Config, inference: Config | None) -> InputContract:
    """Return what a bundle's network must be given.

    Raises:
        DosimetryError: a key is missing, only running its code would tell, or it is something that we do not do.
    """
    require_one_ct(name, metadata)
    if inference is None:
        raise _untold(name, "no configs/inference.json")
    steps = _transforms(name, inference)
    require_exclusive(name, inference)
    axes = str(_told(name, "Orientationd axcodes", _need(name, steps, "Orientation").get("axcodes"), inference))
    pixdim = _told(name, "Spacingd pixdim", _need(name, steps, "Spacing").get("pixdim"), inference)
    window = _told(name, "inferer roi_size", (inference.get("inferer") or {}).get("roi_size"), inference)
    window = window if isinstance(window, list) else [window] * 3
    try:
        return InputContract((_channel(name, steps, inference),), _cubic_mm(name, pixdim), lengths_back(window, axes), axes)
    except (TypeError, ValueError, LookupError) as cause:
        raise _untold(name, f"configs/inference.json: {cause}") from cause


def foreign_classes(name: str, metadata: Config) -> dict[int, str]:
    """Return our region by output channel; several channels may be one region, and the background is none."""
    try:
        (output, *_) = metadata["network_data_format"]["outputs"].values()
        written = {int(channel): str(label) for channel, label in output["channel_def"].items()}
        count = int(output["num_channels"])
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise _untold(name, "metadata.json: network_data_format outputs channel_def is missing or wrong", "CLASSES") from cause
    if sorted(written) != list(range(count)):
        found = f"num_channels {count}, but channel_def names {len(written)}"
        raise _refused(name, "its classes and its channels disagree", found, "correct metadata.json", "WRONG_CHANNELS")
    regions = {channel: region for channel, label in written.items() if (region := our_region(label))}
    if 0 in regions:
        raise _refused(name, "channel 0 must be the background", f"'{written[0]}'", "export the model with a background channel", "CLASSES")
    return regions


def foreign_task(classes: Mapping[int, str]) -> str:
    """Return ``lesions`` where every class is one, else ``organs``."""
    return "lesions" if classes and all(LESION.search(region) for region in classes.values()) else "organs"


def require_one_ct(name: str, metadata: Config) -> None:
    """Refuse a network whose input is not one CT: nobody here knows how to prepare anything else for it."""
    try:
        inputs = list(metadata["network_data_format"]["inputs"].values())
        said = [(str(one.get("modality")), str(one.get("format")), int(one["num_channels"])) for one in inputs]
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise _untold(name, "metadata.json: network_data_format inputs num_channels is missing or wrong") from cause
    modality, form, channels = said[0] if len(said) == 1 else ("", "", 0)
    if channels != 1 or (modality.upper() != "CT" and form != "hounsfield"):
        found = "; ".join(f"{count} channels of {what}" for what, _, count in said) or "no input"
        raise _untold(name, f"{found}, only one CT is known without a contract")


def require_exclusive(name: str, inference: Config) -> None:
    """Refuse channels that are not exclusive: a sigmoid each instead of one softmax."""
    steps = (inference.get("postprocessing") or {}).get("transforms") or []
    if any(isinstance(step, Mapping) and _plain(step) == "Activations" and step.get("sigmoid") for step in steps):
        raise _refused(
            name, "its channels may overlap (sigmoid)", "Activationsd sigmoid", "export one with exclusive classes (softmax)", "CLASSES"
        )


def _transforms(name: str, inference: Config) -> Transforms:
    """Return the preprocessing's transforms by plain name; refuses one that we cannot repeat."""
    preprocessing = _told(name, "preprocessing", inference.get("preprocessing"), inference, deep=False)
    steps = preprocessing.get("transforms") if isinstance(preprocessing, Mapping) else preprocessing
    if not isinstance(steps, Sequence) or not all(isinstance(step, Mapping) for step in steps):
        raise _untold(name, "configs/inference.json: preprocessing transforms is missing")
    found = {_plain(step): step for step in steps}
    strange = sorted(set(found) - HARMLESS - READABLE)
    if strange:
        raise _untold(name, f"configs/inference.json: preprocessing has {', '.join(strange)}, which is not known here")
    return found


def _channel(name: str, steps: Transforms, inference: Config) -> Channel:
    """Return how CT numbers become what the network sees."""

    def number(step: str, key: str, default: float | None = None) -> float:
        given = _told(name, f"{step}d {key}", steps[step].get(key, default), inference)
        return float(given)

    low, high = WIDEST_HU
    if "ScaleIntensityRange" in steps:
        a_min, a_max = (number("ScaleIntensityRange", key) for key in ("a_min", "a_max"))
        b_min, b_max = (number("ScaleIntensityRange", key, at) for key, at in (("b_min", 0.0), ("b_max", 1.0)))
        scale = (a_max - a_min) / (b_max - b_min)
        if _told(name, "ScaleIntensityRanged clip", steps["ScaleIntensityRange"].get("clip", False), inference):
            low, high = a_min, a_max
        if not {"NormalizeIntensity", "ScaleIntensity"} & set(steps):
            return Channel("HU", low, high, a_min - b_min * scale, scale, AIR_HU)
    elif "ScaleIntensity" in steps:
        # a normalisation before it changes nothing: only where the lowest and the highest value go counts
        minv, maxv = (number("ScaleIntensity", key, at) for key, at in (("minv", 0.0), ("maxv", 1.0)))
        return Channel("HU", low, high, -minv / (maxv - minv), 1 / (maxv - minv), AIR_HU, stretched=True)
    elif "NormalizeIntensity" in steps and {"subtrahend", "divisor"} <= set(steps["NormalizeIntensity"]):
        shift, scale = (number("NormalizeIntensity", key) for key in ("subtrahend", "divisor"))
        return Channel("HU", low, high, shift, scale, AIR_HU)
    raise _untold(name, f"configs/inference.json: ScaleIntensityRanged alone is read, found {', '.join(sorted(steps))}")


def _cubic_mm(name: str, pixdim: Any) -> float:
    edges = [float(edge) for edge in (pixdim if isinstance(pixdim, list) else [pixdim])]
    if max(edges) - min(edges) > SPACING_TOLERANCE_MM:
        raise _refused(name, "its voxels are not cubic", f"Spacingd pixdim {edges} mm", "choose a model of cubic voxels", "CONTRACT")
    return edges[0]


def _plain(step: Config) -> str:
    """Return a transform's name without its module and its mark of a dictionary transform."""
    return re.sub(r"(d|D|Dict)$", "", str(step.get("_target_", "")).rpartition(".")[2])


def _need(name: str, steps: Transforms, step: str) -> Config:
    if step not in steps:
        raise _untold(name, f"configs/inference.json: no {step}d in preprocessing")
    return steps[step]


def _told(name: str, key: str, value: Any, inference: Config, *, deep: bool = True) -> Any:
    if value is None:
        raise _untold(name, f"configs/inference.json: {key} is missing")
    try:
        return told(value, inference) if deep or isinstance(value, str) else value
    except (NeedsCode, KeyError) as cause:
        raise _untold(name, f"configs/inference.json: {key} cannot be told without running code ({cause})") from cause


def _untold(name: str, found: str, code: str = "CONTRACT") -> DosimetryError:
    remedy = 'write a block "mrtai" with "contract" and "classes" into metadata.json, as in the bundles shipped with mrtai'
    return _refused(name, "how to prepare an image for it is not told", found, remedy, code)


def _refused(name: str, what: str, found: str, remedy: str, code: str) -> DosimetryError:
    return DosimetryError(what, where=f"model {name}", found=found, remedy=remedy, code=f"BUNDLE_{code}")
