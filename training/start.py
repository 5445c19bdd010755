"""Weights of an exported network to go on from: batch norm, which the export folds into convolutions, is unfolded again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch

from training.exported import read_tensors

LEAST_VARIANCE: Final = 1e-8
"""Of a channel that is always the same."""


def begun_from(exported: Path, network: torch.nn.Module, images: Iterable[torch.Tensor]) -> None:
    """Give ``network`` the weights of an exported ONNX file, so that it answers as the file does and learns as before the export.

    An exported norm no longer tells what it subtracted and divided by: mean and spread over ``images`` ``(n, channels, z, y, x)``, which
    should be like those of the training to come, take their place.

    Raises:
        ValueError: the file is another network's.
    """
    stored, given = _read(exported)
    images = list(images)
    called = _called(network, images[0][:1])
    own = network.state_dict()
    state = {name: tensor for name, tensor in stored.items() if name in own}
    alike = all(len(given[kind]) == len(names) for kind, names in called.items())
    for kind, names in called.items() if alike else ():
        for name, tensors in zip(names, given[kind], strict=True):
            state |= {f"{name}.{key}": tensor for key, tensor in zip(("weight", "bias"), tensors, strict=False)}
    state = {name: tensor.reshape(own[name].shape) for name, tensor in state.items() if tensor.numel() == own[name].numel()}
    norms = {name: part for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm3d)}
    folded = {name: norm for name, norm in norms.items() if f"{name}.running_var" not in stored}
    state |= {f"{name}.{key}": value for name, norm in folded.items() for key, value in _nothing(norm).items()}
    if set(own) - set(state) - {f"{name}.num_batches_tracked" for name in norms}:
        raise ValueError(f"{exported} holds no weights of this network")
    network.load_state_dict(own | state)
    _spread(network, folded, images)


def _read(exported: Path) -> tuple[dict[str, torch.Tensor], dict[type[torch.nn.Module], list[list[torch.Tensor]]]]:
    """Return all tensors by name, and those of convolutions and slopes, which the exporter renames, in the order of the graph."""
    stored, nodes = read_tensors(exported)
    weighted = [node for node in nodes if stored.keys() >= {*node.input[1:]}]
    given: dict[type[torch.nn.Module], list[list[torch.Tensor]]] = {
        kind: [[stored[name] for name in node.input[1:]] for node in weighted if node.op_type == operation]
        for kind, operation in ((torch.nn.Conv3d, "Conv"), (torch.nn.PReLU, "PRelu"))
    }
    return stored, given


def _called(network: torch.nn.Module, image: torch.Tensor) -> dict[type[torch.nn.Module], list[str]]:
    """Return the names of convolutions and slopes in the order in which ``image`` passes them."""
    called: dict[type[torch.nn.Module], list[str]] = {torch.nn.Conv3d: [], torch.nn.PReLU: []}
    hooks = [
        part.register_forward_hook(lambda part, _, __, name=name: called[type(part)].append(name))
        for name, part in network.named_modules()
        if type(part) in called
    ]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return called


def _nothing(norm: torch.nn.BatchNorm3d) -> dict[str, torch.Tensor]:
    """Return the state of a norm that changes nothing."""
    zero, one = torch.zeros(norm.num_features), torch.ones(norm.num_features)
    return {"running_mean": zero, "running_var": one - norm.eps, "weight": one, "bias": zero}


def _spread(network: torch.nn.Module, norms: dict[str, torch.nn.BatchNorm3d], images: Iterable[torch.Tensor]) -> None:
    """Let norms that change nothing subtract and divide by what they see in ``images``, and undo it by their own weights, in place."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in norms}

    def note(values: torch.Tensor, name: str) -> None:
        flat = values.double().transpose(0, 1).flatten(1)  # (channels, voxels)
        seen[name].append(torch.stack([flat.mean(1), flat.square().mean(1)]))

    hooks = [norm.register_forward_pre_hook(lambda _, values, name=name: note(values[0], name)) for name, norm in norms.items()]
    with torch.no_grad():
        for image in images:
            network.eval()(image)
        for hook in hooks:
            hook.remove()
        for name, norm in norms.items():
            mean, square = torch.stack(seen[name]).mean(0)
            variance = (square - mean.square()).clamp_min(LEAST_VARIANCE)
            norm.running_mean, norm.running_var = mean.float(), variance.float()
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
