"""The smaller experiments with the smoke preset: reports, results, and a second run that changes nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support.paths import ROOT

from experiments import attractors, base
from experiments.cell_search.candidates import Candidate
from experiments.report import Table, text_table
from pcsim.core import storage
from pcsim.models import Gate, ReciprocalCell

COUNTS = (24, 22, 24, 40, 26)
"""characters in each alphabet of Omniglot's first small set"""
FIGURES = {
    "attractors": {"completion", "capacity"},
    "attention": {"blends", "arrays", "time_course", "lesions", "detection"}
    | {"steering", "steering_detection", "cue_times", "spotlights"},
    "cell_search": {"search", "edges", "accuracy", "cell"},
    "convergence": {"convergence"},
    "extrapolation": {"frames", "mse", "ssim_uniform7"}
    | {f"{kind}_prednet-{cell}" for kind in ("errors", "surprise") for cell in ("convlstm", "subconvlstm")},
    "grouping": {"trials", "accuracy", "steps", "time", "spread"},
    "learned_time_constants": {"time_constants"},
    "local_learning": {"error", "alignment"},
    "object_solution_time": {"decoding", "solution_times"},
    "pcn_cycles": {"accuracy", "errors", "network"},
    "plasticity": {"shifts", "delays"},
    "recurrent_cells": {"accuracy", "network"},
    "routing": {"routes", "shifter", "areas", "openings", "switches", "late"},
    "short_term_memory": {"delays", "across_time", "lesions", "stretch"},
    "speed": {"speed"},
    "time_constants": {"curves", "maps", "ratio", "solvers", "precision"},
}


def run(name: str, out: Path, *options: str) -> str:
    command = [sys.executable, "-m", f"experiments.{name}", "--preset", "smoke", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(out: Path) -> dict:
    found = storage.read_json(out / "results.json")
    assert found.pop("wall_time_s") >= 0
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loads", "inf"], "--loads inf: Input should be a finite number"),
        (["--loads", "0.1", "-3", "inf"], "--loads -3.0: Input should be greater than 0"),
        (["--corruption=2"], "--corruption 2.0: Input should be less than or equal to 1"),
    ],
)
def test_wrong_value_of_option_is_reported_once(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        base.parse(attractors.PRESETS, options, "", command="pcsim run attractors")
    assert capsys.readouterr().err == f"pcsim run attractors: error: {message}\n"


# The default test run must fit in eight minutes, of which these would take three.
LONG = (
    *("attention", "cell_search", "extrapolation", "learned_time_constants", "object_solution_time", "pcn_cycles"),
    *("recurrent_cells", "routing", "short_term_memory", "speed", "time_constants"),
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in FIGURES])
def test_experiment_writes_report_and_resumes_unchanged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PCSIM_NEURAL", raising=False)
    out = tmp_path / name
    said = run(name, out)
    assert "report.html" in said and "too small for their numbers to mean anything" in said
    assert {f"{figure}.png" for figure in FIGURES[name]} <= {path.name for path in out.iterdir()}
    page = (out / "report.html").read_text()
    assert "too small for their numbers to mean anything" in page
    assert page.count('<img src="data:image/png;base64,') == len(FIGURES[name]) and 'src="http' not in page
    found = numbers(out)
    assert found["versions"]["torch"] and found["config"]["seed"] == 0
    CHECKS[name](found)
    (out / "results.json").unlink()
    module = importlib.import_module(f"experiments.{name}")
    module.run(replace(module.PRESETS["smoke"], out=out))  # resumes, with only the analysis left to do
    assert numbers(out) == found


def test_columns_of_words_are_aligned_left_and_numbers_right() -> None:
    table = Table(
        "", ("network", "edges", "delay (ms)"), [("blt", "intact", "7"), ("b", "cut", "undefined"), ("c", "", "-1.5")]
    )
    assert table.has_words == [True, True, False]
    assert text_table(table).splitlines() == [
        "network  edges   delay (ms)",
        "---------------------------",
        "blt      intact           7",
        "b        cut      undefined",
        "c                      -1.5",
    ]


@pytest.mark.parametrize("name", [*FIGURES, "occlusion", "transfer"])
def test_only_smoke_presets_are_declared_too_small(name: str) -> None:
    presets = importlib.import_module(f"experiments.{name}").PRESETS
    assert {preset: options.smoke for preset, options in presets.items()} == {p: p == "smoke" for p in presets}
    for options in presets.values():
        one = "One seed (0)" in base.caution(options)
        assert one == (getattr(options, "repetitions", None) == 1 and not options.smoke)
        assert ("too small" in base.caution(options)) == options.smoke


