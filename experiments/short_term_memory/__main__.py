"""Entry point of `python -m experiments.short_term_memory`."""

from .. import base, short_term_memory

if __name__ == "__main__":
    base.main(short_term_memory)
