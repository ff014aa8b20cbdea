"""Backbones of torchvision and timm with a feature pyramid.

A name is torchvision's ("resnet50", "resnext101_32x8d", "convnext_tiny", "swin_t") or timm's after "timm/"
("timm/legacy_senet154", "timm/convnext_tiny.fb_in22k").

Letters: B images, L levels (those of strides 4, 8, 16, 32 that the backbone has), F_l channels of level l.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wildbox.detectors.deformable import make_deformable
from wildbox.detectors.weight_files import read_content, state_of
from wildbox.errors import ConfigError, InputError

STRIDES = (4, 8, 16, 32)
PROBE = (96, 128)
"""Height and width of the image that a backbone is looked at with; no multiple of a window of 7 cells."""

BackboneWeights = Path | Literal["imagenet"] | None
"""A state dict's file, the library's own from its hub, or random ones."""


class Stages(nn.Sequential):
    """Modules in a row, the maps after some of which are given out: (B, 3, H, W) -> L maps (B, F_l, h, w).

    Args:
        modules: in order; parameters keep their names.
        outputs: names of the modules.
        channels: F_l; a map that has them last (Swin) is turned.
    """

    def __init__(
        self, modules: OrderedDict[str, nn.Module], *, outputs: Sequence[str], channels: Sequence[int]
    ) -> None:
        last = list(modules).index(outputs[-1])
        super().__init__(OrderedDict(list(modules.items())[: last + 1]))
        self.outputs, self.channels = tuple(outputs), tuple(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for name, module in self.named_children():
            x = module(x)
            if name in self.outputs:
                maps.append(_channels_first(x, self.channels[len(maps)]))
        return maps

    def late_modules(self) -> list[nn.Module]:
        """Those that lead to the levels after the first: a ResNet's stages 3 to 5."""
        first = [name for name, _ in self.named_children()].index(self.outputs[0])
        return [module for number, module in enumerate(self.children()) if number > first]


class TimmStages(nn.Module):
    """A timm model made with `features_only=True`, of which some maps are given out."""

    def __init__(self, model: nn.Module, *, chosen: Sequence[int]) -> None:
        super().__init__()
        self.model, self.chosen = model, tuple(chosen)
        self.channels = tuple(model.feature_info.channels()[i] for i in chosen)  # type: ignore[operator, union-attr]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.model(x)
        return [_channels_first(maps[i], c) for i, c in zip(self.chosen, self.channels, strict=True)]

    def late_modules(self) -> list[nn.Module]:
        """As `Stages.late_modules`, by what timm says produces a level."""
        info = self.model.feature_info.get_dicts()  # type: ignore[operator, union-attr]
        names = [entry["module"].replace(".", "_") for entry in info]
        children = dict(self.model.named_children())
        if not all(name in children for name in names):
            raise ConfigError(
                "this backbone cannot be made deformable: its stages are not modules of their own"
            )
        order, first = list(children), names[self.chosen[0]]
        return [children[name] for name in order[order.index(first) + 1 :]]


