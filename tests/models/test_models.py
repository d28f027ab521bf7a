"""Properties of every registered model. A model without a small configuration in support/small.py fails here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.small import PUBLISHED_COUNTS, SMALL, shown, small, stepping
from support.tolerances import ALONE_OR_IN_A_BATCH, ULPS_MAP_EQUALS_EULER

import pcsim
from pcsim import RK4, Euler, Iterate, Network, Record, models, rollout, simulate
from pcsim.network.weights import load_tensors, trained_tensors
from pcsim.simulation.plan import Plan
from pcsim.simulation.regime import regime_of

NAMES = tuple(SMALL)


def test_registry_covered_by_small_configurations() -> None:
    assert {name.split("/")[0] for name in SMALL} == set(models.available())


@pytest.mark.parametrize("name", NAMES)
def test_model_runs_in_both_precisions_draws_and_describes(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        net = small(name).to(dtype)
        solver, steps = stepping(net)
        run = simulate(net, shown(net, 2), solver=solver, steps=steps, record=Record(states="all"))
        for key, value in run.values.items():
            assert value.dtype == dtype and value.shape[:2] == (steps, 2) and torch.isfinite(value).all(), key
            assert value.shape[2:] == net.shape(key)
    axes = pcsim.plots.network(net)
    boxes = {text.get_text().split("\n")[0] for text in axes.texts}
    assert set(net.populations) <= boxes
    assert all(population in net.describe() for population in net.populations)


@pytest.mark.parametrize(("name", "count"), PUBLISHED_COUNTS.items())
def test_model_parameter_count_matches_published(name: str, count: int) -> None:
    with torch.device("meta"):  # shapes only
        assert models.build(name).parameter_count == count


def test_hopfield_models_alone_have_no_trainable_parameters() -> None:
    assert {name for name in NAMES if not trainable(small(name))} == {name for name in NAMES if "hopfield" in name}


def trainable(net: Network) -> dict[str, torch.nn.Parameter]:
    return {key: p for key, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", [name for name in NAMES if "hopfield" not in name])
def test_model_parameters_all_get_gradient(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    loss = torch.zeros(())
    for _, values in rollout(net, shown(net, 4), solver, net.steps if name == "pcn_local" else steps):
        loss = loss + sum(value.square().sum() for value in values.values())
    loss.backward()
    assert not [key for key, p in trainable(net).items() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", NAMES)
def test_model_sample_independent_of_batch(name: str, float64: None) -> None:
    net = small(name)
    solver, steps = stepping(net)
    batch = shown(net, 8)
    record = Record(states="all")
    whole = simulate(net, batch, solver=solver, steps=steps, record=record)
    alone = {key: value[:1] for key, value in batch.items()}
    single = simulate(net, alone, solver=solver, steps=steps, record=record)
    for key in whole.values:
        assert torch.allclose(single[key][:, 0], whole[key][:, 0], rtol=0, atol=ALONE_OR_IN_A_BATCH), key


@pytest.mark.parametrize("name", [name for name in NAMES if not small(name).is_flow])
def test_model_as_ode_at_dt_equal_tau_equals_map(name: str) -> None:
    net = small(name)
    steps = min(net.steps or 8, 12)
    record = Record(states=net.memories)
    discrete = simulate(net, shown(net, 2), solver=Iterate(), steps=steps, record=record)
    flow = simulate(net.as_ode(tau=8.0), shown(net, 2), solver=Euler(dt=8.0), until=8.0 * steps, record=record)
    for key in net.memories:
        spacing = torch.finfo(torch.float32).eps * discrete[key].abs()
        assert ((flow[key] - discrete[key]).abs() <= ULPS_MAP_EQUALS_EULER * spacing).all(), key


@pytest.mark.parametrize("name", NAMES)
def test_model_as_ode_stays_finite_under_rk4(name: str) -> None:
    net = small(name)
    flow = net.as_ode(tau=8.0)
    steps = 8.0 * min(net.steps or 8, 12)
    run = simulate(flow, shown(net, 2), solver=RK4(dt=4.0), until=steps, record=Record(states="all"))
    assert all(torch.isfinite(value).all() for value in run.values.values())


@pytest.mark.parametrize("name", NAMES)
def test_lesion_changes_states_and_leaves_network_intact(name: str) -> None:
    net = small(name)
    solver, steps = stepping(net)
    record = Record(states="all")

    def values(of: pcsim.Network) -> dict[str, torch.Tensor]:
        return simulate(of, shown(net, 2), solver=solver, steps=steps, record=record).values

    intact = values(net)
    for kind in {edge.kind for edge in net.projections if not edge.lesioned}:
        lesioned = values(net.without(kind))
        assert any(not torch.equal(lesioned[key], intact[key]) for key in intact), kind
    assert all(torch.equal(value, intact[key]) for key, value in values(net).items()), "the network must not change"


@pytest.mark.parametrize("name", NAMES)
def test_model_weights_round_trip_bitwise(name: str) -> None:
    net, other = small(name), models.build(name.split("/")[0], **SMALL[name]).eval()
    load_tensors(other, {key: value.clone() for key, value in trained_tensors(net).items()}, name)
    solver, steps = stepping(net)
    runs = [
        simulate(each, shown(net, 2), solver=solver, steps=steps, record=Record(states="all")) for each in (net, other)
    ]
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0].values)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # warnings from the compiler itself
def test_model_step_compiles_to_one_graph(name: str) -> None:
    """fullgraph=True raises at a graph break. `aot_eager` traces forward without needing a C++ compiler."""
    net = small(name)
    inputs = shown(net, 2)
    solver, steps = stepping(net)
    state = simulate(net, inputs, solver=solver, steps=min(steps, 2)).final.state
    wiring = net.wiring()
    plan = Plan(wiring, regime_of(wiring, min(steps, 2), solver.step_ms(wiring)), solver)

    def step(state: dict, seen: dict) -> dict:
        return plan.step(plan.precompute(seen), state)

    torch.compiler.reset()
    with torch.no_grad():
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(dict(state), dict(inputs))
        expected = step(state, inputs)
    assert set(compiled) == set(expected)
    assert all(torch.allclose(compiled[key], expected[key], atol=1e-5) for key in expected)


def test_active_window_in_flow_opens_at_step_time() -> None:
    net = small("pcn_local")
    with pytest.raises(pcsim.WiringError, match="step_ms=10.0"):
        net.as_ode(tau=(5.0, 10.0))
    flow = net.as_ode(tau=(5.0, 10.0), step_ms=20.0)
    assert flow.populations["y1"].active == (20.0, 80.0)
    run = simulate(flow, shown(net, 2), solver=RK4(dt=5.0), until=160.0, record=Record(states=["y1", "s1"]))
    before, after, end = run["y1"][3], run["y1"][4], run["y1"][15]  # 20, 25 and 80 ms
    assert (before == 0).all() and (after != 0).any() and (end == run["y1"][-1]).all() and (end != after).any()
    wiring = flow.wiring()
    assert regime_of(wiring, 4, 5.0).opening == {"y1"} and not regime_of(wiring, 3, 5.0).opening
    early = simulate(flow, shown(net, 2), solver=RK4(dt=5.0), until=20.0, record=Record(states=["s1"]))
    state = early.final.state
    opening = Plan(wiring, regime_of(wiring, 4, 5.0), RK4(dt=5.0))
    going_on = Plan(wiring, regime_of(wiring, 5, 5.0), RK4(dt=5.0))
    held = opening.precompute(shown(net, 2))
    from_source = going_on.step(going_on.precompute(shown(net, 2)), state | {"y1": early["s1"][-1]})
    assert torch.equal(opening.step(held, state)["y1"], from_source["y1"]), (
        "a population must start from its source when it opens, whatever its own state was"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("as_ode", [False, True])
def test_state_keeps_keys_shapes_and_dtypes(name: str, as_ode: bool) -> None:
    net = small(name)
    if as_ode and not net.is_flow:
        net = net.as_ode(tau=8.0)
    solver, steps = stepping(net)
    states = [pcsim.initial_state(net, shown(net, 2))]
    states += [simulate(net, shown(net, 2), solver=solver, steps=n).final.state for n in range(1, min(steps, 6) + 1)]
    forms = [{key: (value.shape, value.dtype) for key, value in s.items() if "@" not in key} for s in states]
    assert all(form == forms[0] for form in forms)
    assert all(set(state) == set(states[1]) for state in states[1:])
    assert not set(states[1]) & set(net.inputs)


@pytest.mark.parametrize("name", NAMES)
def test_run_resumed_from_file_is_bitwise_equal(name: str, tmp_path: Path) -> None:
    """Results are bitwise equal only if the file preserves the state's memory layout, on which rounding depends."""
    net = small(name)
    solver, steps = stepping(net)
    steps = max(2, min(steps, 8))
    record = Record(states="all")
    whole = simulate(net, shown(net, 3), solver=solver, steps=steps, record=record)
    simulate(net, shown(net, 3), solver=solver, steps=steps // 2, record=record).save(tmp_path / "half")
    start = pcsim.Run.load(tmp_path / "half").final
    rest = simulate(net, shown(net, 3), solver=solver, steps=steps, record=record, start=start)
    for key in whole.values:
        assert torch.equal(whole[key][steps // 2 :], rest[key]), key


@pytest.mark.parametrize("name", ["blt", "leaky_rcnn", "pcn_global", "prednet", "convrnn"])
def test_model_independent_of_thread_count(name: str) -> None:
    net, threads = small(name), torch.get_num_threads()
    solver, steps = stepping(net)
    runs = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            runs.append(simulate(net, shown(net, 4), solver=solver, steps=steps, record=Record(states="all")))
    finally:
        torch.set_num_threads(threads)
    for key in runs[0].values:
        one, two = (run[key] for run in runs)
        assert float((one - two).abs().max()) <= 1e-5 * max(1.0, float(one.abs().max())), key
