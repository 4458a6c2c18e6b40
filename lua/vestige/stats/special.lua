-- Special functions: log-gamma, erf, incomplete gamma and beta with their inverses, the normal
-- distribution. What C's own math library has (erf, erfc, lgamma, log1p, expm1) is taken from it.
--
-- The relative error stays near 1e-13 in both tails because x^a e^-x / Gamma(a+1) and
-- x^a (1-x)^b / B(a,b) are never formed from differences of large logarithms: both are written
-- with the deviance x log(x/m) + m - x and Stirling's error (C. Loader, Fast and accurate
-- computation of binomial probabilities, 2000).
local ffi = require 'ffi'
local check = require 'vestige.stats.check'

ffi.cdef [[
double erf(double);
double erfc(double);
double lgamma(double);
double log1p(double);
double expm1(double);
]]

local C = ffi.C
local abs, exp, log, max, min, sqrt = math.abs, math.exp, math.log, math.max, math.min, math.sqrt
local huge, pi = math.huge, math.pi
local EPS = 2^-53
local LOG_SQRT_2PI = 0.91893853320467274178
local SQRT_2PI = 2.5066282746310005024

local M = {}
local raw = {} -- unchecked forms for the other files of vestige.stats
M.raw = raw

--- log(1 + x), exact for small x. x: a number >= -1.
--- > assert(stats.log1p(1e-20) == 1e-20)
function M.log1p(x)
  check.number('stats.log1p', 'x', x)
  if x < -1 then check.fail('stats.log1p: x must be a number >= -1, got %.10g', x) end
  return C.log1p(x)
end

--- exp(x) - 1, exact for small x.
--- > assert(stats.expm1(1e-20) == 1e-20)
function M.expm1(x)
  check.number('stats.expm1', 'x', x)
  return C.expm1(x)
end

--- The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
--- > assert(math.abs(stats.erf(1) - 0.84270079294971487) < 1e-15)
function M.erf(x)
  check.number('stats.erf', 'x', x)
  return C.erf(x)
end

--- 1 - erf(x) without cancellation.
--- > assert(math.abs(stats.erfc(10) / 2.0884875837625446e-45 - 1) < 1e-13)
function M.erfc(x)
  check.number('stats.erfc', 'x', x)
  return C.erfc(x)
end

--- log Gamma(x). x: a number > 0.
--- > assert(math.abs(stats.lgamma(5) - math.log(24)) < 1e-14)
function M.lgamma(x)
  check.positive('stats.lgamma', 'x', x)
  return C.lgamma(x)
end

-- log n! - (log sqrt(2 pi n) + n log n - n), n > 0 and not only whole (Loader 2000, section 3).
local function stirling_error(n)
  if n <= 15 then
    return C.lgamma(n + 1) - (n + 0.5) * log(n) + n - LOG_SQRT_2PI
  end
  local w = 1 / (n * n)
  return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / n
end

-- x log(x/m) + m - x, by its series where x is close to m (Loader 2000, section 4).
local function deviance(x, m)
  if abs(x - m) >= 0.1 * (x + m) then
    return x * log(x / m) + m - x
  end
  local v = (x - m) / (x + m)
  local sum, term, k = (x - m) * v, 2 * x * v, 1
  v = v * v
  while true do
    term = term * v
    k = k + 2
    local next_sum = sum + term / k
    if next_sum == sum then return sum end
    sum = next_sum
  end
end

-- x^a e^-x / Gamma(a + 1), a > 0, 0 < x < inf.
local function poisson_term(a, x)
  return exp(-stirling_error(a) - deviance(a, x)) / sqrt(2 * pi * a)
end

-- Gamma(a+b+1) / (Gamma(a+1) Gamma(b+1)) x^a y^b, a and b >= 0 (not both), y = 1 - x.
local function binomial_term(a, b, x, y)
  if a == 0 then return exp(b * (x < 0.5 and C.log1p(-x) or log(y))) end
  if b == 0 then return exp(a * (y < 0.5 and C.log1p(-y) or log(x))) end
  local n = a + b
  if x <= 0 or y <= 0 then return 0 end
  local e = stirling_error(n) - stirling_error(a) - stirling_error(b)
    - deviance(a, n * x) - deviance(b, n * y)
  return exp(e) * sqrt(n / a / b / (2 * pi))
