"""Packages that extras install: what a call says when they are missing."""

from __future__ import annotations

OPTIONAL = ("xarray", "sklearn", "optuna", "plotly", "pooch", "av", "distributed", "submitit", "h5netcdf", "pandas")
