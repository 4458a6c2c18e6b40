-- Distributions beyond the normal: Student's t, chi-square, F, binomial, and the two of the
-- Kolmogorov-Smirnov statistic. cdf is the left tail, sf the right tail, both without
-- cancellation; quantile is the inverse of cdf.
local check = require 'vestige.stats.check'
local raw = require('vestige.stats.special').raw

local abs, exp, floor, max, min, sqrt = math.abs, math.exp, math.floor, math.max, math.min,
  math.sqrt
local huge, pi = math.huge, math.pi

local M = { raw = {} }

-- The tail of Student's t beyond |t|: half of I_{df/(df+t^2)}(df/2, 1/2).
local function t_tail(t, df)
  if df == huge then return raw.normal_cdf(-abs(t)) end
  if t == huge or t == -huge then return 0 end
  local r = t / sqrt(df)
  local x, y
  if abs(r) > 1 then
    x = 1 / r / r / (1 + 1 / r / r)
    y = 1 / (1 + 1 / r / r)
  else
    x = 1 / (1 + r * r)
    y = r * r / (1 + r * r)
  end
  return 0.5 * (raw.beta_pq(df / 2, 0.5, x, y))
end

local function t_cdf(t, df)
  local tail = t_tail(t, df)
  return t < 0 and tail or 1 - tail
end

local function t_quantile(p, df)
  if p == 0.5 then return 0 end
  if df == huge then return raw.normal_quantile(p) end
  if p == 0 or p == 1 then return p == 0 and -huge or huge end
  local u = raw.beta_inverse_logit(df / 2, 0.5, 2 * min(p, 1 - p), 2 * abs(p - 0.5))
  local t = sqrt(df) * exp(-u / 2)
  return p < 0.5 and -t or t
end

M.raw.t_tail, M.raw.t_quantile = t_tail, t_quantile

--- Distribution function of Student's t. df: a number >= 1e-10, math.huge for the normal.
--- > assert(math.abs(stats.t_cdf(1, 1) - 0.75) < 1e-15)
function M.t_cdf(t, df)
  check.number('stats.t_cdf', 't', t)
  check.shape('stats.t_cdf', 'df', df, huge)
  return t_cdf(t, df)
end

--- Upper tail of Student's t. Arguments of `t_cdf`.
--- > assert(math.abs(stats.t_sf(1, 1) - 0.25) < 1e-15)
function M.t_sf(t, df)
  check.number('stats.t_sf', 't', t)
  check.shape('stats.t_sf', 'df', df, huge)
  return t_cdf(-t, df)
end

--- Quantile of Student's t. p: 0 to 1; df: a number >= 1e-10.
--- > assert(math.abs(stats.t_quantile(0.975, 5) - 2.570581835636314) < 1e-13)
function M.t_quantile(p, df)
  check.probability('stats.t_quantile', 'p', p)
  check.shape('stats.t_quantile', 'df', df, huge)
  return t_quantile(p, df)
end

local function chi2_args(where, x, df)
  check.number(where, 'x', x)
  check.shape(where, 'df', df)
end

--- Distribution function of chi-square. x: a number (0 below 0); df: 1e-10 to 1e12.
--- > assert(math.abs(stats.chi2_cdf(2, 2) - (1 - math.exp(-1))) < 1e-15)
function M.chi2_cdf(x, df)
  chi2_args('stats.chi2_cdf', x, df)
  return (raw.gamma_pq(df / 2, max(x, 0) / 2))
end

--- Upper tail of chi-square. Arguments of `chi2_cdf`.
--- > assert(math.abs(stats.chi2_sf(600, 2) / math.exp(-300) - 1) < 1e-12)
function M.chi2_sf(x, df)
  chi2_args('stats.chi2_sf', x, df)
  local _, q = raw.gamma_pq(df / 2, max(x, 0) / 2)
  return q
end

