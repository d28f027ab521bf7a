"""Entry point of `python -m experiments.speed`."""

from .. import base, speed

if __name__ == "__main__":
    base.main(speed)
