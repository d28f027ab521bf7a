"""Float64 NumPy references for circuit rules, with their closed forms.

Written from the literature, without access to the rules of pcsim. Flow functions take `n` explicit Euler steps of size
`dt` in which all right-hand sides are taken at the old state. A trajectory has the initial value at index 0. Weight
matrices are [target, source].
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.linalg import expm
from scipy.optimize import brentq
from scipy.stats import norm


def relu(x):
    return np.maximum(np.asarray(x, dtype=np.float64), 0.0)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, dtype=np.float64)))


def euler(rhs, state, n, dt):
    """n explicit Euler steps of d(state)/dt = rhs(state, k); returns [n + 1, ...]."""
    state = np.array(state, dtype=np.float64)
    out = [state.copy()]
    for k in range(n):
        state = state + dt * np.asarray(rhs(state, k), dtype=np.float64)
        out.append(state.copy())
    return np.stack(out)


def numerical_jacobian(rhs, x, eps=1e-6):
    """Central differences of rhs: R^d -> R^d at x."""
    x = np.asarray(x, dtype=np.float64)
    cols = []
    for i in range(x.size):
        d = np.zeros_like(x)
        d[i] = eps
        cols.append((np.asarray(rhs(x + d)) - np.asarray(rhs(x - d))) / (2 * eps))
    return np.stack(cols, axis=1)


def wc_sigmoid(x, a, theta):
    """Wilson & Cowan (1972) eq. 15 [memory]: S(x) = 1/(1+exp(-a(x-theta))) - 1/(1+exp(a theta)); S(0)=0.

    Its supremum is S(inf) = 1 - 1/(1+exp(a theta)) = 1/(1 + exp(-a theta)), below 1.
    """
    return sigmoid(a * (np.asarray(x, dtype=np.float64) - theta)) - sigmoid(-a * theta)


WC_LIMIT_CYCLE = {
    "c1": 16.0,
    "c2": 12.0,
    "c3": 15.0,
    "c4": 3.0,
    "a_E": 1.3,
    "th_E": 4.0,
    "a_I": 2.0,
    "th_I": 3.7,
    "r_E": 1.0,
    "r_I": 1.0,
    "P": 1.25,
    "Q": 0.0,
}  # fig. 11

WC_THREE_STATES = {
    "c1": 12.0,
    "c2": 4.0,
    "c3": 13.0,
    "c4": 11.0,
    "a_E": 1.2,
    "th_E": 2.8,
    "a_I": 1.0,
    "th_I": 4.0,
    "r_E": 1.0,
    "r_I": 1.0,
    "P": 0.0,
    "Q": 0.0,
}


def wc_rhs(
    x,
    *,
    c1=16.0,
    c2=12.0,
    c3=15.0,
    c4=3.0,
    a_E=1.3,
    th_E=4.0,
    a_I=2.0,
    th_I=3.7,
    r_E=1.0,
    r_I=1.0,
    P=1.25,
    Q=0.0,
    tau_E=8.0,
    tau_I=8.0,
    k="one",
):
    """Right-hand side of wilson_cowan_steps at x = (E, I)."""
    E, I = x  # noqa: E741
    kE = 1.0 if k == "one" else sigmoid(a_E * th_E)  # k="max": k_e = S_e(inf), the paper's
    kI = 1.0 if k == "one" else sigmoid(a_I * th_I)
    dE = (-E + (kE - r_E * E) * wc_sigmoid(c1 * E - c2 * I + P, a_E, th_E)) / tau_E
    dI = (-I + (kI - r_I * I) * wc_sigmoid(c3 * E - c4 * I + Q, a_I, th_I)) / tau_I
    return np.array([dE, dI])


def wilson_cowan_steps(E0, I0, n, *, dt=0.05, **par):
    """Wilson & Cowan (1972) eqs 11-12 [memory], one E and one I population:

        tau_e E' = -E + (k_e - r_e E) S_e(c1 E - c2 I + P)
        tau_i I' = -I + (k_i - r_i I) S_i(c3 E - c4 I + Q)

    tau = 8 (ms).  k="one": (1 - r E) as usually coded; k="max": k = S(inf) as in the paper.
    Defaults are the limit cycle of fig. 11.  Returns [n+1, 2].
    """
    return euler(lambda x, k_: wc_rhs(x, **par), [E0, I0], n, dt)


def wilson_cowan_fixed_points(grid=4001, **par):
    """Oracle: every fixed point, by eliminating I.

    From E' = 0: S_e(u) = E / (k - r E) gives u by the inverse sigmoid, I = (c1 E - u + P) / c2;
    then one-dimensional root bracketing of I' = 0 along that E-nullcline.  Returns a list of
    (E, I, eigenvalues of the Jacobian); unique and unstable in the bounded square -> limit cycle
    (Poincare-Bendixson).
    """
    p = {
        "c1": 16.0,
        "c2": 12.0,
        "c3": 15.0,
        "c4": 3.0,
        "a_E": 1.3,
        "th_E": 4.0,
        "a_I": 2.0,
        "th_I": 3.7,
        "r_E": 1.0,
        "r_I": 1.0,
        "P": 1.25,
        "Q": 0.0,
        "tau_E": 8.0,
        "tau_I": 8.0,
        "k": "one",
    }
    p.update(par)
    kE = 1.0 if p["k"] == "one" else float(sigmoid(p["a_E"] * p["th_E"]))
    s0 = float(sigmoid(-p["a_E"] * p["th_E"]))
    smax = 1.0 - s0

    def I_of_E(E):
        s = E / (kE - p["r_E"] * E) + s0  # unshifted sigmoid value in (0, 1)
        u = p["th_E"] + (math.log(s) - math.log1p(-s)) / p["a_E"]
        return (p["c1"] * E - u + p["P"]) / p["c2"]

    def g(E):
        return wc_rhs((E, I_of_E(E)), **p)[1]

    # admissible E: s in (0, 1)  <->  E/(k - rE) in (-s0, smax)
    Emax = smax * kE / (1.0 + smax * p["r_E"])
    Emin = -s0 * kE / (1.0 - s0 * p["r_E"])
    # the ends of the nullcline run off like log(distance to the end): refine the grid there
    t = np.linspace(-1 + 1e-12, 1 - 1e-12, grid)
    Es = Emin + (Emax - Emin) * 0.5 * (1 + np.tanh(14 * t) / np.tanh(14))
    Es = np.unique(np.concatenate([Es, np.linspace(Emin, Emax, grid)[1:-1]]))
    vals = []
    for E in Es:
        try:
            vals.append(g(E))
        except (ValueError, ZeroDivisionError):
            vals.append(np.nan)
    roots = []
    for a, b, va, vb in zip(Es[:-1], Es[1:], vals[:-1], vals[1:], strict=False):
        if np.isfinite(va) and np.isfinite(vb) and va == 0.0:
            roots.append(a)
        elif np.isfinite(va) and np.isfinite(vb) and va * vb < 0:
            roots.append(brentq(g, a, b, xtol=1e-15))
    out = []
    for E in roots:
        I = I_of_E(E)  # noqa: E741
        lam = np.linalg.eigvals(numerical_jacobian(lambda x: wc_rhs(x, **p), (E, I)))
        out.append((E, I, lam))
    return out


def oscillates(trace, dt, settle, min_peak_to_peak=1e-2):
    """Does a scalar trace oscillate after `settle`?  Returns (bool, amplitude, period, drift).

    Oscillation: at least four upward crossings of the mean in the settled part, peak-to-peak above
    the floor, and the amplitude of the last half equal to that of the first half (drift small).
    """
    x = np.asarray(trace, dtype=np.float64)[int(settle / dt) :]
    m = 0.5 * (x.max() + x.min())
    up = np.nonzero((x[:-1] < m) & (x[1:] >= m))[0]
    amp = x.max() - x.min()
    h = len(x) // 2
    drift = abs((x[h:].max() - x[h:].min()) - (x[:h].max() - x[:h].min()))
    period = float(np.mean(np.diff(up)) * dt) if len(up) > 1 else float("nan")
    return bool(len(up) >= 4 and amp > min_peak_to_peak and drift < 0.02 * amp), amp, period, drift


SSN_J = np.array([[1.25, -0.65], [1.2, -0.5]])  # [target, source], E then I, signs included


def ssn_steps(r0, h, n, *, W=SSN_J, k=0.04, power=2.0, tau=(20.0, 10.0), dt=0.1):
    """SSN: T dr/dt = -r + k [W r + h]_+^n, elementwise power (Ahmadian, Rubin & Miller 2013 eq. 2.1-2.3;
    Rubin, Van Hooser & Miller 2015 eq. 1 [memory]).

    tau_E = 20, tau_I = 10 ms; k = 0.04, n = 2.0 (Rubin 2015; 2013 also k = 0.01, n = 2.2 [memory]).
    Hennequin et al. 2018 use the same 2x2 weights but k = 0.3 and put the power law on the voltage
    (tau V' = -V + W k[V]_+^n + h) [checked in a replication]; that is ssn_voltage_steps.
    """
    W, tau, h = np.asarray(W, float), np.asarray(tau, float), np.asarray(h, float)
    return euler(lambda r, _: (-r + k * relu(W @ r + h) ** power) / tau, r0, n, dt)


def ssn_fixed_points(h, *, W=SSN_J, k=0.04, power=2.0, r_max=500.0, grid=200001):
    """Oracle: all fixed points with r_E > 0 of the 2-population SSN, by elimination.

    For a trial r_E the E equation gives u_E = (r_E/k)^(1/n) and r_I = (J_EE r_E + h_E - u_E)/J_EI
    (J_EI > 0); the I equation is then one scalar equation in r_E, bracketed on a grid and solved by
    brentq.  Returns an array [m, 2].
    """
    W, h = np.asarray(W, float), np.asarray(h, float)
    JEI = -W[0, 1]

    def rI(rE):
        return (W[0, 0] * rE + h[0] - (rE / k) ** (1.0 / power)) / JEI

    def g(rE):
        i = rI(rE)
        return i - k * np.maximum(W[1, 0] * rE + W[1, 1] * i + h[1], 0.0) ** power

    x = np.linspace(0.0, math.sqrt(r_max), grid) ** 2  # finer near 0
    x[0] = 1e-14
    v = g(x)
    roots = [
        brentq(g, a, b, xtol=1e-14) for a, b, va, vb in zip(x[:-1], x[1:], v[:-1], v[1:], strict=False) if va * vb < 0
    ]
    pts = [(r, rI(r)) for r in roots if rI(r) >= -1e-12]
    return np.array(pts).reshape(-1, 2)


def ssn_jacobian(r, h, *, W=SSN_J, k=0.04, power=2.0, tau=(20.0, 10.0)):
    """Jacobian of the flow at r: T^-1 (-1 + diag(phi') W), phi' = n k u^(n-1)."""
    W, tau = np.asarray(W, float), np.asarray(tau, float)
    gain = power * k * relu(W @ np.asarray(r, float) + h) ** (power - 1)
    return (-np.eye(2) + gain[:, None] * W) / tau[:, None]


def ssn_regime(c, *, W=SSN_J, k=0.04, power=2.0, tau=(20.0, 10.0), rel=1e-3):
    """What the SSN does at equal input c to E and I: dict with the fixed point, the log-log slope
    d ln r_E / d ln c (> 1 supralinear, < 1 sublinear), the E-to-E loop gain phi'_E J_EE (> 1: an
    inhibition-stabilised network), and whether the fixed point is stable."""
    pts = [ssn_fixed_points([x, x], W=W, k=k, power=power) for x in (c * (1 - rel), c, c * (1 + rel))]
    lo, mid, hi = (p[0] for p in pts)  # lowest branch
    slope = (math.log(hi[0]) - math.log(lo[0])) / (math.log1p(rel) - math.log1p(-rel))
    J = ssn_jacobian(mid, np.array([c, c]), W=W, k=k, power=power, tau=tau)
    loop = J[0, 0] * tau[0] + 1.0
    return {
        "r": mid,
        "slope": slope,
        "loop": loop,
        "isn": loop > 1,
        "stable": bool(np.all(np.linalg.eigvals(J).real < 0)),
        "number": len(pts[1]),
    }


MOTIF_PROJECTIONS = {
    ("E", "E"): +1,
    ("E", "PV"): +1,
    ("E", "SOM"): +1,
    ("E", "VIP"): +1,
    ("PV", "E"): -1,
    ("PV", "PV"): -1,
    ("SOM", "E"): -1,
    ("SOM", "PV"): -1,
    ("SOM", "VIP"): -1,
    ("VIP", "SOM"): -1,
}


MOTIF_CELLS = ("E", "PV", "SOM", "VIP")


MOTIF_WEIGHTS = np.array(
    [
        [0.27 * 0.07 * 6.0, 0.69 * 0.07 * 10.0, 0.27 * 0.07 * 28.0, 0.0],
        [1.0, 1.5, 1.3, 0.0],
        [1.0, 0.0, 0.0, 0.6],
        [1.0, 0.0, 0.6, 0.0],
    ]
)


def motif_sign_matrix():
    """[target, source] matrix of -1, 0, +1 from MOTIF_PROJECTIONS."""
    S = np.zeros((4, 4))
    for (src, tgt), s in MOTIF_PROJECTIONS.items():
        S[MOTIF_CELLS.index(tgt), MOTIF_CELLS.index(src)] = s
    return S


def motif_steps(r0, h, n, *, W=MOTIF_WEIGHTS, tau=(10.0, 10.0, 10.0, 10.0), theta=(0.0, 0.0, 0.0, 0.0), dt=0.1):
    """Linear-threshold motif: tau r' = -r + [S * W r + h - theta]_+ (Litwin-Kumar, Rosenbaum & Doiron 2016
    use a transfer function f; Hertaeg & Sprekeler 2019 are linear with r clipped at 0 after the step
    [checked: gain*(W r + I - H), then r[r<0] = 0, tau = 10 for every cell, and Heun, not Euler]).

    Order of r: E, PV, SOM, VIP.
    """
    M = motif_sign_matrix() * np.asarray(W, float)
    h, tau, theta = (np.asarray(a, float) for a in (h, tau, theta))
    return euler(lambda r, _: (-r + relu(M @ r + h - theta)) / tau, r0, n, dt)


def threshold_linear_fixed_points(M, h):
    """Oracle: all fixed points of r = [M r + h]_+ by enumerating active sets.

    For an active set A: r_A = (1 - M_AA)^-1 h_A, r elsewhere 0; accepted if r_A >= 0 and M r + h <= 0
    outside A.
    """
    M, h = np.asarray(M, float), np.asarray(h, float)
    d, out = h.size, []
    for bits in itertools.product((0, 1), repeat=d):
        A = np.nonzero(bits)[0]
        r = np.zeros(d)
        if A.size:
            r[A] = np.linalg.solve(np.eye(A.size) - M[np.ix_(A, A)], h[A])
        u = M @ r + h
        off = np.setdiff1d(np.arange(d), A)
        if np.all(r[A] >= -1e-12) and np.all(u[off] <= 1e-12) and not any(np.allclose(r, o) for o in out):
            out.append(r)
    return out


def motif_response_matrix(W=MOTIF_WEIGHTS):
    """Oracle, all cells active: L = dr/dh = (1 - S*W)^-1; disinhibition is L[E, VIP] > 0.

    Sign without recurrence through E: VIP -> SOM -> E is (-)(-) > 0, but SOM also inhibits PV, and
    VIP -> SOM -> PV -> E is (-)(-)(-) < 0, so disinhibition needs the direct path to win:
    W_ES (1 + W_PP) > W_EP W_PS (see motif_disinhibition_condition).
    """
    return np.linalg.inv(np.eye(4) - motif_sign_matrix() * np.asarray(W, float))


def organics_steps(y0, a0, z, n, *, W, W_r=None, b0=1.0, b1=1.0, sigma=1.0, tau_y=1.0, tau_a=1.0, dt=0.001):
    """ORGaNICs, Rawat, Heeger & Martiniani 2024 (README cell [checked]):

        tau_y y' = -y + b1 z + (1 - sqrt(a_+)) relu(W_r y)
        tau_a a' = -a + sigma^2 b0^2 + W (y_+^2 a_+),       a_+ = relu(a), W >= 0

    README: dt/tau = 0.001, sigma = 1, W_r = 1 at the start, W = exp(log W).  z = relu(W_zx x) there.
    Simultaneous update.  Returns (y [n+1, d], a [n+1, d]).
    """
    y, a = np.array(y0, float), np.array(a0, float)
    z = np.asarray(z, float)
    W_r = np.eye(y.size) if W_r is None else np.asarray(W_r, float)
    ys, as_ = [y], [a]
    for _ in range(n):
        dy = (-y + b1 * z + (1 - np.sqrt(relu(a))) * relu(W_r @ y)) / tau_y
        da = (-a + (sigma * b0) ** 2 * np.ones_like(a) + W @ (relu(y) ** 2 * relu(a))) / tau_a
        y, a = y + dt * dy, a + dt * da
        ys.append(y)
        as_.append(a)
    return np.stack(ys), np.stack(as_)


def organics_fixed_point(z, *, W, b0=1.0, b1=1.0, sigma=1.0):
    """Oracle, W_r = 1 and z >= 0: sqrt(a) y = b1 z, hence a = (sigma b0)^2 + W (b1 z)^2 and

    y = b1 z / sqrt(sigma^2 b0^2 + W (b1^2 z^2)),   y^2 is divisive normalisation with exponent 2.
    """
    drive = np.asarray(b1 * np.asarray(z, float), float)
    a = (sigma * b0) ** 2 + np.asarray(W, float) @ drive**2
    return drive / np.sqrt(a), a


def dn_ode_steps(x, *, dt=0.001, tau1=0.1, tau2=0.1, power=2.0, sigma=0.1, scale=1.0, order=2, rectify="half"):
    """The same as a flow, explicit Euler, simultaneous update; order-m gamma = m leaky stages:

        tau1 u1' = x - u1;  tau1 u_j' = u_{j-1} - u_j;  tau2 G' = relu(u_m) - G;  r from (u_m, G)

    Output k is read AFTER step k (which used x_k).  As dt -> 0 it equals dn_convolution, error O(dt).
    """
    u, G, out = np.zeros(order), 0.0, []
    for xk in np.asarray(x, float):
        R = max(u[-1], 0.0) if rectify == "half" else abs(u[-1])
        du = (np.concatenate([[xk], u[:-1]]) - u) / tau1
        G = G + dt * (R - G) / tau2
        u = u + dt * du
        R = max(u[-1], 0.0) if rectify == "half" else abs(u[-1])
        out.append(scale * R**power / (sigma**power + G**power))
    return np.array(out)


def dn_step_response(t, c, *, tau1=0.1, tau2=0.1, power=2.0, sigma=0.1, scale=1.0):
    """Oracle, continuous time, step x = c at t = 0, w = 0:

        L = c (1 - (1 + t/tau1) e^{-t/tau1});  tau2 G' = L - G, G(0) = 0 solved in closed form
        (tau1 != tau2: G = c - c (A + B t) e^{-t/tau1} + c (A - 1) e^{-t/tau2},
         B = 1/(tau1 - tau2), A = tau1 (tau2 B - 1)/(tau2 - tau1);  equal: third-order gamma step)

    t -> inf: r = scale c^n / (sigma^n + c^n).
    """
    t = np.asarray(t, float)
    s = t / tau1
    L = c * (1 - (1 + s) * np.exp(-s))
    if abs(tau1 - tau2) < 1e-12:
        G = c * (1 - (1 + s + s**2 / 2) * np.exp(-s))
    else:
        B = 1 / (tau1 - tau2)
        A = tau1 * (tau2 * B - 1) / (tau2 - tau1)
        G = c - c * (A + B * t) * np.exp(-s) + c * (A - 1) * np.exp(-t / tau2)
    return scale * L**power / (sigma**power + G**power)


def dn_steady_state(c, *, power=2.0, sigma=0.1, scale=1.0, w=0.0):
    """Oracle: step of height c, t -> inf (monophasic w = 0; biphasic: c -> (1 - w) c)."""
    c = (1 - w) * c
    return scale * c**power / (sigma**power + c**power)


def intrinsic_suppression_steps(drive, *, alpha=0.96, beta=0.7, s0=0.0, r0=0.0):
    """Vinken, Boix & Kreiman 2020 eqs 1-2 [memory for alpha, beta and numbering]:

        s_t = alpha s_{t-1} + (1 - alpha) r_{t-1};     r_t = relu(drive_t - beta s_t)

    drive [T, ...] = W x_t + b.  r_0 (before the first drive) and s_0 are 0.  Returns (r [T], s [T]).
    s uses the PREVIOUS response, so the first response is unsuppressed.
    """
    drive = np.asarray(drive, float)
    s = np.zeros(drive.shape[1:]) + s0
    r = np.zeros(drive.shape[1:]) + r0
    rs, ss = [], []
    for d in drive:
        s = alpha * s + (1 - alpha) * r
        r = relu(d - beta * s)
        rs.append(r)
        ss.append(s)
    return np.stack(rs), np.stack(ss)


def intrinsic_suppression_constant(t, d, *, alpha=0.96, beta=0.7):
    """Oracle: constant drive d > 0 from t = 1 on, s_1 = 0, response always positive:

    rho = alpha - (1-alpha) beta,  s_t = d/(1+beta) (1 - rho^{t-1}),  r_t = d - beta s_t -> d/(1+beta)
    """
    t = np.asarray(t, float)
    rho = alpha - (1 - alpha) * beta
    s = d / (1 + beta) * (1 - rho ** (t - 1))
    return d - beta * s, s


def stp_steps(x0, u0, rate, n, *, U=0.2, tau_D=0.2, tau_F=1.5, dt=1e-4):
    """Rate form, Mongillo, Barak & Tsodyks 2008 (supplement eqs S1-S2 [memory]) with U = 0.2, tau_D = 0.2 s,
    tau_F = 1.5 s:

        x' = (1 - x)/tau_D - u x r;      u' = (U - u)/tau_F + U (1 - u) r

    rate: scalar or [n].  Returns (x, u) each [n+1].  tau_F=None: depression only, u = U.
    """
    rate = np.broadcast_to(np.asarray(rate, float), (n,))
    x, u = float(x0), float(U if tau_F is None else u0)
    xs, us = [x], [u]
    for r in rate:
        dx = (1 - x) / tau_D - u * x * r
        du = 0.0 if tau_F is None else (U - u) / tau_F + U * (1 - u) * r
        x, u = x + dt * dx, u + dt * du
        xs.append(x)
        us.append(u)
    return np.array(xs), np.array(us)


def stp_steady_state(r, *, U=0.2, tau_D=0.2, tau_F=1.5):
    """Oracle: u* = U (1 + tau_F r)/(1 + U tau_F r), x* = 1/(1 + u* tau_D r).  tau_F=None: u* = U."""
    r = np.asarray(r, float)
    u = U * np.ones_like(r) if tau_F is None else U * (1 + tau_F * r) / (1 + U * tau_F * r)
    return 1 / (1 + u * tau_D * r), u


def ou_euler_steps(x0, xi, *, tau=10.0, sigma=1.0, dt=1.0):
    """dx = -x/tau dt + sigma sqrt(2/tau) dW, Euler-Maruyama; xi [n, ...] standard normal."""
    x = np.array(x0, float)
    out = [x]
    for z in xi:
        x = x - dt / tau * x + sigma * math.sqrt(2 * dt / tau) * z
        out.append(x)
    return np.stack(out)


def ou_exact_steps(x0, xi, *, tau=10.0, sigma=1.0, dt=1.0):
    """The exact transition: x <- e^{-dt/tau} x + sigma sqrt(1 - e^{-2 dt/tau}) xi."""
    a = math.exp(-dt / tau)
    x = np.array(x0, float)
    out = [x]
    for z in xi:
        x = a * x + sigma * math.sqrt(1 - a * a) * z
        out.append(x)
    return np.stack(out)


def ou_moments(n, x0, *, tau=10.0, sigma=1.0, dt=1.0, method="euler"):
    """Oracle: mean and variance of x_n from a fixed x0, and the stationary variance and lag-1 correlation.

    x_{k+1} = rho x_k + s xi: mean rho^n x0, variance s^2 (1 - rho^{2n})/(1 - rho^2).
    Euler: rho = 1 - dt/tau, stationary sigma^2/(1 - dt/(2 tau)); exact: rho = e^{-dt/tau}, sigma^2.
    Autocorrelation at lag m dt: rho^m (exact: e^{-lag/tau}).
    """
    rho = 1 - dt / tau if method == "euler" else math.exp(-dt / tau)
    stat = sigma**2 / (1 - dt / (2 * tau)) if method == "euler" else sigma**2
    return rho**n * x0, stat * (1 - rho ** (2 * n)), stat, rho


def conv_same(x, W):
    """Zero-padded 'same' cross-correlation, x [H, Wd, Cin], W [S, S, Cin, Cout] (TensorFlow's layout and
    torch's arithmetic: no flip).  out[p, q, o] = sum_{i,j,c} x[p+i-S//2, q+j-S//2, c] W[i, j, c, o]."""
    x, W = np.asarray(x, float), np.asarray(W, float)
    S, H, Wd = W.shape[0], x.shape[0], x.shape[1]
    m = S // 2
    xp = np.zeros((H + 2 * m, Wd + 2 * m, x.shape[2]))
    xp[m : m + H, m : m + Wd] = x
    out = np.zeros((H, Wd, W.shape[3]))
    for i in range(S):
        for j in range(S):
            out += xp[i : i + H, j : j + Wd] @ W[i, j]
    return out


def hgru_symmetric(W, spatial=True):
    """Symmetric horizontal kernel.  spatial=True: W[dx, dy, k1, k2] = W[-dx, -dy, k2, k1], the paper's
    statement (the connection from unit A to B equals that from B to A: the operator is self-adjoint).
    spatial=False: only the channel axes are swapped, what the published code does (init and gradient
    both 0.5 (w + w^T(0,1,3,2)) [checked]); that operator is NOT self-adjoint in general."""
    W = np.asarray(W, float)
    Wt = W[::-1, ::-1] if spatial else W
    return 0.5 * (W + np.transpose(Wt, (0, 1, 3, 2)))


def hgru_steps(
    X, H2, n, *, W, U1, b1, U2, b2, alpha, mu, kappa, omega, beta=None, gamma=None, eta=None, form="paper", zeta=np.tanh
):
    """hGRU, Linsley, Kim, Veerabadran, Windolf & Serre 2018, eqs 1-10 in the brief's
    count; a comment in the published code calls H1 eq. 4 and H2 eqs 8-9 (numbers differ between versions):

        G1[t] = sigmoid(U1 . H2[t-1] + b1)                                 gain gate, 1x1
        C1[t] = W * (G1 . H2[t-1])
        H1[t] = zeta(X - C1 (alpha H2[t-1] + mu))
        G2[t] = sigmoid(U2 . H1[t] + b2)                                   mix gate, 1x1
        C2[t] = W * H1[t]                                                  the same W
        Ht[t] = zeta(kappa H1 + beta C2 + omega H1 C2)
        H2[t] = eta_t (H2[t-1] (1 - G2) + Ht G2)

    zeta = tanh; alpha, mu, kappa, omega, beta per channel [C]; eta [n] or None (1).  X, H2 [H, W, C];
    W [S, S, C, C] (conv_same), U1, U2 [C, C] as [in, out].  Returns (H1, H2) after n steps.

    form="code" (serre-lab/hgru_share layers/recurrent/hgru.py [checked]): e = gamma C2,
    Ht = zeta(kappa (H1 + e) + omega H1 e) -- that is beta = kappa gamma and omega -> omega gamma -- and the
    mix gate is the other way round: H2 = eta_t (G2 H2 + (1 - G2) Ht).  Other differences of the code:
    H2[0] random (Xavier), eta uniform [0,1] at the start, gate biases "chronos": b1 = -log U(1, T-1),
    b2 = -b1; hgru_bn adds batch norm to G1, G2, C1, C2; a variant (hgru_bn_relu, and the PyTorch ports) uses
    relu on both stages (inner relu on (alpha H2 + mu) C1 as well), two kernels W_inh, W_exc, kappa H1 +
    gamma C2 + omega H1 C2, no eta, and the mix gate as in the paper.
    """
    H1 = None
    for t in range(n):
        G1 = sigmoid(H2 @ U1 + b1)
        C1 = conv_same(G1 * H2, W)
        H1 = zeta(X - C1 * (alpha * H2 + mu))
        G2 = sigmoid(H1 @ U2 + b2)
        C2 = conv_same(H1, W)
        if form == "paper":
            Ht = zeta(kappa * H1 + beta * C2 + omega * H1 * C2)
            H2 = H2 * (1 - G2) + Ht * G2
        else:
            e = gamma * C2
            Ht = zeta(kappa * (H1 + e) + omega * (H1 * e))
            H2 = G2 * H2 + (1 - G2) * Ht
        if eta is not None:
            H2 = eta[t] * H2
    return H1, H2


def hgru_no_horizontal(X, H2_0, n, *, kappa, b2):
    """Oracle: W = 0, U2 = 0, eta = 1.  H1 = tanh(X), Ht = tanh(kappa tanh X), g = sigmoid(b2):
    H2[n] = Ht + (1-g)^n (H2[0] - Ht)."""
    Ht, g = np.tanh(kappa * np.tanh(X)), sigmoid(b2)
    return Ht + (1 - g) ** n * (H2_0 - Ht)


def lca_steps(x0, rho, n, *, k=0.2, beta=0.4, tau=1.0, sigma=0.0, xi=None, dt=0.1, clip=True):
    """Leaky competing accumulator, Usher & McClelland 2001 eq. 4 / appendix [memory]:

        dx_i = (rho_i - k x_i - beta sum_{j != i} x_j) dt/tau + sigma xi_i sqrt(dt/tau);   x_i <- max(x_i, 0)

    k = 0.2, beta = 0.4, dt/tau = 0.1 [checked in replications]; every x_j in the sum is the old one.
    xi [n, d] standard normal.  Returns [n+1, d].
    """
    x, rho = np.array(x0, float), np.asarray(rho, float)
    out = [x]
    for t in range(n):
        x = x + dt / tau * (rho - k * x - beta * (x.sum() - x))
        if xi is not None:
            x = x + sigma * math.sqrt(dt / tau) * xi[t]
        if clip:
            x = relu(x)
        out.append(x)
    return np.stack(out)


def lca_winner(rho, *, k=0.2, beta=0.4):
    """Oracle, beta > k, unit i the only one left: x_i = rho_i/k, the others 0, and consistent if
    rho_j < beta rho_i / k for every other j."""
    i = int(np.argmax(rho))
    x = np.zeros(len(rho))
    x[i] = rho[i] / k
    return x, all(rho[j] < beta * x[i] for j in range(len(rho)) if j != i)


def ddm_closed_form(*, v=1.0, a=1.0, s=1.0, x0=0.0):
    """Oracle (continuous time; Bogacz et al. 2006 eqs 8-9 [memory] for x0 = 0):

        P(+a) = (1 - e^{-2v(x0+a)/s^2}) / (1 - e^{-4va/s^2})   [x0 = 0: 1/(1 + e^{-2va/s^2})]
        mean DT = (a (2P - 1) - x0)/v                          [x0 = 0: (a/v) tanh(a v / s^2)]
        var DT (x0 = 0) = (a s^2/v^3) (tanh q - q sech^2 q), q = a v / s^2
        v = 0: P = (x0+a)/(2a), DT = (a^2 - x0^2)/s^2, var = 2 a^4/(3 s^4)

    Here the bounds are at +-a and s is the diffusion coefficient: Ratcliff's a is the SEPARATION (2a here)
    and his s = 0.1.  Returns (P, mean, variance or nan).
    """
    if v == 0:
        return (x0 + a) / (2 * a), (a * a - x0 * x0) / s**2, 2 * a**4 / (3 * s**4) if x0 == 0 else float("nan")
    P = math.expm1(-2 * v * (x0 + a) / s**2) / math.expm1(-4 * v * a / s**2)
    q = a * v / s**2
    var = a * s**2 / v**3 * (math.tanh(q) - q / math.cosh(q) ** 2) if x0 == 0 else float("nan")
    return P, (a * (2 * P - 1) - x0) / v, var


def ddm_discrete_exact(*, v=1.0, a=1.0, s=1.0, x0=0.0, dt=1e-2, nodes=801):
    """Oracle for the Euler-Maruyama walk itself: mean number of steps and P(+), from the Fredholm equations
    T(x) = 1 + int_{-a}^{a} p(y - x) T(y) dy,  P(x) = Pr(x + step >= a) + int p P, Gauss-Legendre nodes."""
    y, w = np.polynomial.legendre.leggauss(nodes)
    y, w = a * y, a * w
    sd = s * math.sqrt(dt)
    K = norm.pdf(y[None, :], y[:, None] + v * dt, sd) * w[None, :]
    A = np.eye(nodes) - K
    T = np.linalg.solve(A, np.ones(nodes))
    P = np.linalg.solve(A, norm.sf(a, y + v * dt, sd))
    k0 = norm.pdf(y, x0 + v * dt, sd) * w
    return norm.sf(a, x0 + v * dt, sd) + k0 @ P, (1 + k0 @ T) * dt


def race_steps(x0, v, n, *, s=0.0, xi=None, dt=1e-3, floor=None):
    """Independent race: dx_i = v_i dt + s dW_i, no leak, no competition; floor=0 for x >= 0.  [n+1, d]."""
    x, v = np.array(x0, float), np.asarray(v, float)
    out = [x]
    for t in range(n):
        x = x + v * dt + (s * math.sqrt(dt) * xi[t] if xi is not None else 0.0)
        if floor is not None:
            x = np.maximum(x, floor)
        out.append(x)
    return np.stack(out)


def laminar_check(table):
    """Oracle for a Bastos-like table: errors leave a column only from L2/3, predictions only from L5 and never
    end in L4, forward input ends in L4.  Returns the list of violations."""
    bad = []
    rank = {"lower": 0, "this": 1, "higher": 2}
    for sa, sl, ta, tl, sign, what in table:
        up, down = rank[ta] > rank[sa], rank[ta] < rank[sa]
        if up and not (sl == "L2/3" and tl == "L4" and sign > 0):
            bad.append((sa, sl, ta, tl, what))
        if down and not (sl == "L5" and tl != "L4" and sign < 0):
            bad.append((sa, sl, ta, tl, what))
    return bad


def laminar_pc_steps(x0, u, n, *, W, mu=0.0, prec=1.0, tau_e=1.0, tau_x=10.0, dt=0.1):
    """A minimal LINEAR instance of the Bastos template (ours, for testing a wiring; not in the paper): lower
    area with input u in L4 and error e in L2/3, higher area with expectation x in L5 and its prior error:

        tau_e e' = -e + u - W x         (L4 -> L2/3 plus; L5 of above -> L2/3 minus)
        tau_x x' = W^T e - prec (x - mu)  (L2/3 -> L4/L5 of above plus)

    Returns (e [n+1, d], x [n+1, m]); e starts at 0.
    """
    W, u, x = np.asarray(W, float), np.asarray(u, float), np.array(x0, float)
    e = np.zeros_like(u)
    es, xs = [e], [x]
    for _ in range(n):
        de, dx = (-e + u - W @ x) / tau_e, (W.T @ e - prec * (x - mu)) / tau_x
        e, x = e + dt * de, x + dt * dx
        es.append(e)
        xs.append(x)
    return np.stack(es), np.stack(xs)


def laminar_pc_fixed_point(u, *, W, mu=0.0, prec=1.0):
    """Oracle: ridge regression, x = (W^T W + prec)^-1 (W^T u + prec mu), e = u - W x."""
    W, u = np.asarray(W, float), np.asarray(u, float)
    m = W.shape[1]
    x = np.linalg.solve(W.T @ W + prec * np.eye(m), W.T @ u + prec * mu * np.ones(m))
    return u - W @ x, x


def hebb_steps(W, pre, post, *, eta=0.01):
    """Hebb: W <- W + eta post pre^T, one sample after another; pre [n, p], post [n, q] given."""
    W = np.array(W, float)
    for x, y in zip(pre, post, strict=True):
        W = W + eta * np.outer(y, x)
    return W


def hebb_linear_mean(w0, C, n, *, eta=0.01):
    """Oracle: linear unit y = w.x, mean over the data each step: w_n = (1 + eta C)^n w_0 (diverges along the
    leading eigenvector of C = E[x x^T])."""
    return np.linalg.matrix_power(np.eye(len(w0)) + eta * np.asarray(C, float), n) @ np.asarray(w0, float)


def oja_steps(w0, X, *, eta=0.01, alpha=1.0):
    """Oja 1982 eq. 3 with a factor alpha: w <- w + eta (y x - alpha y^2 w), y = w.x (old w); X [n, p]."""
    w = np.array(w0, float)
    for x in X:
        y = w @ x
        w = w + eta * (y * x - alpha * y * y * w)
    return w


def oja_mean_steps(w0, C, n, *, dt=0.01, alpha=1.0):
    """Mean flow: w' = C w - alpha (w.C w) w, explicit Euler; [n+1, p]."""
    C = np.asarray(C, float)
    return euler(lambda w, _: C @ w - alpha * (w @ C @ w) * w, w0, n, dt)


def oja_mean_closed(w0, C, t, *, alpha=1.0):
    """Oracle: w(t) = u / sqrt(1 + alpha (|u|^2 - |w0|^2)), u = e^{Ct} w0; -> +-v1/sqrt(alpha).
    (Check: N^2 = 1 + alpha(|u|^2 - |w0|^2), N N' = alpha u.C u, hence w' = C w - alpha (w.C w) w.)"""
    w0 = np.asarray(w0, float)
    u = expm(np.asarray(C, float) * t) @ w0
    return u / math.sqrt(1 + alpha * (u @ u - w0 @ w0))


def bcm_steps(w0, X, n, *, eta=1e-3, prob=None, theta="exact", theta0=0.0, tau_theta=10.0, power="E[y^2]", y0=1.0):
    """BCM mean flow over a finite set of patterns X [K, p] with probabilities prob, linear y = w.x:

        w <- w + eta sum_k p_k y_k (y_k - theta) x_k
        Intrator & Cooper 1992:  theta = E[y^2]          power="E[y^2]"
        Bienenstock, Cooper & Munro 1982: theta = E[y]^2 / y0 (their (c_bar/c0)^p c_bar, p = 1) power="E[y]^2"

    theta="exact": the expectation at the current w; theta="sliding": theta += (target - theta)/tau_theta per
    step (tau_theta in steps), starting from theta0; w uses the OLD theta.  Returns (w, theta).
    """
    w, X = np.array(w0, float), np.asarray(X, float)
    p = np.full(len(X), 1 / len(X)) if prob is None else np.asarray(prob, float)
    th = theta0
    for _ in range(n):
        y = X @ w
        target = (p * y * y).sum() if power == "E[y^2]" else (p * y).sum() ** 2 / y0
        if theta == "exact":
            th = target
        w = w + eta * (p * y * (y - th)) @ X
        if theta == "sliding":
            th = th + (target - th) / tau_theta
    return w, th


def bcm_selective(X, winner, *, prob=None, power="E[y^2]", y0=1.0):
    """Oracle: linearly independent patterns, stable fixed points are selective: y_k = 0 but for one pattern,
    y_winner = theta.  E[y^2]: theta = p theta^2 -> theta = 1/p.  E[y]^2/y0: theta = y0/p^2.
    Returns (w = theta * dual vector of the winner, theta).  Selectivity 1 - mean(y)/max(y) = 1 - p."""
    X = np.asarray(X, float)
    p = 1 / len(X) if prob is None else prob[winner]
    th = 1 / p if power == "E[y^2]" else y0 / p**2
    y = np.zeros(len(X))
    y[winner] = th
    return np.linalg.pinv(X) @ y, th


def three_factor_steps(W, pre, post, R, *, eta=0.01, decay=0.9, baseline=0.0, e0=0.0):
    """Three-factor rule with an eligibility trace, per step (e first, then w uses the NEW e):

        e <- decay e + post pre^T;    W <- W + eta (R_t - baseline_t) e

    pre [n, p], post [n, q], R and baseline scalars or [n].  Fremaux & Gerstner 2016 eq. form; the
    flow version e' = -e/tau + post pre is decay = 1 - dt/tau with dt on the product.  Returns (W, e).
    """
    W = np.array(W, float)
    e = np.zeros_like(W) + e0
    n = len(pre)
    R, baseline = np.broadcast_to(R, (n,)), np.broadcast_to(baseline, (n,))
    for t in range(n):
        e = decay * e + np.outer(post[t], pre[t])
        W = W + eta * (R[t] - baseline[t]) * e
    return W, e


def three_factor_constant(n, h, *, eta=0.01, decay=0.9, mod=1.0):
    """Oracle, constant Hebbian term h = post pre and constant modulation: e_n = h (1-d^n)/(1-d),
    W_n - W_0 = eta mod h/(1-d) (n - d (1 - d^n)/(1-d)).  d = 0: plain Hebb, eta mod h n."""
    d = decay
    e = h * (1 - d**n) / (1 - d)
    return eta * mod * h / (1 - d) * (n - d * (1 - d**n) / (1 - d)), e


def vogels_steps(w, I_exc, pre, *, eta=0.01, rho0=5.0, clip=True, rectify=True):
    """Inhibitory plasticity, Vogels et al. 2011 in rate form (their fig. 1 / supplement):

        post = relu(I_exc - w.pre);   w <- max(w + eta (pre post - rho0 pre), 0)

    I_exc [n], pre [n, m] >= 0, w [m] >= 0 magnitudes of inhibitory weights, post from the OLD w.
    Spike form: dw = eta (x_post - alpha) at a pre spike, eta x_pre at a post spike, alpha = 2 rho0 tau;
    its mean drift is 2 eta tau (pre post - rho0 pre): eta here = 2 eta_spike tau.
    Returns (w, post [n]).
    """
    w, posts = np.array(w, float), []
    for Ie, x in zip(I_exc, pre, strict=True):
        post = Ie - w @ x
        if rectify:
            post = max(post, 0.0)
        w = w + eta * (x * post - rho0 * x)
        if clip:
            w = relu(w)
        posts.append(post)
    return w, np.array(posts)


def vogels_single(n, post0, pre, *, eta=0.01, rho0=5.0):
    """Oracle, constant input, no clipping: post_n - rho0 = (1 - eta |pre|^2)^n (post_0 - rho0)."""
    return rho0 + (1 - eta * np.dot(pre, pre)) ** n * (post0 - rho0)


def vogels_balanced_weights(I_exc, pre, *, rho0=5.0):
    """Oracle: detailed balance, I_exc(s) - w.pre(s) = rho0 for every stimulus s (pre [S, m] of full row rank)."""
    return np.linalg.pinv(np.asarray(pre, float)) @ (np.asarray(I_exc, float) - rho0)
