"""Entry point of `python -m experiments.cell_search`."""

from .. import base, cell_search

if __name__ == "__main__":
    base.main(cell_search)