--- Quantile of chi-square. p: 0 to 1 (1 gives infinity); df: 1e-10 to 1e12. For a tiny upper
--- tail q use 2 * gammainccinv(df / 2, q).
--- > assert(math.abs(stats.chi2_quantile(0.95, 1) - 3.841458820694124) < 1e-13)
function M.chi2_quantile(p, df)
  check.probability('stats.chi2_quantile', 'p', p)
  check.shape('stats.chi2_quantile', 'df', df)
  return 2 * raw.gamma_inverse(df / 2, p, 1 - p)
end

local function f_tails(where, x, d1, d2)
  check.number(where, 'x', x)
  check.shape(where, 'd1', d1)
  check.shape(where, 'd2', d2)
  if x <= 0 then return 0, 1 end
  if x == huge then return 1, 0 end
  local r = d1 * x / d2
  return raw.beta_pq(d1 / 2, d2 / 2, 1 / (1 + 1 / r), 1 / (1 + r))
end

--- Distribution function of Fisher's F. x: a number (0 below 0); d1, d2: 1e-10 to 1e12.
--- > assert(math.abs(stats.f_cdf(1, 2, 2) - 0.5) < 1e-15)
function M.f_cdf(x, d1, d2)
  return (f_tails('stats.f_cdf', x, d1, d2))
end

--- Upper tail of Fisher's F. Arguments of `f_cdf`.
--- > assert(math.abs(stats.f_sf(3, 2, 2) - 0.25) < 1e-15)
function M.f_sf(x, d1, d2)
  local _, q = f_tails('stats.f_sf', x, d1, d2)
  return q
end

--- Quantile of Fisher's F. p: 0 to 1 (1 gives infinity); d1, d2: 1e-10 to 1e12.
--- > assert(math.abs(stats.f_quantile(0.75, 2, 2) - 3) < 1e-13)
function M.f_quantile(p, d1, d2)
  check.probability('stats.f_quantile', 'p', p)
  check.shape('stats.f_quantile', 'd1', d1)
  check.shape('stats.f_quantile', 'd2', d2)
  return d2 / d1 * exp(raw.beta_inverse_logit(d1 / 2, d2 / 2, p, 1 - p))
end

local function binom_args(where, k, n, p)
  check.number(where, 'k', k)
  check.integer(where, 'n', n, 0)
  check.probability(where, 'p', p)
end

local function binom_pmf(k, n, p)
  if k < 0 or k > n or k % 1 ~= 0 then return 0 end
  if n == 0 then return 1 end
  if p == 0 or p == 1 then return k == (p == 0 and 0 or n) and 1 or 0 end
  return raw.binomial_term(k, n - k, p, 1 - p)
end

-- P(K <= k) and P(K > k).
local function binom_tails(k, n, p)
  k = floor(k)
  if k < 0 then return 0, 1 end
  if k >= n then return 1, 0 end
  return raw.beta_pq(n - k, k + 1, 1 - p, p)
end

M.raw.binom_pmf, M.raw.binom_tails = binom_pmf, binom_tails

--- Probability of exactly k successes in n trials of probability p. n: a whole number >= 0; k that
--- is not one of 0..n gives 0. Source: Loader 2000.
--- > assert(math.abs(stats.binom_pmf(2, 4, 0.5) - 0.375) < 1e-15)
function M.binom_pmf(k, n, p)
  binom_args('stats.binom_pmf', k, n, p)
  return binom_pmf(k, n, p)
end

--- Probability of at most k successes in n trials of probability p, exact by the incomplete beta
--- function (DLMF 8.17.5).
--- > assert(math.abs(stats.binom_cdf(1, 3, 0.5) - 0.5) < 1e-15)
function M.binom_cdf(k, n, p)
  binom_args('stats.binom_cdf', k, n, p)
  return (binom_tails(k, n, p))
end

--- Probability of more than k successes in n trials of probability p.
--- > assert(math.abs(stats.binom_sf(1, 3, 0.5) - 0.5) < 1e-15)
function M.binom_sf(k, n, p)
  binom_args('stats.binom_sf', k, n, p)
  local _, q = binom_tails(k, n, p)
  return q
