"""Entry point of `python -m experiments.occlusion`."""

from .. import base, occlusion

if __name__ == "__main__":
    base.main(occlusion)