end
raw.binomial_term = binomial_term

-- P(a, x) and Q(a, x). Below a + 1 the series, above it Legendre's continued fraction by Lentz's
-- method; either takes some sqrt(a) steps near x = a.
local function gamma_pq(a, x)
  if x == 0 then return 0, 1 end
  if x == huge then return 1, 0 end
  local front = poisson_term(a, x)
  if x < a + 1 then
    local sum, term, k = 1, 1, a
    repeat
      k = k + 1
      term = term * x / k
      sum = sum + term
    until term < sum * EPS
    local p = min(front * sum, 1)
    return p, 1 - p
  end
  if front == 0 then return 1, 0 end
  local b = x + 1 - a
  local c, d = huge, 1 / b
  local h, k = d, 0
  repeat
    k = k + 1
    local an = k * (a - k)
    b = b + 2
    d = 1 / (an * d + b)
    c = b + an / c
    local delta = c * d
    h = h * delta
  until abs(delta - 1) < 2 * EPS
  local q = min(front * a * h, 1)
  return 1 - q, q
end
raw.gamma_pq = gamma_pq

-- B(a,b) I_x(a,b) x^-a y^-b, inverted, as the continued fraction of DiDonato and Morris (ACM TOMS
-- 18, 1992, equation 9), for x up to the mean: nothing in it cancels, however close x is to 1.
local function beta_fraction(a, b, x, y)
  local lambda = a * y - b * x + 1
  local h = a / (a + 1) * lambda
  local c, d, m = h, 0, 0
  repeat
    m = m + 1
    local e = a + 2 * m
    local w = m * (b - m) * x / (e - 1)
    local am = (a + m - 1) / (e - 1) * (a + b + m - 1) * x * w
    local bm = m + w + (a + m) / (e + 1) * (lambda + m * (1 + y))
    d = 1 / (bm + am * d)
    c = bm + am / c
    local delta = c * d
    h = h * delta
  until abs(delta - 1) < 2 * EPS
  return h
end

-- I_x(a, b) and 1 - I_x(a, b); y = 1 - x is passed so that neither end loses digits.
local function beta_pq(a, b, x, y)
  if x <= 0 then return 0, 1 end
  if y <= 0 then return 1, 0 end
  if a * y < b * x then
    local p, q = beta_pq(b, a, y, x)
    return q, p
  end
  local front = binomial_term(a, b, x, y) * (a / (a + b) * b)
  if front == 0 then return 0, 1 end
  local p = min(front / beta_fraction(a, b, x, y), 1)
  return p, 1 - p
end
raw.beta_pq = beta_pq

-- Solves log F(u) = target by Newton's method. F is a tail probability whose density in u is
-- log-concave, so log F is concave and Newton converges from any u where F has not underflowed;
-- where it has, we come half way back to the last point that was good.
local function solve_tail(tail, u, good, target)
  local last = huge
  for _ = 1, 500 do
    local f, slope = tail(u)
    if f ~= f or f <= 0 or slope == 0 then
      u = 0.5 * (u + good)
    else
      local step = (log(f) - target) * f / slope
      local size = abs(step)
      good, u = u, u - step
      local scale = max(1, abs(u))
      if size <= EPS * scale or (size < 1e-11 * scale and size >= last) then return u end
      last = size
    end
  end
  return u
end

--- Regularised lower incomplete gamma function P(a, x), the integral of t^(a-1) e^-t / Gamma(a)
--- from 0 to x. a: 1e-10 to 1e12; x: a number >= 0. Relative error below 1e-12 for a from 1e-3 to
--- 1e6. Source: DLMF 8.11.4, 8.9.2.
--- > assert(math.abs(stats.gammainc(1, 2) - (1 - math.exp(-2))) < 1e-15)
function M.gammainc(a, x)
  check.shape('stats.gammainc', 'a', a)
  check.not_negative('stats.gammainc', 'x', x)
  return (gamma_pq(a, x))
