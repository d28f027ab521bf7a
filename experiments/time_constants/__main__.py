"""Entry point of `python -m experiments.time_constants`."""

from .. import base, time_constants

if __name__ == "__main__":
    base.main(time_constants)
