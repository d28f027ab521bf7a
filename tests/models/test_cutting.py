"""Modules are cut at named nodes: the parts return the bits of the original, and what cannot be cut is named."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from support.backbones import (
    Bottleneck,
    Reading,
    ResNet,
    Timm,
    TwoInputs,
    VisionTransformer,
)
from torch import nn

from pcsim import Iterate, Record, WiringError, initial_state, models, simulate

SMALL = {"layers": (1, 2, 1, 1), "channels": (4, 8, 8, 16), "classes": 5}


def resnet(block: type[nn.Module] | None = None) -> nn.Module:
    return ResNet(**SMALL) if block is None else ResNet(block, **SMALL)


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], int]] = {
    "basic blocks": (resnet, ["relu", "layer1", "layer2.0", "layer2", "layer3.0.relu_1", "avgpool"], 64),
    "bottlenecks": (lambda: resnet(Bottleneck), ["maxpool", "layer1.0.relu_2", "layer2", "layer4"], 64),
    "timm": (Timm, ["stem", "stages.0", "stages.1.0.add", "stages.1", "relu"], 16),
    "transformer": (VisionTransformer, ["add", "blocks.0.add", "blocks.0", "blocks.1", "norm"], 16),
    "sequential": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)),
        ["1", "3"],
        16,
    ),
}


def trained(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a module in evaluation mode with random weights and statistics."""
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_(0.0, 0.3)
    return module.eval()


@pytest.mark.parametrize("name", CASES)
def test_parts_equal_module_bitwise(name: str) -> None:
    build, nodes, size = CASES[name]
    module, images = trained(build), torch.rand(3, 3, size, size)
    weights = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    stages, head = models.cut(module, nodes)
    with torch.no_grad():
        value = images
        for stage in stages:
            value = stage(value)
        assert torch.equal(head(value), module(images)) and len(stages) == len(nodes)
    parts = {id(p) for part in (*stages, head) for p in part.parameters()}
    assert parts == {id(p) for p in module.parameters()}  # shared, and each part of the module is in one of them
    assert not module.training and all(torch.equal(weights[key], tensor) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_retrofit_by_nodes_starts_as_the_module(name: str) -> None:
    build, nodes, size = CASES[name]
    module, images = trained(build), torch.rand(3, 3, size, size)
    net = models.retrofit(module, (3, size, size), nodes=nodes, correction=0.05)
    assert not any(part.training for part in (*net.modules(), *module.modules()))
    with torch.no_grad():
        state, value = initial_state(net, images), images
        for area, stage in enumerate(models.cut(module, nodes).stages, 1):
            value = stage(value.clone())
            torch.testing.assert_close(state[f"r{area}"], value, rtol=0, atol=1e-6)
        # The memory layout of activities may differ from that in the module, and with it the rounding.
        run = simulate(net, images, solver=Iterate(), steps=2, record=Record(states="all", errors="all", initial=True))
        torch.testing.assert_close(run["readout"][0], module(images), rtol=1e-5, atol=1e-6)
    assert torch.isfinite(run["readout"]).all() and not torch.equal(run["readout"][0], run["readout"][2])


def test_retrofit_of_resnet_equals_module_bitwise() -> None:
    module, images = trained(resnet), torch.rand(2, 3, 64, 64)
    net = models.retrofit(module, (3, 64, 64), nodes=["relu", "layer1", "layer2", "layer3", "layer4"])
    run = simulate(net, images, solver=Iterate(), steps=1, record=Record(states=["readout"], initial=True))
    with torch.no_grad():
        assert torch.equal(run["readout"][0], module(images))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301
        again = simulate(other, images, solver=Iterate(), steps=1, record=Record(states=["readout"], initial=True))
        assert torch.equal(again["readout"], run["readout"])


def test_node_names_equal_those_of_torchvision() -> None:
    """`get_graph_node_names(resnet18())` in torchvision's documentation, without the nodes that a skip passes."""
    names = models.node_names(ResNet())
    assert names[:8] == [
        *("conv1", "bn1", "relu", "maxpool"),
        *("layer1.0.add", "layer1.0.relu_1", "layer1.1.add", "layer1.1.relu_1"),
    ]
    assert names[-5:] == ["layer4.1.add", "layer4.1.relu_1", "avgpool", "flatten", "fc"]
    assert models.node_names(ResNet(Bottleneck))[5] == "layer1.0.relu_2"


def test_node_names_are_exactly_the_possible_cuts() -> None:
    for build, _, size in CASES.values():
        module = trained(build)
        images = torch.rand(2, 3, size, size)
        for name in models.node_names(module):
            (stage,), head = models.cut(module, [name])
            with torch.no_grad():
                assert torch.equal(head(stage(images)), module(images))


REFUSED: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "skip": (
        lambda: models.cut(trained(resnet), ["layer1.0.bn2"]),
        ("'layer1.0.add' bypasses by using 'maxpool'", "'maxpool' or 'layer1.0.add'"),
    ),
    "image itself": (
        lambda: models.cut(trained(VisionTransformer), ["conv_proj"]),
        ("'conv_proj'", "passes", "cut at 'cat'"),
    ),
    "misspelt": (lambda: models.cut(trained(resnet), ["layr2"]), ("'layr2'", "use 'layer2'")),
    "inside an untraceable module": (lambda: models.cut(trained(Timm), ["stem.conv"]), ("'stem.conv'", "'stem'")),
    "order": (
        lambda: models.cut(trained(resnet), ["layer2", "layer1"]),
        ("in order", "['layer1.0.relu_1', 'layer2.1.relu_1']"),
    ),
    "twice": (lambda: models.cut(trained(resnet), ["layer1", "layer1.0.relu_1"]), ("without repetition",)),
    "none": (lambda: models.cut(trained(resnet), []), ("at least one node",)),
    "values": (lambda: models.cut(trained(Reading), ["conv"]), ("cannot trace", "list of stages")),
    "inputs": (lambda: models.node_names(TwoInputs()), ("several inputs",)),
    "training": (lambda: models.cut(resnet(), ["layer1"]), ("module.eval()",)),
    "no nodes": (lambda: models.retrofit(trained(resnet), (3, 64, 64)), ("nodes=[...]",)),
    "nodes of a list": (lambda: models.retrofit([nn.ReLU()], (3, 8, 8), nodes=["0"]), ("omit nodes=",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_what_cannot_be_cut(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(WiringError) as caught:
        call()
    for word in words:
        assert re.search(re.escape(word), str(caught.value)), caught.value


def test_wiring_table_names_the_nodes_of_each_part() -> None:
    net = models.retrofit(resnet().eval(), (3, 32, 32), nodes=["relu", "layer1"])
    table = net.describe()
    assert "Part" not in table and "conv1 to relu" in table and "layer1." in table
    assert copy.deepcopy(net).describe() == table
