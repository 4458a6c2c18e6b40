-- Moments, intervals and tests. A test returns a table: the statistic under its usual letter, p,
-- n and, where it makes sense, estimate, se, and an interval lo, hi at `level`.
local check = require 'vestige.stats.check'
local special = require('vestige.stats.special').raw
local dist = require('vestige.stats.dist').raw

local abs, floor, max, min, sqrt = math.abs, math.floor, math.max, math.min, math.sqrt
local huge = math.huge

local M = { raw = {} }

-- Neumaier's compensated sum.
local function sum(x)
  local s, c = 0, 0
  for i = 1, #x do
    local v = x[i]
    local t = s + v
    if abs(s) >= abs(v) then c = c + (s - t + v) else c = c + (v - t + s) end
    s = t
  end
  return s + c
end

local function mean(x)
  return sum(x) / #x
end

-- Two passes; the second sum corrects the rounding of the mean (Chan, Golub, LeVeque 1983).
local function var(x)
  local n, m = #x, mean(x)
  local squares, rest = {}, {}
  for i = 1, n do
    local d = x[i] - m
    squares[i], rest[i] = d * d, d
  end
  local r = sum(rest)
  return max(0, sum(squares) - r * r / n) / (n - 1)
end

local function sum_squares(x)
  local squares = {}
  for i = 1, #x do squares[i] = x[i] * x[i] end
  return sum(squares)
end

M.raw.mean, M.raw.var = mean, var

--- Sum of an array of numbers, compensated (Neumaier 1974).
--- > assert(stats.sum{1, 1e100, 1, -1e100} == 2)
function M.sum(x)
  check.array('stats.sum', 'x', x, 0)
  return sum(x)
end

--- Mean of an array of at least one number.
--- > assert(stats.mean{1, 2, 6} == 3)
function M.mean(x)
  check.array('stats.mean', 'x', x, 1)
  return mean(x)
end

--- Variance of at least two numbers, divided by n - 1.
--- > assert(stats.var{1, 2, 6} == 7)
function M.var(x)
  check.array('stats.var', 'x', x, 2)
  return var(x)
end

--- Standard deviation of at least two numbers, sqrt(var).
--- > assert(stats.sd{1, 5} == math.sqrt(8))
function M.sd(x)
  check.array('stats.sd', 'x', x, 2)
  return sqrt(var(x))
end

