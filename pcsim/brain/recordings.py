"""Recordings of neurons as labelled arrays (presentation, neuroid, time_bin), as Brain-Score keeps them.

    recorded = load("dicarlo.MajajHong2015.nc")          xarray.DataArray; also .npz
    each = repetitions(recorded)                         (repetition, image, neuroid, time_bin), NaN if missing
    regression.predictivity(features, np.nanmean(each, 0)[..., 0])

Needs the extra `analysis`: xarray, and h5netcdf for netCDF files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.core.exceptions import StimulusError, StorageError, needs_extra

if TYPE_CHECKING:
    import xarray

DIMENSIONS = ("presentation", "neuroid", "time_bin")
IDS = ("stimulus_id", "image_id")
"""the coordinate that names an image in Brain-Score, now and formerly"""


def load(path: str | Path) -> xarray.DataArray:
    """Load a recording (presentation, neuroid[, time_bin]) from a local file.

    .nc   netCDF: one variable with these dimensions in any order, coordinates along them
    .npz  an array `responses` with these axes, and coordinates presentation_*, neuroid_*, time_bin_*: (n,) each, such
          as presentation_stimulus_id; time_bin_start and time_bin_end keep their names

    Raises StorageError for a file that is missing or holds something else.
    """
    path = Path(path)
    with needs_extra("analysis", StorageError, str(path)):
        import xarray
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            with xarray.open_dataset(path, engine="h5netcdf") as opened:
                data_set = opened.load()
    except (OSError, ValueError, TypeError, ImportError) as reason:
        raise StorageError(
            given=f"{path} ({type(reason).__name__}: {reason})",
            expected="a netCDF file (with h5netcdf installed), or an .npz of arrays (strings, not objects)",
            remedy='check the path; pip install "pcsim[analysis]"',
        ) from reason
    if path.suffix == ".npz":
        if "responses" not in arrays:
            raise StorageError(
                given=f"{path} with {', '.join(arrays)}",
                expected="an array named responses, (presentation, neuroid[, time_bin])",
                remedy="np.savez(path, responses=..., presentation_stimulus_id=...)",
            )
        return labelled(**arrays)
    fitting = [name for name, array in data_set.data_vars.items() if set(DIMENSIONS[:2]) <= set(array.dims)]
    if len(fitting) != 1 or not set(data_set[fitting[0]].dims) <= set(DIMENSIONS):
        raise StorageError(
            given=f"{path} with " + ", ".join(f"{name} {array.dims}" for name, array in data_set.data_vars.items()),
            expected=f"one variable with dimensions {', '.join(DIMENSIONS)} (the last may be missing)",
            remedy="rename its dimensions: array.rename(trial='presentation'), or call recordings.labelled(array)",
        )
    array = data_set[fitting[0]]
    return array.transpose(*(dim for dim in DIMENSIONS if dim in array.dims))


def labelled(responses: ArrayLike, **coordinates: ArrayLike) -> xarray.DataArray:
    """Label `responses` (presentation, neuroid[, time_bin]) with coordinates that are named after their axis.

    labelled(x, presentation_stimulus_id=names, neuroid_region=regions, time_bin_start=begins)
    Raises StimulusError for coordinates that do not fit.
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
                expected="(presentation, neuroid[, time_bin]), and coordinates (n,) named after one of these",
                remedy="write labelled(responses, presentation_stimulus_id=names, neuroid_region=regions)",
            )
        named[name if axis == "time_bin" else name.removeprefix(f"{axis}_")] = (axis, array)
    return xarray.DataArray(values, dims=DIMENSIONS[: values.ndim], coords=named)


def images_of(recorded: xarray.DataArray, by: str | None = None) -> NDArray[Any]:
    """Return the images that were shown, each once, in the order of `repetitions`: sorted, strings alphabetically.

    Bring features into this order: the string "image 10" comes before "image 2".
    """
    return np.unique(_shown(recorded, by))


def of_images(recorded: xarray.DataArray, coordinate: str, by: str | None = None) -> NDArray[Any]:
    """Return a coordinate along presentation for each image, such as its class, in the order of `repetitions`.

    Raises StimulusError if presentations of one image differ in it.
    """
    if coordinate not in recorded.coords or recorded[coordinate].dims != ("presentation",):
        along = [str(name) for name, values in recorded.coords.items() if values.dims == ("presentation",)]
        raise StimulusError(
            given=f"the coordinate {coordinate!r}",
            expected=f"one along presentation: {', '.join(along)}",
            remedy=f"write labelled(..., presentation_{coordinate}=values)",
        )
    _, first, image = np.unique(_shown(recorded, by), return_index=True, return_inverse=True)
    values = np.asarray(recorded[coordinate].values)
    if (values[first][image] != values).any():
        raise StimulusError(
            given=f"{coordinate}, which changes between presentations of an image",
            expected="one value for each image",
            remedy="pass a coordinate that is a property of the image, such as its class",
        )
    return values[first]


def repetitions(recorded: xarray.DataArray, by: str | None = None) -> NDArray[np.float64]:
    """Return responses (repetition, image, neuroid[, time_bin]), NaN where an image was shown less often than others.

    by  the coordinate that identifies images: stimulus_id, or image_id, unless given

    `numpy.nanmean(..., 0)` is the mean response; `regression.split_half_ceiling` takes (repetition, image, neuroid).
    """
    _, image = np.unique(_shown(recorded, by), return_inverse=True)
    values = np.asarray(recorded.values, float)
    counts = np.bincount(image)
    found = np.full((counts.max(), len(counts), *values.shape[1:]), np.nan)
    order = np.argsort(image, kind="stable")
    turn = np.concatenate([np.arange(count) for count in counts])
    found[turn, image[order]] = values[order]
    return found


def _shown(recorded: xarray.DataArray, by: str | None) -> NDArray[Any]:
    coordinates = getattr(recorded, "coords", ())
    name = by or next((known for known in IDS if known in coordinates), None)
    if name is None or name not in coordinates or recorded[name].dims != ("presentation",):
        raise StimulusError(
            given=f"a {type(recorded).__name__} with coordinates {', '.join(map(str, coordinates))}, by={by!r}",
            expected=f"one along presentation that names the image: {' or '.join(IDS)}, or by=...",
            remedy="write by='NAME' of that coordinate; labelled() makes a recording of an array",
        )
    return np.asarray(recorded[name].values)