end

-- Both tails of Kolmogorov's limit law; the two forms are one theta function.
local function kolmogorov(x)
  if x <= 0 then return 0, 1 end
  if x < 1 then
    local sum = 0
    for k = 1, 9, 2 do sum = sum + exp(-(k * pi / x)^2 / 8) end
    local cdf = sqrt(2 * pi) / x * sum
    return cdf, 1 - cdf
  end
  local sf = 0
  for k = 6, 1, -1 do sf = sf + (k % 2 == 1 and 2 or -2) * exp(-2 * (k * x)^2) end
  return 1 - sf, sf
end

--- Limit of P(sqrt(n) D <= x) for the two-sided Kolmogorov-Smirnov statistic D.
--- > assert(math.abs(stats.kolmogorov_cdf(1.3580986393225507) - 0.95) < 1e-13)
function M.kolmogorov_cdf(x)
  check.number('stats.kolmogorov_cdf', 'x', x)
  return (kolmogorov(x))
end

--- Limit of P(sqrt(n) D > x), exact in the tail.
--- > assert(math.abs(stats.kolmogorov_sf(5) / (2 * math.exp(-50)) - 1) < 1e-13)
function M.kolmogorov_sf(x)
  check.number('stats.kolmogorov_sf', 'x', x)
  local _, sf = kolmogorov(x)
  return sf
end

-- C = A B for m x m matrices stored by rows.
local function matrix_product(c, a, b, m)
  for i = 0, m - 1 do
    local row = i * m
    for j = 1, m do c[row + j] = 0 end
    for k = 0, m - 1 do
      local v, other = a[row + k + 1], k * m
      if v ~= 0 then
        for j = 1, m do c[row + j] = c[row + j] + v * b[other + j] end
      end
    end
  end
  return c
end

-- P(D < d) by G. Marsaglia, W. Tsang, J. Wang, Evaluating Kolmogorov's distribution, J. Stat.
-- Software 8(18), 2003: an entry of the n-th power of a matrix of size 2 n d.
local function ks_exact(d, n)
  local k = floor(n * d) + 1
  local m = 2 * k - 1
  local h = k - n * d
  local factorial = { [0] = 1 }
  for i = 1, m + 1 do factorial[i] = factorial[i - 1] * i end
  local corner = (2 * h > 1) and (2 * h - 1)^m or 0
  local a = {}
  for i = 1, m do
    for j = 1, m do
      local v = i - j + 1 >= 0 and 1 or 0
      if v == 1 then
        if j == 1 and i == m then
          v = 1 - 2 * h^m + corner
        elseif j == 1 then
          v = 1 - h^i
        elseif i == m then
          v = 1 - h^(m - j + 1)
        end
        v = v / factorial[i - j + 1]
      end
      a[(i - 1) * m + j] = v
    end
  end
  -- Square and multiply on rows: only row k of the power is wanted, so the result is a vector.
  local vector, scale = {}, 0
  for j = 1, m do vector[j] = j == k and 1 or 0 end
  local a_scale, power, spare = 0, n, {}
  while true do
    if power % 2 == 1 then
      local next_vector = {}
      for j = 1, m do next_vector[j] = 0 end
      for i = 1, m do
        local v, row = vector[i], (i - 1) * m
        for j = 1, m do next_vector[j] = next_vector[j] + v * a[row + j] end
      end
      vector, scale = next_vector, scale + a_scale
      if vector[k] > 1e140 then
        for j = 1, m do vector[j] = vector[j] * 1e-140 end
        scale = scale + 140
      end
    end
    power = floor(power / 2)
    if power == 0 then break end
    a, spare = matrix_product(spare, a, a, m), a
    a_scale = 2 * a_scale
    if a[(k - 1) * m + k] > 1e140 then
      for i = 1, m * m do a[i] = a[i] * 1e-140 end
      a_scale = a_scale + 140
    end
  end
  local p = vector[k]
  for i = 1, n do
    p = p * i / n
    if p < 1e-140 then
      p = p * 1e140
      scale = scale - 140
    end
  end
  return p * 10^scale