-- Hyndman and Fan's type 7 on an array that is sorted.
local function sorted_quantile(x, p)
  local h = (#x - 1) * p + 1
  local i = min(floor(h), #x)
  local v = x[i]
  return i < #x and v + (h - i) * (x[i + 1] - v) or v
end

local function sorted(x)
  local copy = {}
  for i = 1, #x do copy[i] = x[i] end
  table.sort(copy)
  return copy
end

M.raw.sorted_quantile, M.raw.sorted = sorted_quantile, sorted

--- Quantile of an array, linear between order statistics (type 7 of Hyndman and Fan 1996, the
--- default of NumPy and R). x: at least one number, in any order; p: 0 to 1.
--- > assert(stats.quantile({4, 1, 3, 2}, 0.5) == 2.5)
function M.quantile(x, p)
  check.array('stats.quantile', 'x', x, 1)
  check.probability('stats.quantile', 'p', p)
  return sorted_quantile(sorted(x), p)
end

local ALTERNATIVES = { 'two-sided', 'less', 'greater' }

local function pick_tail(alternative, left, right)
  if alternative == 'less' then return left end
  if alternative == 'greater' then return right end
  return min(1, 2 * min(left, right))
end

-- The common end of the t tests; `x` holds the values or the differences.
local function t_result(x, o)
  local n, m = #x, mean(x)
  local se, df = sqrt(var(x) / n), n - 1
  local gap = m - o.mu
  local t = gap == 0 and 0 or gap / se
  local tail = dist.t_tail(t, df)
  local left, right = tail, 1 - tail
  if t > 0 then left, right = right, left end
  local half = dist.t_quantile(0.5 + o.level / 2, df) * se
  return {
    estimate = m, se = se, n = n, df = df, t = t, p = pick_tail(o.alternative, left, right),
    lo = m - half, hi = m + half, level = o.level,
  }
end

local function mean_options(where, options, extra)
  local defaults = { mu = 0, level = 0.95, alternative = 'two-sided' }
  for k, v in pairs(extra or {}) do defaults[k] = v end
  local o = check.options(where, options, defaults)
  check.finite(where, 'mu', o.mu)
  check.share(where, 'level', o.level)
  check.word(where, 'alternative', o.alternative, ALTERNATIVES)
  return o
end

--- Mean of at least two values with Student's interval. Option level = 0.95.
--- Returns {estimate, se, lo, hi, level, n, df}.
--- > local r = stats.t_interval{1, 2, 3}
--- > assert(r.estimate == 2 and math.abs(r.hi - 4.4841377117503303) < 1e-12)
function M.t_interval(x, options)
  check.array('stats.t_interval', 'x', x, 2)
  local o = check.options('stats.t_interval', options, { level = 0.95 })
  check.share('stats.t_interval', 'level', o.level)
  o.mu, o.alternative = 0, 'two-sided'
  local r = t_result(x, o)
  r.t, r.p = nil, nil
  return r
end

--- One-sample t test of the mean of at least two values. Options mu = 0, level = 0.95,
--- alternative = 'two-sided' ('less', 'greater'). Values that are all equal give t infinite and
--- p = 0, or t = 0 and p = 1 where they equal mu. Returns {estimate, se, lo, hi, level, n, df, t,
--- p}; the interval is two-sided whatever the alternative.
--- > local r = stats.t_test({1, 2, 3}, {mu = 2})
--- > assert(r.t == 0 and r.p == 1)
function M.t_test(x, options)
  check.array('stats.t_test', 'x', x, 2)
  return t_result(x, mean_options('stats.t_test', options))
end

--- Paired t test of the mean of x[i] - y[i]: `t_test` of the differences. Options of `t_test`.
--- > assert(stats.paired_t_test({1, 2, 3}, {1, 1, 1}).estimate == 1)
function M.paired_t_test(x, y, options)
  local n = check.pairs('stats.paired_t_test', 'x', x, 'y', y, 2)
  local d = {}
  for i = 1, n do d[i] = x[i] - y[i] end
  return t_result(d, mean_options('stats.paired_t_test', options))
end

-- Ranks from 1, ties sharing their mean.
local function ranks(x)
  local order, r, i = {}, {}, 1
  for k = 1, #x do order[k] = k end
  table.sort(order, function(a, b) return x[a] < x[b] end)
  while i <= #x do
    local j = i
    while j < #x and x[order[j + 1]] == x[order[i]] do j = j + 1 end
    for k = i, j do r[order[k]] = (i + j) / 2 end
    i = j + 1
  end
  return r
end

--- Spearman's rank correlation of at least three pairs, ties with their mean rank. p is two-sided,
--- by Student's t with n - 2 degrees, rough for few pairs. NaN where all x or all y are equal.
--- Returns {estimate, p, n, df, t}.
--- > assert(math.abs(stats.spearman({1, 2, 3, 4}, {1, 3, 2, 4}).estimate - 0.8) < 1e-15)
function M.spearman(x, y)
  local n = check.pairs('stats.spearman', 'x', x, 'y', y, 3)
  local a, b, aa, bb, ab = ranks(x), ranks(y), {}, {}, {}
  for i = 1, n do
    local u, v = a[i] - (n + 1) / 2, b[i] - (n + 1) / 2
    aa[i], bb[i], ab[i] = u * u, v * v, u * v
  end
  local rho = sum(ab) / sqrt(sum(aa) * sum(bb))
  if rho ~= rho then return { estimate = rho, p = rho, n = n, df = n - 2, t = rho } end
  rho = max(-1, min(1, rho))
  local t = rho * sqrt((n - 2) / max(0, 1 - rho * rho))
  return { estimate = rho, p = min(1, 2 * dist.t_tail(abs(t), n - 2)), n = n, df = n - 2, t = t }
end

--- z test of the mean of values whose standard deviation is known. Options mu = 0, sigma = 1,
--- level = 0.95, alternative = 'two-sided' ('less', 'greater').
--- Returns {estimate, se, lo, hi, level, n, z, p} with se = sigma / sqrt(n).
--- > local r = stats.z_test{0.5, 0.5, 0.5, 0.5}
--- > assert(r.se == 0.5 and r.z == 1 and math.abs(r.p - 0.31731050786291415) < 1e-14)
function M.z_test(x, options)
  local n = check.array('stats.z_test', 'x', x, 1)
  local o = mean_options('stats.z_test', options, { sigma = 1 })
  check.finite_positive('stats.z_test', 'sigma', o.sigma)
  local m, se = mean(x), o.sigma / sqrt(n)
  local z = (m - o.mu) / se
  local half = -special.normal_quantile((1 - o.level) / 2) * se
  return {
    estimate = m, se = se, n = n, z = z,
    p = pick_tail(o.alternative, special.normal_cdf(z), special.normal_cdf(-z)),
    lo = m - half, hi = m + half, level = o.level,
  }
end

--- Test of a sum of squares: under N(0,1) values x, sum x^2 is chi-square with n degrees. p is the
--- upper tail, so it rises against means off zero and against mixed signs.
--- Returns {statistic, df, n, p}.
--- > local r = stats.sum_squares_test{3, -3}
--- > assert(r.statistic == 18 and math.abs(r.p - math.exp(-9)) < 1e-15)
function M.sum_squares_test(x)
  local n = check.array('stats.sum_squares_test', 'x', x, 1)
  local s = sum_squares(x)
  local _, p = special.gamma_pq(n / 2, s / 2)
  return { statistic = s, df = n, n = n, p = p }
end

--- Holm's step-down adjustment of an array of p-values (Holm 1979), in the order given. Reject
--- what is at most alpha: the chance of any false rejection is then at most alpha.
--- > local a = stats.holm{0.01, 0.04, 0.03}
--- > assert(a[1] == 0.03 and a[2] == 0.06 and a[3] == 0.06)
function M.holm(p)
  local n = check.array('stats.holm', 'p', p, 0)
  local order = {}
  for i = 1, n do
    check.probability('stats.holm', ('p[%d]'):format(i), p[i])
    order[i] = i
  end
  table.sort(order, function(i, j)
    if p[i] ~= p[j] then return p[i] < p[j] end
    return i < j
  end)
  local adjusted, running = {}, 0
  for rank, i in ipairs(order) do
    running = max(running, min(1, (n - rank + 1) * p[i]))
    adjusted[i] = running
  end
  return adjusted
end

local function count_args(where, k, n, options)
  check.integer(where, 'n', n, 1)
  check.integer(where, 'k', k, 0, n)
  local o = check.options(where, options, { level = 0.95 })
  check.share(where, 'level', o.level)
  return o
end

local function clopper_pearson(k, n, level)
  local a = (1 - level) / 2
  return k == 0 and 0 or special.beta_inverse(k, n - k + 1, a, 1 - a),
    k == n and 1 or special.beta_inverse(k + 1, n - k, 1 - a, a)
end
M.raw.clopper_pearson = clopper_pearson

--- Clopper and Pearson's exact interval of a proportion, k successes in n trials (1934): it covers
--- at least `level`. Option level = 0.95. Returns {estimate, lo, hi, level, n}.
--- > local r = stats.clopper_pearson(8, 8)
--- > assert(r.hi == 1 and math.abs(r.lo - 0.025^(1/8)) < 1e-14)
function M.clopper_pearson(k, n, options)
  local o = count_args('stats.clopper_pearson', k, n, options)
  local lo, hi = clopper_pearson(k, n, o.level)
  return { estimate = k / n, lo = lo, hi = hi, level = o.level, n = n }
end

--- Wilson's score interval of a proportion (1927), without continuity correction: it covers
--- `level` on average. Option level = 0.95. Returns {estimate, lo, hi, level, n}.
--- > local r = stats.wilson(8, 8)
--- > assert(r.hi == 1 and math.abs(r.lo - 0.67559) < 1e-5)
function M.wilson(k, n, options)
  local o = count_args('stats.wilson', k, n, options)
  local z = -special.normal_quantile((1 - o.level) / 2)
  local p, w = k / n, z * z / n
  local centre = (p + w / 2) / (1 + w)
  local half = sqrt(w * (p * (1 - p) + w / 4)) / (1 + w)
  return {
    estimate = p, n = n, level = o.level,
    lo = k == 0 and 0 or centre - half, hi = k == n and 1 or centre + half,
  }
end

-- The two-sided p adds every outcome that is at most as likely as k; 1e-7 forgives rounding.
local function binom_two_sided(k, n, p)
  local centre = p * n
  if k == centre then return 1 end
  local limit = dist.binom_pmf(k, n, p) * (1 + 1e-7)
  if k < centre then
    local i = n
    while i > k and dist.binom_pmf(i, n, p) <= limit do i = i - 1 end
    local _, upper = dist.binom_tails(i, n, p)
    return min(1, (dist.binom_tails(k, n, p)) + upper)
  end
  local i = 0
  while i < k and dist.binom_pmf(i, n, p) <= limit do i = i + 1 end
  local _, upper = dist.binom_tails(k - 1, n, p)
  return min(1, upper + (dist.binom_tails(i - 1, n, p)))
end

--- Exact binomial test of k successes in n trials against probability p (default 0.5). Options
--- level = 0.95, alternative = 'two-sided' ('less', 'greater'); two-sided adds all outcomes that
--- are at most as likely as k. Returns {estimate, lo, hi, level, n, p} with Clopper and Pearson's
--- interval.
--- > assert(math.abs(stats.binom_test(0, 5).p - 2 * 0.5^5) < 1e-15)
function M.binom_test(k, n, p, options)
  local where = 'stats.binom_test'
  check.integer(where, 'n', n, 1)
  check.integer(where, 'k', k, 0, n)
  if p == nil then p = 0.5 end
  check.probability(where, 'p', p)
  local o = check.options(where, options, { level = 0.95, alternative = 'two-sided' })
  check.share(where, 'level', o.level)
  check.word(where, 'alternative', o.alternative, ALTERNATIVES)
  local value
  if o.alternative == 'less' then
    value = dist.binom_tails(k, n, p)
  elseif o.alternative == 'greater' then
    local _, upper = dist.binom_tails(k - 1, n, p)
    value = upper
  else
    value = binom_two_sided(k, n, p)
  end
  local lo, hi = clopper_pearson(k, n, o.level)
  return { estimate = k / n, lo = lo, hi = hi, level = o.level, n = n, p = value }
end

--- McNemar's exact test on paired successes: b pairs where only the first succeeded, c where only
--- the second did (whole numbers >= 0). p is the two-sided binomial test of b in b + c at 1/2;
--- 1 where no pair differs. Returns {b, c, n, p} with n = b + c, the pairs that differ.
--- > assert(math.abs(stats.mcnemar(0, 6).p - 2 * 0.5^6) < 1e-15)
function M.mcnemar(b, c)
  check.integer('stats.mcnemar', 'b', b, 0)
  check.integer('stats.mcnemar', 'c', c, 0)
  local p = b == c and 1 or min(1, 2 * (dist.binom_tails(min(b, c), b + c, 0.5)))
  return { b = b, c = c, n = b + c, p = p }
end

local function equivalence_options(where, margin, options)
  check.finite_positive(where, 'margin', margin)
  local o = check.options(where, options, { alpha = 0.05 })
  check.share(where, 'alpha', o.alpha)
  if o.alpha >= 0.5 then
    check.fail('%s: alpha must be a number below 0.5, got %.10g', where, o.alpha)
  end
  return o
end

local function equivalence(estimate, se, margin, o, left_tail, half)
  local p_lower = left_tail(-(estimate + margin) / se)
  local p_upper = left_tail((estimate - margin) / se)
  local p = max(p_lower, p_upper)
  return {
    estimate = estimate, se = se, margin = margin, p = p, p_lower = p_lower, p_upper = p_upper,
    equivalent = p <= o.alpha, alpha = o.alpha, lo = estimate - half, hi = estimate + half,
    level = 1 - 2 * o.alpha,
  }
end

--- Two one-sided z tests that |mean| < margin, for an estimate with a known standard error
--- (Schuirmann 1987). estimate: a number; se, margin: numbers > 0; option alpha = 0.05.
--- Returns {estimate, se, margin, p, p_lower, p_upper, equivalent, alpha, lo, hi, level}: p is the
--- larger of the two, lo and hi the interval at 1 - 2 alpha, inside the margin exactly where
--- `equivalent` is true.
--- > assert(stats.tost_z(0, 1, 2).equivalent and not stats.tost_z(1, 1, 2).equivalent)
function M.tost_z(estimate, se, margin, options)
  check.finite('stats.tost_z', 'estimate', estimate)
  check.finite_positive('stats.tost_z', 'se', se)
  local o = equivalence_options('stats.tost_z', margin, options)
  local half = -special.normal_quantile(o.alpha) * se
  return equivalence(estimate, se, margin, o, special.normal_cdf, half)
end

--- Two one-sided t tests that |mean of x| < margin. x: at least two values that are not all equal;
--- margin: a number > 0; option alpha = 0.05. Returns what `tost_z` does, with df and n.
--- > assert(stats.tost_t({-1, 0, 1, 0}, 5).equivalent)
function M.tost_t(x, margin, options)
  local n = check.array('stats.tost_t', 'x', x, 2)
  local o = equivalence_options('stats.tost_t', margin, options)
  local se, df = sqrt(var(x) / n), n - 1
  if se == 0 then
    check.fail('stats.tost_t: x must hold values that differ, got %d equal ones', n)
  end
  local function left_tail(t)
    local tail = dist.t_tail(t, df)
    return t < 0 and tail or 1 - tail
  end
  local r = equivalence(mean(x), se, margin, o, left_tail, -dist.t_quantile(o.alpha, df) * se)
  r.df, r.n = df, n
  return r
end

--- Kolmogorov-Smirnov test of the values x against N(0,1), two-sided. Returns {d, n, p}; p is
--- exact up to n = 1000 and in the tail.
--- > local r = stats.ks_test{0}
--- > assert(r.d == 0.5 and r.p == 1)
function M.ks_test(x)
  local n = check.array('stats.ks_test', 'x', x, 1)
  local s, d = sorted(x), -huge
  for i = 1, n do
    local f = special.normal_cdf(s[i])
    d = max(d, i / n - f, f - (i - 1) / n)
  end
  local _, p = dist.ks_tails(d, n)
  return { d = d, n = n, p = p }
end

return M
