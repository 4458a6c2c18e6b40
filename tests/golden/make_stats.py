"""Writes tests/golden/stats.lua: values of vestige.stats from SciPy, 17 digits.

    python3 tests/golden/make_stats.py

SciPy is the source. Where mpmath at 50 digits disagrees with it by more than 1e-13 the value is
mpmath's, and the line printed says so.
"""
import itertools
import os

import mpmath as mp
import numpy as np
from scipy import optimize, special, stats

mp.mp.dps = 50
HERE = os.path.dirname(os.path.abspath(__file__))
rows = {}
corrected = {}


def lua(v):
    if isinstance(v, (list, tuple, np.ndarray)):
        return "{" + ",".join(lua(e) for e in v) + "}"
    v = float(v)
    if v == int(v) and abs(v) < 1e15:
        return "%d" % v
    return "%.17g" % v


def put(name, args, value, exact=None):
    """One row {args..., value}; `exact` is a function of the arguments in mpmath."""
    value = float(value)
    if exact is not None:
        best = exact(*[mp.mpf(float(a)) for a in args])
        if best == 0 or abs(best) < mp.mpf("1e-300"):
            return
        if not np.isfinite(value) or abs(mp.mpf(value) / best - 1) > mp.mpf("1e-13"):
            corrected[name] = corrected.get(name, 0) + 1
            value = float(best)
    if value == 0 or not np.isfinite(value) or abs(value) < 1e-300:
        return
    rows.setdefault(name, []).append("{" + ",".join([lua(a) for a in args] + [lua(value)]) + "}")


def lentz(b0, terms):
    """Value of the continued fraction b0 + a1/(b1 + a2/(b2 + ...)); terms(k) gives a_k, b_k."""
    h = c = b0
    d, k = mp.mpf(0), 0
    while True:
        k += 1
        a, b = terms(k)
        d, c = 1 / (b + a * d), b + a / c
        h *= c * d
        if abs(c * d - 1) < mp.mpf(10) ** -36:
            return h


def gamma_front(a, x):
    return mp.exp(a * mp.log(x) - x - mp.loggamma(a))


def gamma_q(a, x):
    if x < a + 1:
        return 1 - gamma_p(a, x)
    return gamma_front(a, x) / lentz(x + 1 - a, lambda k: (k * (a - k), x + 1 - a + 2 * k))


def gamma_p(a, x):
    if x >= a + 1:
        return 1 - gamma_q(a, x)
    term, total, k = mp.mpf(1), mp.mpf(1), 0
    while term > total * mp.mpf(10) ** -38:
        k += 1
        term *= x / (a + k)
        total += term
    return gamma_front(a, x) / a * total


def beta_p(a, b, x):
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_p(b, a, 1 - x)
    front = mp.exp(a * mp.log(x) + b * mp.log(1 - x)
                   - (mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b))) / a

    def terms(k):
        m = k // 2
        if k % 2 == 0:
            return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), 1
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)), 1
    return front / lentz(mp.mpf(1), terms)


def beta_q(a, b, x):
    return beta_p(b, a, 1 - x)


def invert(cdf, start):
    """Polishes an inverse that is nearly right: Newton in logarithms, a numeric slope."""
    def root(target):
        u, h = mp.log(start), mp.mpf("1e-18")
        for _ in range(3):
            f = mp.log(cdf(mp.exp(u)))
            slope = (mp.log(cdf(mp.exp(u + h))) - f) / h
            u -= (f - mp.log(target)) / slope
        return mp.exp(u)
    return root


# Special functions.
for x in [1e-300, 1e-9, 0.1, 0.5, 1, 2, 3.5, 6, 10, 20, 26]:
    put("erf", [x], special.erf(x), mp.erf)
    put("erfc", [x], special.erfc(x), mp.erfc)
    put("erfc", [-x], special.erfc(-x), mp.erfc)
for x in [1e-10, 0.3, 0.999, 1.0001, 1.5, 2.0001, 7.5, 100.25, 1e6, 1e200]:
    put("lgamma", [x], special.gammaln(x), mp.loggamma)

shapes = [1e-3, 0.1, 0.5, 1, 2.5, 10, 16, 75, 375, 1000, 50000]
for a in shapes:
    for z in [-30, -8, -2, -0.5, 0, 0.7, 3, 9, 35]:
        x = a + z * np.sqrt(a) if a + z * np.sqrt(a) > 0 else a * np.exp(z)
        put("gammainc", [a, x], special.gammainc(a, x), gamma_p)
        put("gammaincc", [a, x], special.gammaincc(a, x), gamma_q)
