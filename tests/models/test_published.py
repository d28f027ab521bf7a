"""Weights of other code: those that fit give the results of that code; all others are refused and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.backbones import Bottleneck, ResNet
from support.plain_torch import CORnetRT, CORnetS, CORnetZ, LocalPCN
from support.small import CORNET
from torch import Tensor, nn

from pcsim import Iterate, Network, StorageError, models, simulate
from pcsim.models import published

LOCAL = models.Architecture((4, 5, 6), (1, 2))
PORT = (2, 3, 4)


def randomised(module: nn.Module) -> dict[str, Tensor]:
    """Randomise every tensor, keeping running variances positive, and return the state dict."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_(0.0, 0.3)
    return dict(module.eval().state_dict())


def global_tensors(tied: bool = False) -> dict[str, Tensor]:
    tensors = {"linear.weight": torch.randn(3, 6), "linear.bias": torch.randn(3)}
    for k, (fewer, more) in enumerate(((2, 4), (4, 5), (5, 6))):
        kernel = torch.randn(more, fewer, 3, 3)
        names = ("conv.{}.weights",) if tied else ("FFconv.{}.conv2d.weight", "FBconv.{}.convtranspose2d.weight")
        tensors |= {name.format(k): kernel for name in names} | {f"b0.{k}": torch.rand(1, more, 1, 1)}
        tensors |= {f"a0.{k}": torch.rand(1, more, 1, 1)} if k < 2 else {}
    return tensors


def port_tensors(sizes: tuple[int, ...] = PORT) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for k, n in enumerate(sizes):
        inside = 3 * n + (sizes[k + 1] if k + 1 < len(sizes) else 0)
        for gate in "ifco":
            tensors |= {f"{gate}.{k}.weight": torch.randn(n, inside, 3, 3), f"{gate}.{k}.bias": torch.randn(n)}
        tensors |= {f"Ahat.{2 * k}.weight": torch.randn(n, n, 3, 3), f"Ahat.{2 * k}.bias": torch.randn(n)}
        if k + 1 < len(sizes):
            up = sizes[k + 1]
            tensors |= {f"A.{2 * k}.weight": torch.randn(up, 2 * n, 3, 3), f"A.{2 * k}.bias": torch.randn(up)}
    return tensors


def local_tensors(stem: bool = False) -> dict[str, Tensor]:
    return randomised(LocalPCN((4, 5, 6), (1, 2), 2, 3, stem=4 if stem else None))


CASES: dict[str, tuple[Callable[[], Network], Callable[[], dict[str, Tensor]], published.Naming]] = {
    "pcn_global": (
        lambda: models.pcn_global((4, 5, 6), (2,), 2, image=(2, 8, 8), classes=3),
        global_tensors,
        published.libilab_pcn,
    ),
    "pcn_global tied": (
        lambda: models.pcn_global((4, 5, 6), (2,), 2, tied=True, image=(2, 8, 8), classes=3),
        lambda: global_tensors(tied=True),
        published.libilab_pcn,
    ),
    "pcn_local": (
        lambda: models.pcn_local(LOCAL, 3, image=(2, 16, 16), classes=3),
        local_tensors,
        published.libilab_local,
    ),
    "pcn_local with a stem": (
        lambda: models.pcn_local(models.Architecture((4, 5, 6), (1, 2), 4), 3, image=(2, 16, 16), classes=3),
        lambda: local_tensors(stem=True),
        published.libilab_local,
    ),
    "prednet": (lambda: models.prednet(PORT, size=(8, 8)), port_tensors, published.zcrwind_prednet),
    "cornet_z": (
        lambda: models.cornet_z(**CORNET),
        lambda: randomised(CORnetZ((4, 4, 8, 8), 2, 3)),
        published.cornet,
    ),
    "cornet_rt": (
        lambda: models.cornet_rt(**CORNET, groups=2),
        lambda: randomised(CORnetRT((4, 4, 8, 8), 2, 3, 2)),
        published.cornet,
    ),
    "cornet_s": (
        lambda: models.cornet_s(**CORNET, times=(2, 3, 1)),
        lambda: randomised(CORnetS((4, 4, 8, 8), (2, 3, 1), 2, 3)),
        published.cornet,
    ),
    "resnet18": (
        lambda: models.resnet18((4, 4, 8, 8), image=(3, 64, 64), classes=3),
        lambda: randomised(ResNet(channels=(4, 4, 8, 8), classes=3)),
        published.torchvision_resnet,
    ),
}


