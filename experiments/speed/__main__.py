"""Entry point of `python -m experiments.speed`."""

from experiments import base, speed

if __name__ == "__main__":
    base.main(speed)