put("gammainc", [1e6, 995000], special.gammainc(1e6, 995000), gamma_p)
put("gammaincc", [1e6, 1005000], special.gammaincc(1e6, 1005000), gamma_q)

for a, b in [(0.01, 0.5), (0.5, 0.5), (0.5, 3), (2, 3), (5, 0.5), (30, 70), (500, 0.5), (1, 800),
             (375, 375), (12, 20000), (40000, 60000)]:
    m, s = a / (a + b), np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))
    for z in [-20, -5, -1, 0, 1, 5, 20]:
        x = m + z * s
        if not 0 < x < 1:
            x = m * 10.0 ** (z / 2) if z < 0 else 1 - (1 - m) * 2.0 ** -z
        if 0 < x < 1:
            put("betainc", [a, b, x], special.betainc(a, b, x), beta_p)
            put("betaincc", [a, b, x], special.betaincc(a, b, x), beta_q)

tails = [1e-250, 1e-100, 1e-30, 1e-12, 1e-5, 0.01, 0.3, 0.5, 0.8, 0.99, 1 - 1e-9]
for p in tails:
    for a in [0.5, 1, 2.5, 50, 375, 50000]:
        x = special.gammaincinv(a, p)
        if x > 0:
            put("gammaincinv", [a, p], x, lambda aa, pp, x=x: invert(lambda v: gamma_p(aa, v), x)(pp))
        x = special.gammainccinv(a, p)
        if x > 0:
            put("gammainccinv", [a, p], x, lambda aa, pp, x=x: invert(lambda v: gamma_q(aa, v), x)(pp))
    for a, b in [(0.5, 0.5), (2, 3), (30, 70), (5, 0.5), (9, 742), (400, 600)]:
        x = special.betaincinv(a, b, p)
        if 1e-290 < x < 1 - 1e-6:
            put("betaincinv", [a, b, p], x,
                lambda aa, bb, pp, x=x: invert(lambda v: beta_p(aa, bb, v), x)(pp))

# Distributions.
phi = lambda x: mp.erfc(-x / mp.sqrt(2)) / 2
for x in [-37, -20, -8, -3, -1, -0.1, -1e-9, 0.5, 2.326, 5]:
    put("normal_cdf", [x], stats.norm.cdf(x), phi)
    put("normal_sf", [x], stats.norm.sf(x), lambda v: phi(-v))
    put("normal_pdf", [x], stats.norm.pdf(x), mp.npdf)
for p in [1e-300, 1e-100, 1e-20, 1e-6, 0.005, 0.2499, 0.2501, 0.4, 0.499999999, 0.5000001, 0.7,
          0.76, 0.975, 0.99, 1 - 1e-10, 1 - 2.0 ** -50]:
    put("normal_quantile", [p], stats.norm.ppf(p),
        lambda q: mp.sqrt(2) * mp.erfinv(2 * q - 1) if q > mp.mpf("1e-40") else
        mp.findroot(lambda v: mp.log(phi(v)) - mp.log(q), stats.norm.ppf(float(q))))


def t_tail(t, df):
    return beta_p(df / 2, mp.mpf(1) / 2, df / (df + t * t)) / 2


for df in [1, 2, 3.5, 5, 30, 749, 1e5]:
    for t in [-1e6, -300, -20, -3, -1, -0.2, -1e-5, 0.4, 2, 6]:
        exact = lambda tt, d: t_tail(tt, d) if tt < 0 else 1 - t_tail(tt, d)
        put("t_cdf", [t, df], stats.t.cdf(t, df), exact)
        put("t_sf", [t, df], stats.t.sf(t, df), lambda tt, d: 1 - t_tail(tt, d) if tt < 0 else t_tail(tt, d))
    for p in [1e-60, 1e-10, 0.001, 0.025, 0.4, 0.49999, 0.7, 0.975, 0.9999]:
        t = stats.t.ppf(p, df)

        def polish(pp, d, t=t):
            side = pp if pp < 0.5 else 1 - pp
            r = invert(lambda v: t_tail(v, d), abs(t))(side)
            return -r if pp < 0.5 else r
        put("t_quantile", [p, df], t, polish)

