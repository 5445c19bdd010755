"""Bundles as other houses publish them, made from a tiny network."""

import json
import zipfile

import torch

LOBES = [f"lung_{lobe}" for lobe in ("upper_lobe_left", "lower_lobe_left", "upper_lobe_right", "middle_lobe_right", "lower_lobe_right")]
VERTEBRAE = [f"vertebrae_{part}{n}" for part, last in (("L", 5), ("T", 12), ("C", 7)) for n in range(last, 0, -1)]
PAIRED = [
    "humerus",
    "scapula",
    "clavicula",
    "femur",
    "hip",
    "gluteus_maximus",
    "gluteus_medius",
    "gluteus_minimus",
    "autochthon",
    "iliopsoas",
]
WHOLE_BODY = [
    *["background", "spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "aorta", "inferior_vena_cava"],
    *["portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right", "adrenal_gland_left", *LOBES, *VERTEBRAE, "esophagus", "trachea"],
    *["heart_myocardium", "heart_atrium_left", "heart_ventricle_left", "heart_atrium_right", "heart_ventricle_right", "pulmonary_artery"],
    *["brain", "iliac_artery_left", "iliac_artery_right", "iliac_vena_left", "iliac_vena_right", "small_bowel", "duodenum", "colon"],
    *[f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)],
    *[f"{bone}_{side}" for bone in PAIRED[:5] for side in ("left", "right")],
    *["sacrum", "face", *[f"{muscle}_{side}" for muscle in PAIRED[5:] for side in ("left", "right")], "urinary_bladder"],
]
"""The classes of the model zoo's whole-body bundle (those of TotalSegmentator 1), in its order."""

SCALED = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 500, "b_min": -1.0, "b_max": 2.0, "clip": True}
STRETCHED = (
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
    {"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 1.0},
)


def inference(axcodes="SPL", values=(SCALED,), window=(16, 16, 16), **changes):
    """An inference configuration in the style of the model zoo: references, and code where only values are needed."""
    transforms = [
        {"_target_": "LoadImaged", "keys": "@image_key"},
        {"_target_": "EnsureTyped", "keys": "@image_key"},
        {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
        {"_target_": "Orientationd", "keys": "@image_key", "axcodes": axcodes},
        {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"},
        *values,
    ]
    return {
        "displayable_configs": {"highres": True, "sw_overlap": 0.25},
        "imports": ["$import os"],
        "image_key": "image",
        "pixdim": "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": list(window), "overlap": "@displayable_configs#sw_overlap"},
        "postprocessing": {"_target_": "Compose", "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}]},
    } | changes


def metadata(classes=WHOLE_BODY, channels=1):
    image = {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": channels, "spatial_shape": [16, 16, 16]}
    pred = {"type": "image", "format": "segmentation", "num_channels": len(classes), "spatial_shape": [16, 16, 16]}
    common = {"dtype": "float32", "value_range": [0, 1], "is_patch_data": True}
    return {
        "version": "0.2.5",
        "monai_version": "1.4.0",
        "name": "Whole body CT segmentation",
        "intended_use": "This is an example, not to be used for diagnostic purposes",
        "network_data_format": {
            "inputs": {"image": image | common | {"channel_def": {"0": "image"}}},
            "outputs": {"pred": pred | common | {"channel_def": {str(n): name for n, name in enumerate(classes)}}},
        },
    }


def foreign(folder, *, classes=WHOLE_BODY, channels=1, said=None, told=None, weights="model.onnx", fixed=True):
    """Write a bundle of another house: its ONNX takes one window of fixed size, as MONAI's own export makes it."""
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(said or metadata(classes)))
    (folder / "configs" / "inference.json").write_text(json.dumps(told or inference()))
    (folder / "docs" / "README.md").write_text("# Whole body\n")
    if weights.endswith(".onnx"):
        onnx_file(folder / "models" / weights, len(classes), channels, fixed=fixed)
    else:
        (folder / "models" / weights).write_bytes(b"PK\3\4 whatever pickles hold")
    return folder


def onnx_file(path, outputs, inputs=1, *, fixed=True):
    torch.manual_seed(0)
    axes = None if fixed else {name: {2: "z", 3: "y", 4: "x"} for name in ("data", "pred")}
    network, sample = torch.nn.Conv3d(inputs, outputs, 1), torch.zeros(1, inputs, 16, 16, 16)
    torch.onnx.export(network, (sample,), str(path), input_names=["data"], output_names=["pred"], dynamic_axes=axes, dynamo=False)
    return path


def zipped(folder, archive, root=None):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                opened.write(path, f"{folder.name if root is None else root}/{path.relative_to(folder)}".lstrip("/"))
    return archive