class Pyramid(nn.Module):
    """A body and torchvision's feature pyramid: (B, 3, H, W) -> maps "0" .. and "pool", coarser by 2 each.

    Args:
        body: gives maps at `strides`, with the channels of its `channels`.
    """

    def __init__(self, body: Stages | TimmStages, *, strides: Sequence[int], out_channels: int = 256) -> None:
        super().__init__()
        self.body, self.out_channels = body, out_channels
        self.strides = (*strides, 2 * strides[-1])
        self.fpn = FeaturePyramidNetwork(list(body.channels), out_channels, LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = self.fpn(OrderedDict((str(k), m) for k, m in enumerate(self.body(x))))
        return maps


def pyramid(
    name: str,
    *,
    weights: BackboneWeights = None,
    deformable: bool = False,
    frozen_stages: int = 0,
    frozen_batch_norm: bool = True,
    out_channels: int = 256,
) -> Pyramid:
    """A backbone by its name, with a feature pyramid.

    Args:
        weights: "imagenet" fetches what the library publishes for the name; a file holds the classifier's or the
            body's state dict (for timm, also safetensors), of which what lies behind the body is left.
        deformable: 3 x 3 convolutions behind the first level are made deformable (a ResNet's stages 3 to 5).
        frozen_stages: how many levels, from the finest, do not learn, nor what leads to them.
        frozen_batch_norm: statistics and factors of batch normalisation stay as they are.
        out_channels: of the pyramid's maps.
    Raises:
        ConfigError: a name that the library does not have, timm where it is not installed, a network without
            maps at several strides, more frozen stages than levels.
        InputError: a file that does not open or does not hold the body's weights.

    >>> body = pyramid("resnet18")
    >>> [tuple(m.shape[1:]) for m in body(torch.zeros(1, 3, 64, 64)).values()][::4]
    [(256, 16, 16), (256, 1, 1)]
    """
    body: Stages | TimmStages
    timm_name = name.removeprefix("timm/")
    if timm_name != name:
        body, strides = _timm_body(timm_name, weights, frozen_batch_norm)
    else:
        body, strides = _torchvision_body(name, weights, frozen_batch_norm)
    if deformable:
        make_deformable(body.late_modules())
    if not 0 <= frozen_stages <= len(strides):
        raise ConfigError(f"frozen_stages = {frozen_stages}: {name} has {len(strides)}")
    if frozen_stages:
        _freeze(body, frozen_stages)
    return Pyramid(body, strides=strides, out_channels=out_channels)


def _torchvision_body(name: str, weights: BackboneWeights, freeze: bool) -> tuple[Stages, tuple[int, ...]]:
    if name not in models.list_models(models):
        raise ConfigError(f"torchvision has no backbone {name!r} (timm's are named timm/NAME)")
    model = models.get_model(name, weights="DEFAULT" if weights == "imagenet" else None)
    chain = _chain(model)
    strides, channels, outputs = _levels(name, model, chain)
    body = Stages(chain, outputs=outputs, channels=channels)
    if isinstance(weights, Path):
        _load_body(model, body, weights)
    if freeze:
        _freeze_batch_norm(body)
    return body, strides


def _chain(model: nn.Module) -> OrderedDict[str, nn.Module]:
    """The modules that a torchvision classifier runs one after another."""
    features = getattr(model, "features", None)
    trunk = features if isinstance(features, nn.Sequential) else model
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in trunk.named_children():
        inner = child.named_children() if name == "trunk_output" else [(name, child)]  # RegNet's stages
        chain.update(inner)
    return chain


@torch.no_grad()
def _levels(
    name: str, model: nn.Module, chain: OrderedDict[str, nn.Module]
) -> tuple[tuple[int, ...], list[int], list[str]]:
    """(strides, channels, module names) of the last map at each stride.

    Running the chain is compared with running the model: where it does more than that, the chain ends.
    """
    seen = _maps_of(name, model, chain)
    found: dict[int, tuple[int, str]] = {}
    x = _probe()
    for key, module in chain.items():
        if key not in seen:
            break
        x = module.eval()(x)
        if x.shape != seen[key].shape or not torch.allclose(x, seen[key], atol=1e-4):
            break
        for height, width, channels in ((2, 3, 1), (1, 2, 3)):
            stride = PROBE[0] // x.shape[height]
            if stride in STRIDES and (x.shape[height] * stride, x.shape[width] * stride) == PROBE:
                found[stride] = (x.shape[channels], key)
    model.train()
    if len(found) < 2:
        raise ConfigError(f"{name} has no maps at several of the strides {STRIDES}: not fit for a pyramid")
    return tuple(found), [c for c, _ in found.values()], [key for _, key in found.values()]


def _maps_of(name: str, model: nn.Module, chain: OrderedDict[str, nn.Module]) -> dict[str, Tensor]:
    """What those modules of the chain give that give maps, when the model runs."""
    seen: dict[str, Tensor] = {}

    def remember(key: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                seen[key] = output.clone()  # the next module may work in place

        return hook

    hooks = [module.register_forward_hook(remember(key)) for key, module in chain.items()]
    try:
        model.eval()(_probe())
    except Exception as error:
        raise ConfigError(f"{name} does not run on images of any size: {error}") from error
    finally:
        for handle in hooks:
            handle.remove()
    return seen


def _load_body(model: nn.Module, body: Stages, path: Path) -> None:
    """Load a classifier's or the body's state dict, and check that nothing of the body is missing."""
    state = state_of(read_content(path), path=path)
    for module in (model, body):
        own = module.state_dict(keep_vars=True)
        fitting = {key for key, tensor in state.items() if key in own and own[key].shape == tensor.shape}
        if not fitting:
            continue
        module.load_state_dict({key: state[key] for key in fitting}, strict=False)
        wanted = {id(tensor) for tensor in body.state_dict(keep_vars=True).values()}
        absent = [key for key, tensor in own.items() if id(tensor) in wanted and key not in fitting]
        absent = [key for key in absent if not key.endswith("num_batches_tracked")]
        if absent:
            raise InputError(f"lacks {len(absent)} of the backbone's tensors, such as {absent[0]}", path=path)
        return
    raise InputError("holds none of the backbone's tensors", path=path)


def _freeze_batch_norm(module: nn.Module) -> None:
    """Replace batch normalisation inside a module by torchvision's frozen one, which the optimizer does not see."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
                frozen.load_state_dict(child.state_dict(), strict=False)
                setattr(parent, name, frozen)


def _timm_body(name: str, weights: BackboneWeights, freeze: bool) -> tuple[TimmStages, tuple[int, ...]]:
    timm = _timm()
    if name.split(".")[0] not in timm.list_models():
        raise ConfigError(f"timm has no backbone {name!r}")
    if isinstance(weights, Path):
        model = _timm_from_file(timm, name, weights)
    else:
        model = _timm_of_any_size(timm, name, pretrained=weights is not None)
    if freeze:
        model = timm.layers.freeze_batch_norm_2d(model)
    reductions = model.feature_info.reduction()
    chosen = [max(i for i, r in enumerate(reductions) if r == s) for s in STRIDES if s in reductions]
    if len(chosen) < 2:
        raise ConfigError(f"timm/{name} has maps at {reductions}: not fit for a pyramid")
    return TimmStages(model, chosen=chosen), tuple(reductions[i] for i in chosen)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("backbones named timm/... need timm: pip install 'wildbox[timm]'") from error
    return timm


@torch.no_grad()
def _timm_of_any_size(timm: Any, name: str, **source: Any) -> Any:
    """The model, told to take images of any size where it must be."""
    problem: Exception | None = None
    for option in ({}, {"strict_img_size": False}, {"dynamic_img_size": True}):
        try:
            model = timm.create_model(name, features_only=True, **source, **option)
            model.eval()(_probe())
            return model.train()
        except (AssertionError, TypeError, ValueError) as error:
            problem = problem or error
    raise ConfigError(f"timm/{name} cannot be used on images of any size: {problem}")


def _timm_from_file(timm: Any, name: str, path: Path) -> Any:
    """timm's own loading of a file, which passes over missing tensors in silence, and a check for those.

    Made twice from one seed: what was drawn at random and is the same with the file was not in it.
    """
    if not path.exists():
        raise InputError("no such file of weights", path=path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = _timm_of_any_size(timm, name).state_dict()
        torch.manual_seed(0)
        try:
            overlay = {"file": str(path)}
            model = _timm_of_any_size(timm, name, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # timm's loaders raise many kinds
            raise InputError(f"timm cannot load {name} from it: {error}", path=path) from error
    drawn = [k for k, v in fresh.items() if v.is_floating_point() and v.numel() > 1 and v.std() > 0]
    missing = [k for k in drawn if torch.equal(fresh[k], model.state_dict()[k])]
    if missing:
        raise InputError(f"lacks {len(missing)} of the backbone's tensors, such as {missing[0]}", path=path)
    return model


def _probe() -> Tensor:
    """(1, 3, *PROBE) without a draw from a random generator."""
    return torch.linspace(-1, 1, 3 * PROBE[0] * PROBE[1]).reshape(1, 3, *PROBE).sin()


def _freeze(body: Stages | TimmStages, stages: int) -> None:
    """Stop the learning of all parameters that the level `stages`, counted from 1, depends on."""
    parameters = [p for p in body.parameters() if p.requires_grad]
    training = body.training
    level = body.eval()(_probe())[stages - 1]
    body.train(training)
    gradients = torch.autograd.grad(level.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.requires_grad_(False)


def _channels_first(x: Tensor, channels: int) -> Tensor:
    """(B, F, h, w) of a map that may be (B, h, w, F)."""
    turned = x.shape[1] != channels and x.shape[-1] == channels
    return x.permute(0, 3, 1, 2).contiguous() if turned else x
