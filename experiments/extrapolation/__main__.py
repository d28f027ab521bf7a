"""Entry point of `python -m experiments.extrapolation`."""

from .. import base, extrapolation

if __name__ == "__main__":
    base.main(extrapolation)