end

-- P(D < d) to terms of n^-3/2: W. Pelz and I. J. Good, Approximating the lower tail-areas of the
-- Kolmogorov-Smirnov one-sample statistic, J. R. Statist. Soc. B 38(2), 1976.
local function ks_expansion(d, n)
  local z = d * sqrt(n)
  local z2 = z * z
  local z4, z6 = z2 * z2, z2 * z2 * z2
  local k0, k1, k2, k3 = 0, 0, 0, 0
  for j = 0, 20 do
    local u = pi * pi * (j + 0.5)^2
    local e = exp(-u / (2 * z2))
    k0 = k0 + e
    k1 = k1 + (u - z2) * e
    k2 = k2 + (6 * z6 + 2 * z4 + u * (2 * z4 - 5 * z2) + u * u * (1 - 2 * z2)) * e
    k3 = k3 + (-30 * z6 - 90 * z4 * z4 + u * (135 * z4 - 96 * z6) + u * u * (212 * z4 - 60 * z2)
      + u * u * u * (5 - 30 * z2)) * e
    if j > 0 then
      local v = pi * pi * j * j
      local f = exp(-v / (2 * z2))
      k2 = k2 - 2 * z4 * v * f
      k3 = k3 + 30 * z4 * v * (3 * z2 - v) * f
    end
  end
  local root = sqrt(n)
  return sqrt(pi / 2) * (2 * k0 / z + k1 / (3 * root * z4) + k2 / (36 * n * z6 * z)
    + k3 / (3240 * n * root * z6 * z4))
end

-- P(D+ >= d), Birnbaum and Tingey 1951: every term is positive.
local function smirnov(d, n)
  local sum = 0
  for j = 0, floor(n * (1 - d)) do
    local p = d + j / n
    if p >= 1 then break end
    sum = sum + raw.binomial_term(j, n - j, p, 1 - p) / p
  end
  return d * sum
end

-- P(D < d), P(D >= d). Twice the one-sided tail is exact from d = 1/2 on, and off by a share of
-- exp(-6 n d^2), 4e-11, from n d^2 = 4 on.
local EXACT = 1000
local function ks_tails(d, n)
  if 2 * n * d <= 1 then return 0, 1 end
  if d >= 1 then return 1, 0 end
  local z2 = n * d * d
  if z2 >= 4 or (d >= 0.5 and z2 >= 1) then
    local sf = 2 * smirnov(d, n)
    return 1 - sf, sf
  end
  local cdf = (n <= EXACT and ks_exact or ks_expansion)(d, n)
  cdf = max(0, min(1, cdf))
  return cdf, 1 - cdf
end
M.raw.ks_tails = ks_tails

--- P(D <= d) for the two-sided Kolmogorov-Smirnov statistic of n values. d: a number; n: a whole
--- number >= 1. Exact up to n = 1000, above it Pelz and Good's expansion.
--- > assert(math.abs(stats.ks_cdf(0.75, 1) - 0.5) < 1e-15)
function M.ks_cdf(d, n)
  check.number('stats.ks_cdf', 'd', d)
  check.integer('stats.ks_cdf', 'n', n, 1)
  return (ks_tails(d, n))
end

--- P(D > d), the p-value of a two-sided Kolmogorov-Smirnov test; the tail (n d^2 >= 4) is exact at
--- every n. Arguments of `ks_cdf`.
--- > assert(math.abs(stats.ks_sf(0.75, 1) - 0.5) < 1e-15)
function M.ks_sf(d, n)
  check.number('stats.ks_sf', 'd', d)
  check.integer('stats.ks_sf', 'n', n, 1)
  local _, sf = ks_tails(d, n)
  return sf
end

return M
