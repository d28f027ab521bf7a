"""Entry point of `python -m experiments.object_solution_time`."""

from .. import base, object_solution_time

if __name__ == "__main__":
    base.main(object_solution_time)