end

--- Regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x) without cancellation.
--- Arguments and range of `gammainc`.
--- > assert(math.abs(stats.gammaincc(1, 300) / math.exp(-300) - 1) < 1e-12)
function M.gammaincc(a, x)
  check.shape('stats.gammaincc', 'a', a)
  check.not_negative('stats.gammaincc', 'x', x)
  local _, q = gamma_pq(a, x)
  return q
end

-- A first guess at the z of a left tail p <= 0.5 (Abramowitz and Stegun 26.2.22, error 3e-3).
local function rough_z(p)
  local t = sqrt(-2 * log(p))
  return (2.30753 + 0.27061 * t) / (1 + t * (0.99229 + 0.04481 * t)) - t
end

-- The x with P(a, x) = p and Q(a, x) = q, from whichever of the two is smaller.
local function gamma_inverse(a, p, q)
  if p <= 0 then return 0 end
  if q <= 0 then return huge end
  local lower = p <= q
  local z = lower and rough_z(p) or -rough_z(q)
  local centre = log(a)
  local guess = 1 - 1 / (9 * a) + z / (3 * sqrt(a)) -- Wilson and Hilferty 1931
  local u
  if guess > 0.2 then
    u = centre + 3 * log(guess)
  elseif lower then
    u = min(centre, (log(p) + C.lgamma(a + 1)) / a)
  else
    u = max(centre, 0)
  end
  if lower then
    u = solve_tail(function(v)
      local x = exp(v)
      if x == 0 or x == huge then return 0, 0 end
      return (gamma_pq(a, x)), a * poisson_term(a, x)
    end, u, centre, log(p))
  else
    u = solve_tail(function(v)
      local x = exp(v)
      if x == 0 or x == huge then return 0, 0 end
      local _, upper = gamma_pq(a, x)
      return upper, -a * poisson_term(a, x)
    end, u, centre, log(q))
  end
  return exp(u)
end
raw.gamma_inverse = gamma_inverse

--- The x with P(a, x) = p. a: 1e-10 to 1e12; p: 0 to 1 (1 gives infinity).
--- > assert(math.abs(stats.gammaincinv(1, 0.5) - math.log(2)) < 1e-14)
function M.gammaincinv(a, p)
  check.shape('stats.gammaincinv', 'a', a)
  check.probability('stats.gammaincinv', 'p', p)
  return gamma_inverse(a, p, 1 - p)
end

--- The x with Q(a, x) = q, for upper tails too small for 1 - q. q: 0 to 1 (0 gives infinity).
--- > assert(math.abs(stats.gammainccinv(1, 1e-200) / (200 * math.log(10)) - 1) < 1e-13)
function M.gammainccinv(a, q)
  check.shape('stats.gammainccinv', 'a', a)
  check.probability('stats.gammainccinv', 'q', q)
  return gamma_inverse(a, 1 - q, q)
end

--- Regularised incomplete beta function I_x(a, b). a, b: 1e-10 to 1e12; x: 0 to 1. Relative error
--- below 1e-12 for a and b from 1e-2 to 1e5. Source: DiDonato and Morris 1992.
--- > assert(math.abs(stats.betainc(2, 1, 0.3) - 0.09) < 1e-15)
function M.betainc(a, b, x)
  check.shape('stats.betainc', 'a', a)
  check.shape('stats.betainc', 'b', b)
  check.probability('stats.betainc', 'x', x)
  return (beta_pq(a, b, x, 1 - x))
end

--- 1 - I_x(a, b) without cancellation. Arguments and range of `betainc`.
--- > assert(math.abs(stats.betaincc(1, 40, 0.9) / 1e-40 - 1) < 1e-12)
function M.betaincc(a, b, x)
  check.shape('stats.betaincc', 'a', a)
  check.shape('stats.betaincc', 'b', b)
  check.probability('stats.betaincc', 'x', x)
  local _, q = beta_pq(a, b, x, 1 - x)
  return q