for df in [1, 2, 5, 10, 500, 750, 1e4]:
    for z in [-20, -5, -1, 0, 2, 8, 30]:
        x = df + z * np.sqrt(2 * df) if df + z * np.sqrt(2 * df) > 0 else df * np.exp(z)
        put("chi2_cdf", [x, df], stats.chi2.cdf(x, df), lambda v, d: gamma_p(d / 2, v / 2))
        put("chi2_sf", [x, df], stats.chi2.sf(x, df), lambda v, d: gamma_q(d / 2, v / 2))
    for p in [1e-10, 0.01, 0.5, 0.95, 0.999999]:
        x = stats.chi2.ppf(p, df)
        put("chi2_quantile", [p, df], x,
            lambda pp, d, x=x: invert(lambda v: gamma_p(d / 2, v / 2), x)(pp))
for d1, d2 in [(1, 1), (2, 7), (5, 3.5), (20, 400)]:
    for x in [1e-8, 0.01, 0.5, 1, 3, 40, 1e5]:
        put("f_cdf", [x, d1, d2], stats.f.cdf(x, d1, d2),
            lambda v, a, b: beta_p(a / 2, b / 2, a * v / (a * v + b)))
        put("f_sf", [x, d1, d2], stats.f.sf(x, d1, d2),
            lambda v, a, b: beta_p(b / 2, a / 2, b / (a * v + b)))
    for p in [1e-12, 0.05, 0.5, 0.95]:
        x = stats.f.ppf(p, d1, d2)
        put("f_quantile", [p, d1, d2], x, lambda pp, a, b, x=x: invert(
            lambda v: beta_p(a / 2, b / 2, a * v / (a * v + b)), x)(pp))


def pmf(k, n, p):
    return mp.binomial(n, k) * p ** k * (1 - p) ** (n - k)


for n, p in [(1, 0.3), (8, 0.5), (20, 0.01), (750, 0.01), (750, 0.9), (100000, 0.3)]:
    for q in [0.0, 0.3, 0.9, 1.6, 30]:
        k = int(min(n, round(n * p * q)))
        put("binom_pmf", [k, n, p], stats.binom.pmf(k, n, p), pmf)
        if n < 1000:
            put("binom_cdf", [k, n, p], stats.binom.cdf(k, n, p),
                lambda kk, nn, pp: mp.fsum(pmf(i, nn, pp) for i in range(int(kk) + 1)))
            put("binom_sf", [k, n, p], stats.binom.sf(k, n, p),
                lambda kk, nn, pp: mp.fsum(pmf(i, nn, pp) for i in range(int(kk) + 1, int(nn) + 1)))

for x in [0.2, 0.5, 0.9, 0.999, 1, 1.3, 2, 5, 15]:
    put("kolmogorov_cdf", [x], 1 - special.kolmogorov(x),
        lambda v: mp.sqrt(2 * mp.pi) / v * mp.nsum(
            lambda k: mp.exp(-(2 * k - 1) ** 2 * mp.pi ** 2 / (8 * v * v)), [1, 60]))
    put("kolmogorov_sf", [x], special.kolmogorov(x),
        lambda v: 2 * mp.fsum((-1) ** (k - 1) * mp.exp(-2 * k * k * v * v) for k in range(1, 60)))


def ks_exact(d, n):
    """Marsaglia, Tsang and Wang's matrix in fixed point with 200 bits."""
    n = int(n)
    k = int(mp.floor(n * d)) + 1
    m, h = 2 * k - 1, k - n * d
    a = [[mp.mpf(1 if i - j + 1 >= 0 else 0) for j in range(m)] for i in range(m)]
    for i in range(m):
        a[i][0] -= h ** (i + 1)
        a[m - 1][i] -= h ** (m - i)
    a[m - 1][0] += (2 * h - 1) ** m if 2 * h > 1 else 0
    for i in range(m):
        for j in range(m):
            if i - j + 1 > 0:
                a[i][j] /= mp.factorial(i - j + 1)
    one = 1 << 200
    fixed = np.array([[int(e * one) for e in row] for row in a], dtype=object)
    vector = np.array([one if j == k - 1 else 0 for j in range(m)], dtype=object)
    for _ in range(n):
        vector = vector.dot(fixed) >> 200
    return mp.mpf(int(vector[k - 1])) / one * mp.factorial(n) / mp.mpf(n) ** n


for n in [1, 2, 5, 20, 100]:
    for z in [0.3, 0.5, 0.8, 1.2, 1.9]:
        d = z / np.sqrt(n)
        if 1 / (2 * n) < d < 1:
            put("ks_cdf", [d, n], stats.kstwo.cdf(d, n), ks_exact)
            put("ks_sf", [d, n], stats.kstwo.sf(d, n), lambda dd, nn: 1 - ks_exact(dd, nn))