def test_settling_times_of_unfinished_runs_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one time constant, graded units are still changing; after 40, they have settled."""
    torch.manual_seed(0)
    patterns = torch.randn(3, 40).sign()
    cues = patterns * torch.where(torch.rand(3, 40) < 0.1, -1.0, 1.0)
    sim = attractors.make_simulator("graded", patterns)
    whole = attractors.complete("graded", sim, cues, patterns, 0)
    monkeypatch.setattr(attractors, "GRADED_MS", attractors.TAU)
    short = attractors.complete("graded", sim, cues, patterns, 0)
    assert whole["unsettled"] == 0.0 and short["unsettled"] == 1.0 and short["settled"] <= 1.0 < whole["settled"]
    assert attractors.settling([whole]) == f"{whole['settled']:.1f}"
    assert attractors.settling([whole, short]).startswith("> ")


def little_corruption_is_completed(found: dict) -> None:
    (row,) = found["repetitions"]
    assert all(row[kind][0]["completed"] == 1.0 for kind in ("binary", "graded", "modern"))
    assert row["binary"][1]["completed"] < 1.0 and row["binary"][1]["settled"] > row["binary"][0]["settled"]
    assert all(at["rises"] <= 1e-4 for kind in ("binary", "graded", "modern") for at in row[kind])


def scores_stand_beside_the_baselines(found: dict) -> None:
    prednets = {"prednet-convlstm", "prednet-subconvlstm"}
    assert set(found["networks"]) == prednets | {"forecaster-convlstm"} and len(found["subconvlstm_over_convlstm"]) == 1
    for name, (row,) in found["networks"].items():
        assert set(row) == {"network", "copy last frame", "linear", "training mean"}
        for scores in row.values():
            assert len(scores["ahead"]["mse"]) == 2 and 0 < scores["next_frame"]["mse"] < 0.2
        assert row["copy last frame"]["ahead"]["mse"][0] < row["copy last frame"]["ahead"]["mse"][1]
        if name in prednets:
            assert row["network"]["errors"]["e0"][4:] == [0.0, 0.0], "in a closed loop predictions must serve as frames"
            responses = [layers["e0"] for layers in row["network"]["evoked"].values()]
            assert len(responses) == 2 and all(r["low"] <= r["mean"] <= r["high"] for r in responses)
        else:
            assert row["network"]["next_frame"]["mse"] == row["network"]["ahead"]["mse"][0]


def only_predictive_rewards_shift_tuning(found: dict) -> None:
    shifts = {name: [row["shift"] for row in rows] for name, rows in found["conditions"].items()}
    assert shifts["no reward"] == [0.0, 0.0]
    assert min(shifts["rewarded"]) > 0.5 > max(map(abs, shifts["shuffled reward"]))
    assert all(early > late for early, late in zip(*found["delays"].values(), strict=True))


def backpropagation_is_approached(found: dict) -> None:
    for row in found["alignment"]:
        assert all(later > earlier for earlier, later in pairwise(row["cosine"])) and row["cosine"][-1] > 0.999
    assert all(len(runs) == 1 for runs in found["accuracy"].values())


def a_construction_lowers_the_error_as_it_must(found: dict) -> None:
    errors = found["errors"]["one tied linear layer, b < 2/lambda_max: must fall"]["e0"]
    assert all(later < earlier for earlier, later in pairwise(errors))


def sizes_match(found: dict) -> None:
    networks = found["networks"]
    assert set(networks) == {"reciprocal", "simple_rnn", "lstm", "none", "minimal", "shared", "unshared"}
    assert all(1_400 < networks[name]["parameters"] < 2_600 for name in ("reciprocal", "simple_rnn", "lstm", "none"))
    assert networks["minimal"]["parameters"] == networks["reciprocal"]["parameters"]
    assert networks["shared"]["parameters"] < networks["unshared"]["parameters"]
    for row in networks.values():
        (curve,) = row["accuracy_over_time"]
        assert len(curve) == row["steps"] and row["error"] == [pytest.approx(1 - curve[-1])]
    (first, *_) = networks["reciprocal"]["accuracy_over_time"]
    assert len(set(first[:3])) == 1, "the image must not have reached the readout yet"
    assert len(found["mcnemar"]["ConvRNN"]) == 10 and len(found["mcnemar"]["residual"]) == 1


def answers_are_those_of_the_plain_loop(found: dict) -> None:
    for row in found["rows"]:
        assert all(len(times) == 2 and min(times) > 0 for times in row["seconds"].values())
        assert all(0 < row["differs_by"][name] < 1e-4 for name in ("pcsim", "pcsim first run"))


def errors_of_every_area_are_followed(found: dict) -> None:
    assert set(found["curves"]) == {"clean", "occluded", "surprising"}
    for row in found["curves"].values():
        errors = row["squared prediction error"]
        assert set(errors) == {"e0", "e1"} and set(row["change of the state per ms"]) == {"r1", "r2"}
        (energy,) = row["energy"].values()
        assert all(later <= earlier * (1 + 1e-5) for earlier, later in pairwise(energy["median"])), (
            "the energy must not rise"
        )
        assert len(energy["times"]) == 120 and energy["times"][-1] == 60.0, "times must be relative to stimulus onset"
        assert sum(energy["endings"].values()) == 8


def both_learn_and_one_time_constants(found: dict) -> None:
    assert found["before"] != found["after"] and len(found["after"][0]) == 4
    assert all(curve[-1] < curve[0] for (curve,) in found["curves"].values())


def every_network_is_swept(found: dict) -> None:
    assert set(found["networks"]) == {"predictive_coding", "leaky_rcnn"}
    assert found["points"] == {"settling": 8, "solvers": 21, "borders": 4, "precision": 2}
    for name, row in found["networks"].items():
        curves = row["curves"]
        assert row["curve"] == ("error" if name == "predictive_coding" else "change")
        assert len(curves) == len(curves[0]) == 2 and len(curves[0][0]) == len(row["times"])
        slow, fast = curves[1][1][1], curves[0][0][1]
        assert slow > fast if name == "predictive_coding" else slow < fast, "early on, the larger tau must lag behind"
        # Euler is refused at 2.4 tau, RK4 only from 2.785 tau on.
        assert [share is None for share in row["by_dt"]["Euler"]] == [False, False, True]
        assert row["ends"]["Euler"][-1].startswith("refused") and not any("refused" in e for e in row["ends"]["RK4"])
        assert 0 < row["borders"]["Euler"] < row["borders"]["RK4"] < 40
        for solver, order in (("Euler", 1), ("RK4", 2)):
            first, second = row["precision"][solver]["error"]
            assert first / second > 1.5**order, "halving dt must reduce the error"
        assert row["precision"]["RK4"]["evaluations"] == [32, 64]
        assert all(count > 6 for count in row["precision"]["Dopri5"]["evaluations"])


def candidate_of(content: dict) -> Candidate:
    """Rebuild a candidate from results.json."""
    cell = content["cell"] and ReciprocalCell(
        **{**content["cell"], "tau": Gate(**content["cell"]["tau"]), "gate": Gate(**content["cell"]["gate"])}
        | {"separable": tuple(content["cell"]["separable"])}
    )
    feedback = tuple((high, low) for high, low in content["feedback"])
    return Candidate(cell, content["depth"], feedback, content["steps"])


def every_trial_is_told_and_networks_match_in_size(found: dict) -> None:
    trials, edges = found["trials"], {"3 to 2", "4 to 2", "4 to 3"}
    assert [trial["number"] for trial in trials] == list(range(6)) and found["random"] == 2
    assert all(trial["state"] == "complete" and len(trial["values"]) == 1 for trial in trials)
    assert all(set(effects) == edges for effects in found["edges"].values())
    networks = found["networks"]
    assert set(networks) == {"best", "median", "random", "published", "minimal", "feed-forward"}
    for row in networks.values():
        counts = [candidate_of(row["candidate"]).network(width).parameter_count for width in range(1, 20)]
        assert row["parameters"] == min(counts, key=lambda count: abs(count - found["config"]["parameters"]))
    assert networks["minimal"]["parameters"] == networks["best"]["parameters"]
    assert networks["minimal"]["steps"] == networks["best"]["steps"] - 2 == 6 and not networks["published"]["feedback"]
    best = max((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["values"][-1])
    assert networks["best"]["feedback"] == [edge for edge in sorted(edges) if best["parameters"][edge]]
    for row in networks.values():
        (curve,) = row["accuracy_over_time"]
        assert row["error"] == [pytest.approx(1 - curve[-1])]
        # Before the image arrives, biases and gates may change the answer, but it is the same for all images.
        assert max(curve[:4]) < 0.25, "before the image arrives, accuracy is at most the share of one digit"
    from experiments.cell_search import candidates

    arrives = candidates.Candidate(candidates.ReciprocalCell()).network(2).arrivals["readout"]
    assert candidates.MINIMAL == arrives + 2, "one step more than the image needs, counting from 0"


def nothing_is_solved_in_time_without_time(found: dict) -> None:
    control = found["networks"]["feed_forward"]["intact"]
    assert not control["defined"] and "mean" not in control and len(set(control["i1"]["clean"])) > 1, (
        "only noise may change a feed-forward control over time"
    )
    lesions = found["networks"]["blt"]
    assert set(lesions) == {"intact", "without top-down", "without recurrence"} and found["macaque"] is None
    for row in lesions.values():
        assert row["defined"] and row["times"] == [20.0, 40.0] and len(row["solution"]["clean"]) == 100
        assert row["mean"]["clean"]["low"] <= row["mean"]["clean"]["mean"] <= row["mean"]["clean"]["high"]
        solved = sum(value is not None for value in row["solution"]["occluded"])
        assert row["reached"]["occluded"] == pytest.approx(solved / 100)


def valid_cues_help_and_act_through_modulatory_edges(found: dict) -> None:
    mean = {key: row["mean"] for key, row in found["accuracy"].items()}
    for task in ("array", "blend"):
        for area in ("all", "l1", "l2"):
            assert mean[f"{task}/{area}/0.5/valid"] >= mean[f"{task}/{area}/0.5/absent"]
            assert mean[f"{task}/{area}/0.5/valid"] > mean[f"{task}/{area}/0.5/invalid"]
    uncued = {mean[f"blend/{area}/0.5/absent"] for area in ("all", "l1", "l2")}
    assert len(uncued) == 1, "without a cue, it does not matter where gains could act"
    uncued_mean = uncued.pop()
    assert mean["lesion/no modulatory/valid"] == mean["lesion/no modulatory/absent"] == uncued_mean
    assert all(0 <= value <= 1 for rows in found["detection"].values() for value in (*rows["cued"], *rows["uncued"]))
    for kind in ("multiplicative", "divisive"):
        assert mean[f"array/{kind}/0.5/valid"] > mean[f"array/{kind}/0.5/invalid"]
    assert found["accuracy"]["array/multiplicative/0.5/valid"] == found["accuracy"]["array/all/0.5/valid"]
    steering = found["steering"]
    answers, times = steering["answers"], steering["cue_times"]
    assert answers["no modulatory"] == answers["no cue"], "W acts through modulatory edges only"
    assert answers["no cue"]["both"]["mean"] == 0, "the same answer cannot name two digits"
    assert answers["no cue"]["valid"]["mean"] == uncued_mean == pytest.approx(times["tuning/no cue"][3])
    assert len({tuple(times[f"{kind}/no cue"]) for kind in ("tuning", "steering")}) == 1
    for kind in ("tuning", "steering"):
        assert times[f"{kind}/2 steps later"][:2] == times[f"{kind}/no cue"][:2], "no cue has come yet"
        assert times[f"{kind}/for the first 2 steps"][:2] == times[f"{kind}/from image onset"][:2]
        assert len(times[f"{kind}/grey before, no cue"]) == len(times[f"{kind}/no cue"]) + 2


def memories_match_in_size_and_depend_on_their_edges(found: dict) -> None:
    cells = found["cells"]
    assert list(cells) == ["leaky", "lstm", "gated", "reciprocal", "bump", "facilitation"]
    assert max(abs(row["parameters"] - 1_000) for row in cells.values()) < 150
    for row in cells.values():
        for test in ("delays", "distractors", "available", "lesions", "stretch"):
            for cell in row[test].values():
                assert 0 <= cell["low"] <= cell["mean"] <= cell["high"] <= 1 and len(cell["each"]) == 1
        assert row["lesions"]["intact"] == row["delays"]["200"] == row["distractors"]["0"], "the same trials and noise"
        matrix = np.array(row["across"]["m"]["accuracy"])
        assert matrix.shape == (len(row["across"]["m"]["times"]),) * 2 and matrix[0, 0] > 0.5, "the sample is present"
    assert set(cells["facilitation"]["across"]) == {"m", "synapses_f"}


def closed_routes_carry_nothing(found: dict) -> None:
    accuracy = found["accuracy"]["shifter"]
    assert accuracy["intact"]["mean"] > 0.25, "above chance, 0.1"
    assert all(accuracy[lesion]["mean"] < accuracy["intact"]["mean"] for lesion in ("own route cut", "wrong cue"))
    (traffic,) = found["traffic"]["shifter"]
    for cue, route in (("0", "route_a"), ("3", "route_i")):
        drives = {edge: row["drive"] for edge, row in traffic[cue].items() if edge.startswith("retina->")}
        assert max(drives, key=lambda edge: drives[edge]) == f"retina->{route}"
    for rows in found["accuracy"].values():
        assert all(0 <= cell["low"] <= cell["mean"] <= cell["high"] <= 1 for cell in rows.values())


def times_and_spread_are_measured_for_every_path(found: dict) -> None:
    sizes = found["sizes"]
    assert set(sizes) == {"hgru", "lateral", "feedforward"} and max(sizes.values()) < 1.5 * min(sizes.values())
    for name, row in found["accuracy"].items():
        assert all(len(each) == 11 and min(each) >= 0 and max(each) <= 1 for each in row["by_path"])
        assert {len(curve) for curve in row["over_time"].values()} == {1 if name == "feedforward" else 8}
    assert set(found["accuracy"]["hgru"]["lesions"]) == {"no excitation", "no inhibition", "neither"}
    for name in ("hgru", "lateral"):
        (times,), (own,) = found["reaction_times"][name], found["spread"][name]["own"]
        assert all(value is None or 0 < value <= 4 for value in times["area/same"] + times["area/different"])
        assert len(own) == 4 and own[0][0] > 0, "the first dot must change the activity at its own place"


CHECKS = {
    "attention": valid_cues_help_and_act_through_modulatory_edges,
    "attractors": little_corruption_is_completed,
    "cell_search": every_trial_is_told_and_networks_match_in_size,
    "convergence": errors_of_every_area_are_followed,
    "extrapolation": scores_stand_beside_the_baselines,
    "grouping": times_and_spread_are_measured_for_every_path,
    "learned_time_constants": both_learn_and_one_time_constants,
    "local_learning": backpropagation_is_approached,
    "object_solution_time": nothing_is_solved_in_time_without_time,
    "pcn_cycles": a_construction_lowers_the_error_as_it_must,
    "plasticity": only_predictive_rewards_shift_tuning,
    "recurrent_cells": sizes_match,
    "routing": closed_routes_carry_nothing,
    "short_term_memory": memories_match_in_size_and_depend_on_their_edges,
    "speed": answers_are_those_of_the_plain_loop,
    "time_constants": every_network_is_swept,
}


@pytest.mark.data
def test_transfer_writes_report_and_decodes_above_chance(tmp_path: Path, mnist: Path, omniglot: Path) -> None:
    out = tmp_path / "transfer"
    assert "report.html" in run("transfer", out, "--mnist", str(mnist), "--omniglot", str(omniglot))
    found = numbers(out)
    assert (out / "transfer.png").exists() and found["chance"] == pytest.approx(np.mean([1 / n for n in COUNTS]))
    assert str(mnist) not in (out / "results.json").read_text()
    for rows in found["networks"].values():
        for area in rows.values():
            for state in ("trained", "untrained"):
                means = area[state]["mean"]
                assert np.allclose(means, np.mean(area[state]["alphabets"], 0)) and min(means) > 1.5 * found["chance"]
    first, *others = found["networks"]["blt_b"]["l2"]["trained"]["mean"]
    assert not others and first < 1.0, "B must have a single step"


@pytest.mark.data
def test_object_solution_time_compares_with_recordings(tmp_path: Path, recordings: Path) -> None:
    out = tmp_path / "solved"
    run("object_solution_time", out, "--neural", str(recordings))
    found = numbers(out)
    assert (out / "similarity.png").exists() and found["similarity"]["monkey_human"] == pytest.approx(0.44, abs=0.005)
    assert len(found["macaque"]["solution"]) == 21
    assert "not models of IT" in (out / "report.html").read_text()
