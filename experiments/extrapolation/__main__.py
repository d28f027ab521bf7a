"""Entry point of `python -m experiments.extrapolation`."""

from experiments import base, extrapolation

if __name__ == "__main__":
    base.main(extrapolation)