def refused(network: Network, tensors: dict[str, Tensor], naming: published.Naming, message: str | None = None) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(StorageError, match=message):
        published.load(network, tensors, naming)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("stem", [None, 4])
@pytest.mark.parametrize("cycles", [0, 1, 4])
def test_local_pcn_weights_give_logits_of_published_code(stem: int | None, cycles: int, float64: None) -> None:
    theirs = LocalPCN((4, 5, 6), (1, 2), 2, 3, cycles, stem)
    tensors = randomised(theirs)
    plan = models.Architecture((4, 5, 6), (1, 2), stem)
    net = models.pcn_local(plan, cycles, image=(2, 16, 16), classes=3).eval()
    published.load(net, tensors, published.libilab_local)
    image = torch.randn(3, 2, 16, 16)
    with torch.no_grad():
        expected = theirs(image)
    found = simulate(net, image, solver=Iterate())["readout"][-1]
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_published_weights_need_no_counters_and_take_prefix(name: str) -> None:
    build, make, naming = CASES[name]
    tensors = make()
    nets = [build() for _ in range(3)]
    bare = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    for net, given in zip(nets, (tensors, bare, {f"module.{k}": v for k, v in tensors.items()}), strict=True):
        published.load(net, given, naming)
    for other in nets[1:]:
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in nets[0].state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_published_weights_missing_extra_or_misshapen_are_refused(name: str) -> None:
    build, make, naming = CASES[name]
    tensors = make()
    real = [key for key in tensors if not key.endswith("num_batches_tracked")]
    for key in (real[0], real[len(real) // 2], real[-1]):
        refused(build(), {k: v for k, v in tensors.items() if k != key}, naming, f"without {key}")
        for axis in range(tensors[key].dim()):
            wider = torch.cat([tensors[key], tensors[key]], axis)
            refused(build(), tensors | {key: wider}, naming, key)
        refused(build(), tensors | {key: tensors[key][None]}, naming, key)
    refused(build(), tensors | {"extra.weight": torch.zeros(1)}, naming, r"with extra\.weight")
    refused(build(), tensors | {"other.num_batches_tracked": torch.tensor(3)}, naming, "with other.num_batches_tracked")
    refused(build(), {"state_dict": torch.zeros(1)}, naming, "with state_dict")
    refused(build(), tensors | {f"module.{real[0]}": tensors[real[0]]}, naming, f"with module.{real[0]}")


FOREIGN: dict[str, Callable[[], Network]] = {
    **{name: build for name, (build, _, _) in CASES.items()},
    "blt": lambda: models.blt(width=3, size=8),
    "predictive_coding": lambda: models.predictive_coding(((4,), (3,))),
    "pcn_global without cycles": lambda: models.pcn_global((4, 5, 6), (2,), 0, image=(2, 8, 8), classes=3),
    "pcn_global with norm": lambda: models.pcn_global((4, 5, 6), (2,), 2, norm="group", image=(2, 8, 8), classes=3),
    "pcn_local without cycles, Chainer": lambda: models.pcn_local(
        LOCAL, 0, variant="chainer", image=(2, 16, 16), classes=3
    ),
    "pcn_local, Chainer": lambda: models.pcn_local(LOCAL, 3, variant="chainer", image=(2, 16, 16), classes=3),
    "prednet, subConvLSTM": lambda: models.prednet(PORT, cell="subconvlstm", size=(8, 8)),
    "prednet, logistic gates": lambda: models.prednet(PORT, gate="sigmoid", size=(8, 8)),
    "prednet, peepholes": lambda: models.prednet(PORT, peephole="full", size=(8, 8)),
    "prednet, other channels of R": lambda: models.prednet(PORT, (3, 3, 4), size=(8, 8)),
    "hopfield": lambda: models.hopfield(units=9),
    "resnet34": lambda: models.resnet34((4, 4, 8, 8), image=(3, 64, 64), classes=3),
    "convlstm": lambda: models.convlstm((4,), input_frames=2, output_frames=2, image=(1, 8, 8)),
}


@pytest.mark.parametrize("network", FOREIGN)
def test_published_weights_are_refused_by_other_networks(network: str) -> None:
    for weights, (_, make, naming) in CASES.items():
        if weights != network:
            refused(FOREIGN[network](), make(), naming)


@pytest.mark.parametrize(("build", "layers"), [(models.resnet18, (2, 2, 2, 2)), (models.resnet34, (3, 4, 6, 3))])
def test_torchvision_weights_give_logits_of_torchvision(
    build: Callable[..., Network], layers: tuple[int, ...], float64: None
) -> None:
    theirs = ResNet(layers=layers, channels=(4, 8, 8, 16), classes=3)
    tensors = randomised(theirs)
    net = build((4, 8, 8, 16), image=(3, 64, 64), classes=3).eval()
    published.load(net, tensors, published.torchvision_resnet)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(image)
    found = simulate(net, image, solver=Iterate())["readout"][-1]
    assert (found - expected).abs().max() <= 1e-11 * expected.abs().max()


def test_wrong_names_are_answered_with_the_expected_ones() -> None:
    tensors = randomised(ResNet(channels=(4, 4, 8, 8), classes=3))
    build = lambda: models.resnet18((4, 4, 8, 8), image=(3, 64, 64), classes=3)  # noqa: E731
    naming = published.torchvision_resnet
    renamed = {name.replace("downsample.0", "downsample.conv"): tensor for name, tensor in tensors.items()}
    refused(build(), renamed, naming, r"rename 'layer2.0.downsample.conv.weight' to 'layer2.0.downsample.0.weight'")
    refused(build(), {f"model.{k}": v for k, v in tensors.items()}, naming, r"remove the prefix: .*'model\.'")
    refused(build(), tensors | {"fc.wieght": tensors["fc.weight"]}, naming, "with fc.wieght")
    deeper = randomised(ResNet(Bottleneck, channels=(4, 4, 8, 8), classes=3))
    refused(build(), deeper, naming, "122 tensors|conv1.weight, bn1.weight")


def test_misfit_weights_are_refused_without_cycles() -> None:
    tensors = local_tensors()

    def build() -> Network:
        return models.pcn_local(LOCAL, 0, image=(2, 16, 16), classes=3)

    key = "PcConvs.2.FFconv.weight"
    refused(build(), {k: v for k, v in tensors.items() if k != key}, published.libilab_local, f"without {key}")
    refused(build(), tensors | {"PcConvs.3.b0.0": torch.zeros(1)}, published.libilab_local, r"with PcConvs\.3\.b0\.0")
    refused(build(), local_tensors(stem=True), published.libilab_local, "with baseconv")


def test_refusal_explains_transform_with_other_parts() -> None:
    """The mapping fails on the number of modules on an edge, which Python reports as a ValueError."""
    net = models.cornet_z(**CORNET)
    edges = [
        replace(edge, transform=nn.Sequential(edge.transform, nn.Linear(3, 3))) if edge.target == "readout" else edge
        for edge in net.projections
    ]
    other = Network(net.inputs, tuple(net.populations.values()), edges, readout="readout")
    refused(
        other, randomised(CORnetZ((4, 4, 8, 8), 2, 3)), published.cornet, "more or fewer parts than in the original"
    )


def test_subconvlstm_refusal_names_keys_and_cells() -> None:
    refused(
        FOREIGN["prednet, subConvLSTM"](),
        port_tensors(),
        published.zcrwind_prednet,
        r"with the rule 'subLSTM' in r0, for .* i\.0\.weight",
    )
