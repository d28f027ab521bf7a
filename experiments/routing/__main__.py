"""Entry point of `python -m experiments.routing`."""

from .. import base, routing

if __name__ == "__main__":
    base.main(routing)
