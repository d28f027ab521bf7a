"""Tolerances of documented guarantees, with the errors that were measured when the tolerances were set."""

ORDERS = {  # observed order of accuracy: (nominal, allowed deviation)
    "Euler": (1.0, 0.05),  # measured 1.002 .. 1.029
    "Heun": (2.0, 0.1),  # measured 2.009 .. 2.048
    "RK4": (4.0, 0.25),  # measured 4.02 .. 4.12
    "ExponentialEuler": (1.0, 0.05),  # measured 1.002 .. 1.016
}
EXACT_ON_HELD_DRIVE = 1e-12  # measured 0 .. 3e-16
ULPS_MAP_EQUALS_EULER = 2  # measured 0
SETTLED_PC = 1e-8  # measured 2e-16
NUMPY_BLT = 1e-12  # measured 2e-15

# Global error with rtol 1e-7 over two time constants; measured 2e-9 .. 4e-7, and 5.5e-6 for fehlberg2, whose order-1
# error estimate allows errors to accumulate.
ADAPTIVE = {"dopri8": 1e-6, "dopri5": 1e-6, "bosh3": 1e-6, "adaptive_heun": 1e-6, "fehlberg2": 1e-5}
ALONE_OR_IN_A_BATCH = 1e-12  # measured 0 .. 4e-15, and up to 2e-14 for the energy of the modern Hopfield network
EQUATIONS = 1e-10  # models against NumPy evaluations of their equations; measured 0 .. 1e-13
RISE = 1e-12  # increase of an energy that must decrease, relative to its magnitude; measured up to 7e-16
LEAST_SQUARES = 1e-8  # measured 1e-14
