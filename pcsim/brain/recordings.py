"""Neural recordings as labelled arrays (presentation, neuroid, time_bin), in Brain-Score's format.

    recorded = load("dicarlo.MajajHong2015.nc")          xarray.DataArray, from .nc or .npz
    each = repetitions(recorded)                         (repetition, image, neuroid, time_bin), NaN if missing
    regression.predictivity(features, np.nanmean(each, 0)[..., 0])

Axes are identified by name, so their order does not matter. Requires the `analysis` extra (xarray, and h5netcdf for
netCDF files).
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.analysis.arguments import as_ids, is_after
from pcsim.core.checks import Labels, checked
from pcsim.core.exceptions import StimulusError, StorageError, needs_extra
from pcsim.core.storage import require_file

if TYPE_CHECKING:
    import xarray

DIMENSIONS = ("presentation", "neuroid", "time_bin")
IDS = ("stimulus_id", "image_id")
"""current and former names of the coordinate that identifies images in Brain-Score"""
BIN_EDGES = ("time_bin_start", "time_bin_end")
UNREADABLE = (
    *(OSError, ValueError, TypeError, ImportError, LookupError, AttributeError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)
"""exceptions that NumPy and h5netcdf raise for damaged files"""


@checked(StimulusError)
def load(path: str | Path) -> xarray.DataArray:
    """Load a recording (presentation, neuroid[, time_bin]) from a local file.

    .nc   netCDF with one variable that has these dimensions, in any order, and coordinates along them
    .npz  an array `responses` with these axes, and 1-D coordinates named presentation_*, neuroid_* or time_bin_*, such
          as presentation_stimulus_id. The prefixes presentation_ and neuroid_ are removed from the names; time_bin_ is
          kept, as in time_bin_start

    Time bins are sorted by time_bin_start and time_bin_end. Raises StorageError if the file is missing or has
    unexpected contents, and StimulusError if the labels do not match the responses.
    """
    path = require_file(path)
    with needs_extra("analysis", StorageError, str(path)):
        import xarray
    try:
        if path.suffix.lower() == ".npz":
            with path.open("rb") as opened_file, np.load(opened_file) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            with xarray.open_dataset(path, engine="h5netcdf") as opened:
                data_set = opened.load()
    except UNREADABLE as reason:
        raise StorageError(
            given=f"{path} ({type(reason).__name__}: {reason})",
            expected="a netCDF file (which needs h5netcdf) or an .npz file without object arrays",
            remedy='check the path, or install the extra with pip install "pcsim[analysis]"',
        ) from reason
    if path.suffix.lower() == ".npz":
        if "responses" not in arrays:
            raise StorageError(
                given=f"{path}, which contains {', '.join(arrays)}",
                expected="an array named responses (presentation, neuroid[, time_bin])",
                remedy="save the file with np.savez(path, responses=..., presentation_stimulus_id=...)",
            )
        return _in_order(labelled(**arrays))
    fitting = [name for name, array in data_set.data_vars.items() if set(DIMENSIONS[:2]) <= set(array.dims)]
    if len(fitting) != 1 or not set(data_set[fitting[0]].dims) <= set(DIMENSIONS):
        raise StorageError(
            given=f"{path} with " + ", ".join(f"{name} {array.dims}" for name, array in data_set.data_vars.items()),
            expected=f"one variable with the dimensions {', '.join(DIMENSIONS)} (the last is optional)",
            remedy="rename its dimensions with array.rename(trial='presentation'), or call recordings.labelled(array)",
        )
    array = data_set[fitting[0]]
    return _in_order(array.transpose(*(dim for dim in DIMENSIONS if dim in array.dims)))


@checked(StimulusError)
def labelled(responses: ArrayLike, **coordinates: Labels) -> xarray.DataArray:
    """Label `responses` (presentation, neuroid[, time_bin]) with coordinates whose names begin with an axis name.

        labelled(x, presentation_stimulus_id=names, neuroid_region=regions, time_bin_start=begins)

    The prefixes presentation_ and neuroid_ are removed from the names; time_bin_ is kept. Raises StimulusError if a
    coordinate has an unsuitable name or shape, or if names are duplicated.
    """
    with needs_extra("analysis", StimulusError, "labelled()"):
        import xarray

    values = np.asarray(responses)
    sizes = dict(zip(DIMENSIONS, values.shape, strict=False))
    named: dict[str, Any] = {}
    for name, given in coordinates.items():
        array = np.asarray(given)
        axis = next((dim for dim in sizes if name.startswith(f"{dim}_")), None)
        if axis is None or array.shape != (sizes[axis],) or values.ndim not in (2, 3):
            raise StimulusError(
                given=f"responses {values.shape} and {name} {array.shape}",
                expected="(presentation, neuroid[, time_bin]), and 1-D coordinates whose names begin with one of these",
                remedy="call labelled(responses, presentation_stimulus_id=names, neuroid_region=regions)",
            )
        short = name if axis == "time_bin" else name.removeprefix(f"{axis}_")
        if short in named:
            raise StimulusError(
                given=f"two coordinates that are both called {short!r} without their axis prefix",
                expected="different names along presentation and neuroid",
                remedy=f"rename one of them, as in neuroid_neuroid_{short}=values",
            )
        named[short] = (axis, array)
    return xarray.DataArray(values, dims=DIMENSIONS[: values.ndim], coords=named)


@checked(StimulusError)
def images_of(recorded: xarray.DataArray, by: str | None = None) -> NDArray[Any]:
    """Return the unique ids of the presented images, sorted as in `repetitions`.

    Features must be in the same order. Strings sort alphabetically, so "image 10" comes before "image 2". Raises
    StimulusError if an id is missing (NaN, None or blank).
    """
    return np.unique(_shown(recorded, by))


@checked(StimulusError)
def of_images(recorded: xarray.DataArray, coordinate: str, by: str | None = None) -> NDArray[Any]:
    """Return a presentation coordinate, such as the class, for each image in the order used by `repetitions`.

    Raises StimulusError if the coordinate is missing (NaN, None or blank) or differs between presentations of an image.
    """
    _require_recording(recorded)
    if coordinate not in recorded.coords or recorded[coordinate].dims != ("presentation",):
        along = [str(name) for name, values in recorded.coords.items() if values.dims == ("presentation",)]
        raise StimulusError(
            given=f"the coordinate {coordinate!r}",
            expected=f"a coordinate along presentation: {', '.join(along)}",
            remedy=f"call labelled(..., presentation_{coordinate}=values)",
        )
    _, first, image = np.unique(_shown(recorded, by), return_index=True, return_inverse=True)
    values = as_ids(recorded[coordinate].values, coordinate)
    if (values[first][image] != values).any():
        raise StimulusError(
            given=f"{coordinate}, which changes between presentations of an image",
            expected="one value for each image",
            remedy="pass a coordinate that is a property of the image, such as its class",
        )
    return values[first]


@checked(StimulusError)
def repetitions(recorded: xarray.DataArray, by: str | None = None) -> NDArray[np.float64]:
    """Return responses (repetition, image, neuroid[, time_bin]), padded with NaN for images with fewer repetitions.

    by  the coordinate that identifies images; by default, stimulus_id or image_id

    Missing trials, and images that were not presented in a session, are also NaN. `numpy.nanmean(..., 0)` averages over
    repetitions. `regression.split_half_ceiling` requires a single time bin. Time bins may overlap. Raises
    StimulusError for other axes, missing ids, a neuroid_id that occurs twice, or time bins that are out of order.
    """
    _, image = np.unique(_shown(recorded, by), return_inverse=True)
    values = np.asarray(_checked(recorded).values, float)
    counts = np.bincount(image)
    found = np.full((counts.max(), len(counts), *values.shape[1:]), np.nan)
    order = np.argsort(image, kind="stable")
    turn = np.concatenate([np.arange(count) for count in counts])
    found[turn, image[order]] = values[order]
    return found


def _require_recording(recorded: object) -> None:
    if not isinstance(getattr(recorded, "dims", None), tuple) or not hasattr(recorded, "coords"):
        raise StimulusError(
            given=f"a {type(recorded).__name__}",
            expected="a labelled array (presentation, neuroid[, time_bin])",
            remedy="convert an array with labelled() first: labelled(responses, presentation_stimulus_id=names)",
        )


def _shown(recorded: xarray.DataArray, by: str | None) -> NDArray[Any]:
    _require_recording(recorded)
    coordinates = recorded.coords
    name = by or next((known for known in IDS if known in coordinates), None)
    if name is None or name not in coordinates or recorded[name].dims != ("presentation",):
        raise StimulusError(
            given=f"a {type(recorded).__name__} with coordinates {', '.join(map(str, coordinates))}, by={by!r}",
            expected=f"a coordinate along presentation that identifies the image, by default {' or '.join(IDS)}",
            remedy="pass its name as by='NAME', or convert an array with labelled() first",
        )
    return as_ids(recorded[name].values, str(name))


def _checked(recorded: xarray.DataArray) -> xarray.DataArray:
    """Return a recording as (presentation, neuroid[, time_bin]), after checking its neuroids and time bins."""
    _require_recording(recorded)
    dims = recorded.dims
    if not set(DIMENSIONS[:2]) <= set(dims) or not set(dims) <= set(DIMENSIONS):
        raise StimulusError(
            given=f"a recording with the dimensions {', '.join(map(str, dims))}",
            expected=f"the dimensions {', '.join(DIMENSIONS)} in any order (the last is optional)",
            remedy="rename dimensions with recorded.rename(OLD='NEW'), or add one with recorded.expand_dims('neuroid')",
        )
    if "neuroid_id" in recorded.coords:
        names, counts = np.unique(
            as_ids(np.atleast_1d(recorded["neuroid_id"].values), "neuroid_id"), return_counts=True
        )
        if twice := names[counts > 1].tolist():
            raise StimulusError(
                given=f"neuroid_id {', '.join(map(str, twice[:5]))}, which occurs more than once",
                expected="one entry for each neuroid",
                remedy="concatenate sessions along presentation: xarray.concat(sessions, 'presentation')",
            )
    _require_bins(recorded)
    return recorded.transpose(*(dim for dim in DIMENSIONS if dim in dims))


def _edges(recorded: xarray.DataArray) -> list[NDArray[np.float64]]:
    """Return the coordinates time_bin_start and time_bin_end, (time_bin,), if the recording has them."""
    known = [recorded[name] for name in BIN_EDGES if name in recorded.coords]
    return [np.asarray(edge.values, float) for edge in known if edge.dims == ("time_bin",)]


def _in_order(recorded: xarray.DataArray) -> xarray.DataArray:
    """Return a recording with its time bins sorted. Raises StimulusError for bins that are missing or occur twice."""
    edges = _edges(recorded)
    if edges:
        recorded = recorded.isel(time_bin=np.lexsort(edges[::-1]))
    _require_bins(recorded)
    return recorded


def _require_bins(recorded: xarray.DataArray) -> None:
    """Raise StimulusError unless time bins have finite edges, start before they end, and are in order."""
    edges = _edges(recorded)
    if not edges:
        return
    start, end = edges[0], edges[-1]
    later = is_after(start[1:], start[:-1])
    same = ~later & ~is_after(start[:-1], start[1:])
    follow = later | (same & is_after(end[1:], end[:-1]))
    if not np.isfinite(edges).all() or not follow.all() or (len(edges) == 2 and not is_after(end, start).all()):
        raise StimulusError(
            given="time bins " + ", ".join(f"{low:g}-{high:g}" for low, high in zip(start[:8], end[:8], strict=True)),
            expected="bins from time_bin_start to time_bin_end in ms, in order and without duplicates",
            remedy="sort them with recorded.sortby(['time_bin_start', 'time_bin_end']), and remove duplicates",
        )


__all__ = ["images_of", "labelled", "load", "of_images", "repetitions"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