put("ks_cdf", [0.03, 1000], stats.kstwo.cdf(0.03, 1000), ks_exact)
put("ks_sf", [0.06, 1000], stats.kstwo.sf(0.06, 1000), lambda dd, nn: 1 - ks_exact(dd, nn))
for d, n in [(0.8, 10), (0.5, 40), (0.25, 200), (0.02, 5000), (0.1, 5000), (0.005, 40000)]:
    put("ks_sf", [d, n], stats.kstwo.sf(d, n))
    put("ks_cdf", [d, n], stats.kstwo.cdf(d, n))

# Samples and tests on them: name = value rows in a table of their own.
rng = np.random.default_rng(20240607)
x = np.round(rng.normal(0.4, 1.1, 12), 3)
y = np.round(x * 0.5 + rng.normal(0.1, 0.6, 12), 3)
long = np.round(rng.normal(0, 1, 60), 3)
pos = np.round(rng.normal(0.8, 1, 25), 1)
neg = np.round(rng.normal(0, 1, 40), 1)
cases = {"x": x, "y": y, "long": long, "pos": pos, "neg": neg}
for name, alternative in [("two", "two-sided"), ("less", "less"), ("greater", "greater")]:
    r = stats.ttest_1samp(x, 0.2, alternative=alternative)
    cases["t_test_" + name] = [r.statistic, r.pvalue]
    for i, (k, n, p) in enumerate([(3, 20, 0.3), (14, 20, 0.3), (6, 20, 0.3), (0, 9, 0.5),
                                   (700, 750, 0.9), (9, 9, 0.4)]):
        cases["binom_test_%s_%d" % (name, i + 1)] = [
            k, n, p, stats.binomtest(k, n, p, alternative=alternative).pvalue]
r = stats.ttest_rel(x, y)
cases["paired"] = [r.statistic, r.pvalue, *r.confidence_interval(0.9)]
for name, a, b in [("spearman", x, y), ("spearman_ties", pos, neg[:25])]:
    r = stats.spearmanr(a, b)
    cases[name] = [r.statistic, r.pvalue]
cases["t_interval"] = list(stats.ttest_1samp(x, 0).confidence_interval(0.95))
cases["moments"] = [x.mean(), x.var(ddof=1), np.quantile(x, 0.3)]
offset = x + 1e9
cases["var_offset"] = [float(mp.fsum((mp.mpf(float(v)) - mp.fsum(map(lambda e: mp.mpf(float(e)), offset)) / 12) ** 2
                                     for v in offset) / 11)]
z = x.mean() * np.sqrt(12)
cases["z_test"] = [z, 2 * stats.norm.sf(abs(z))]
cases["sum_squares"] = [np.sum(x ** 2), stats.chi2.sf(np.sum(x ** 2), 12)]
cases["ks_test"] = list(stats.kstest(long, "norm"))[:2]
cases["sign_flip"] = [stats.permutation_test((x[:10],), np.mean, permutation_type="samples",
                                             n_resamples=np.inf).pvalue]
for i, (k, n, level) in enumerate([(0, 8, .95), (8, 8, .95), (3, 40, .95), (9, 750, .99)]):
    t = stats.binomtest(k, n)
    cases["proportion_%d" % (i + 1)] = [k, n, level, *t.proportion_ci(level, "exact"),
                                        *t.proportion_ci(level, "wilson")]
place = (pos[:, None] > neg).astype(float) + 0.5 * (pos[:, None] == neg)
area = place.mean()
se = np.sqrt(place.mean(1).var(ddof=1) / len(pos) + place.mean(0).var(ddof=1) / len(neg))
cases["auc"] = [area, se, area - 1.959963984540054 * se, area + 1.959963984540054 * se]
cases["tost_z"] = [stats.norm.sf((0.1 + 0.3) / 0.12), stats.norm.cdf((0.1 - 0.3) / 0.12)]
se = x.std(ddof=1) / np.sqrt(12)
cases["tost_t"] = [stats.t.sf((x.mean() + 1) / se, 11), stats.t.cdf((x.mean() - 1) / se, 11)]

with open(os.path.join(HERE, "stats.lua"), "w") as f:
    f.write("-- Made by tests/golden/make_stats.py. A row holds the arguments, then the value.\n")
    f.write("-- luacheck: ignore 631\nlocal M = { rows = {}, cases = {} }\n")
    for name in sorted(rows):
        f.write("M.rows.%s = {\n  %s,\n}\n" % (name, ",\n  ".join(rows[name])))
    for name in sorted(cases):
        f.write("M.cases.%s = %s\n" % (name, lua(list(cases[name]))))
    f.write("return M\n")
print("rows", sum(map(len, rows.values())), "values taken from mpmath:", corrected)