end

-- log(x / (1-x)) of the x with I_x(a, b) = p and 1 - I_x(a, b) = q.
local function beta_inverse_logit(a, b, p, q)
  if p <= 0 then return -huge end
  if q <= 0 then return huge end
  if p > q then return -beta_inverse_logit(b, a, q, p) end
  local centre = log(a / b)
  local u = centre
  if a >= 1 and b >= 1 then u = u + rough_z(p) * sqrt(1 / a + 1 / b) end
  return solve_tail(function(v)
    local x, y = 1 / (1 + exp(-v)), 1 / (1 + exp(v))
    if x == 0 or y == 0 then return 0, 0 end
    return (beta_pq(a, b, x, y)), binomial_term(a, b, x, y) * (a / (a + b) * b)
  end, u, centre, log(p))
end
raw.beta_inverse_logit = beta_inverse_logit

-- The x with I_x(a, b) = p and 1 - I_x(a, b) = q.
function raw.beta_inverse(a, b, p, q)
  return 1 / (1 + exp(-beta_inverse_logit(a, b, p, q)))
end

--- The x with I_x(a, b) = p. a, b: 1e-10 to 1e12; p: 0 to 1.
--- > assert(math.abs(stats.betaincinv(2, 1, 0.09) - 0.3) < 1e-15)
function M.betaincinv(a, b, p)
  check.shape('stats.betaincinv', 'a', a)
  check.shape('stats.betaincinv', 'b', b)
  check.probability('stats.betaincinv', 'p', p)
  return raw.beta_inverse(a, b, p, 1 - p)
end

--- Density of the standard normal distribution.
--- > assert(math.abs(stats.normal_pdf(0) - 0.3989422804014327) < 1e-15)
function M.normal_pdf(x)
  check.number('stats.normal_pdf', 'x', x)
  return exp(-0.5 * x * x) / SQRT_2PI
end

local function normal_cdf(x)
  return 0.5 * C.erfc(-x * sqrt(0.5))
end
raw.normal_cdf = normal_cdf

--- Distribution function Phi(x) of the standard normal distribution, exact in the left tail.
--- > assert(math.abs(stats.normal_cdf(0) - 0.5) < 1e-15)
function M.normal_cdf(x)
  check.number('stats.normal_cdf', 'x', x)
  return normal_cdf(x)
end

--- Upper tail 1 - Phi(x), exact in the right tail.
--- > assert(math.abs(stats.normal_sf(10) / 7.619853024160527e-24 - 1) < 1e-13)
function M.normal_sf(x)
  check.number('stats.normal_sf', 'x', x)
  return normal_cdf(-x)
end

-- Newton on log Phi in the tail; near the median on erf, where Phi - p would cancel.
local function normal_quantile(p)
  if p == 0 then return -huge end
  if p == 1 then return huge end
  if p > 0.25 and p < 0.75 then
    local e = 2 * (p - 0.5)
    local z = SQRT_2PI / 2 * e * (1 + pi / 12 * e * e)
    for _ = 1, 4 do
      z = z - (C.erf(z * sqrt(0.5)) - e) * SQRT_2PI / 2 * exp(0.5 * z * z)
    end
    return z
  end
  local tail = min(p, 1 - p)
  local target, z = log(tail), rough_z(tail)
  for _ = 1, 5 do
    local f = normal_cdf(z)
    z = z - (log(f) - target) * f * SQRT_2PI * exp(0.5 * z * z)
  end
  return p < 0.5 and z or -z
end
raw.normal_quantile = normal_quantile

--- Quantile of the standard normal distribution, the inverse of `normal_cdf`. p: 0 to 1, whose
--- ends give -infinity and infinity.
--- > assert(math.abs(stats.normal_quantile(0.975) - 1.959963984540054) < 1e-14)
function M.normal_quantile(p)
  check.probability('stats.normal_quantile', 'p', p)
  return normal_quantile(p)
end

return M
