"""`python -m experiments.speed`."""

from experiments import common, speed

common.main(speed.run, lambda: common.parse(speed.PRESETS, None, speed.__doc__ or ""))
