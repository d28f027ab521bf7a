"""Entry point of `python -m experiments.attention`."""

from .. import attention, base

if __name__ == "__main__":
    base.main(attention)
