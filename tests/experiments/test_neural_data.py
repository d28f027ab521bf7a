"""Public recordings of inferior temporal cortex: decoding and dissimilarities match the published values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments import neural_data
from pcsim import StorageError
from pcsim.analysis import decoding
from pcsim.brain import similarity


@pytest.mark.data
def test_macaque_it_decoding_accuracy_matches_readme(recordings: Path) -> None:
    spikes = neural_data.spikes(recordings)
    assert spikes.counts.shape == (20, 7 * 3 * 19, 132) and spikes.times[0] == -500.0
    found = decoding.decode_over_time(spikes.counts, spikes.objects, penalty=100.0)
    at = dict(zip(spikes.times, found.accuracy, strict=True))
    for begin, share in {50.0: 0.21, 100.0: 0.71, 150.0: 0.77, 450.0: 0.50}.items():
        assert at[begin] == pytest.approx(share, abs=0.05), begin
    assert np.mean([at[begin] for begin in spikes.times if begin < 0]) == pytest.approx(0.14, abs=0.05)


@pytest.mark.data
def test_spike_counts_match_events(recordings: Path) -> None:
    """Count spikes independently, from the event file."""
    spikes = neural_data.spikes(recordings)
    with np.load(recordings / "neural_it_zhang_desimone" / "it_spikes_events.npz") as file:
        events = {name: file[name] for name in file.files}
    unit = 5
    of_unit = events["spike_unit"] == unit
    for stimulus, position in ((0, 0), (3, 1), (6, 2)):
        trials = np.flatnonzero(
            (events["trial_stimulus"][unit] == stimulus) & (events["trial_position"][unit] == position)
        )[:19]
        at = events["spike_time_ms"][of_unit & np.isin(events["spike_trial"], trials)]
        counted = np.histogram(at, np.arange(-500, 501, 50))[0]
        kept = spikes.counts[:, spikes.conditions == 3 * stimulus + position, unit].sum(1)
        assert np.array_equal(counted, kept)


@pytest.mark.data
def test_dissimilarities_of_monkey_and_human_match_published(recordings: Path) -> None:
    data = neural_data.dissimilarities(recordings)
    assert similarity.compare(data.monkey, data.human) == pytest.approx(0.44, abs=0.005)
    pixels = similarity.dissimilarity(data.images.astype(float))
    assert similarity.compare(pixels, data.monkey) == pytest.approx(0.14, abs=0.01)
    low, high = similarity.ceiling_of_matrices(data.subjects)
    assert 0.3 < low < high < 0.8


def test_neural_data_folder_rejects_missing_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(neural_data.VARIABLE, raising=False)
    assert neural_data.folder(None) is None
    with pytest.raises(StorageError, match="it_counts_10ms"):
        neural_data.folder(tmp_path)
