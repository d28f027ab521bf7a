"""Entry point of `python -m experiments.grouping`."""

from .. import base, grouping

if __name__ == "__main__":
    base.main(grouping)
