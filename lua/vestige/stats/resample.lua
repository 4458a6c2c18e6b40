-- Resampling: the bootstrap and sign flips. The generator is the caller's, a function that returns
-- uniform numbers in [0, 1), so that a study's named streams decide.
local bit = require 'bit'
local check = require 'vestige.stats.check'
local inference = require('vestige.stats.inference').raw

local abs, floor = math.abs, math.floor

local M = {}

--- A small generator for resampling where no engine is loaded: Marsaglia's xorshift128 (2003).
--- seed: a whole number from 0 to 2^32 - 1, default 1. Returns a function without arguments that
--- gives uniform multiples of 2^-32 in [0, 1).
--- > local a, b = stats.xorshift(7), stats.xorshift(7)
--- > assert(a() == b() and a() < 1)
function M.xorshift(seed)
  if seed == nil then seed = 1 end
  check.integer('stats.xorshift', 'seed', seed, 0, 2^32 - 1)
  local x, y, z, w = bit.tobit(seed), 362436069, 521288629, 88675123
  local function step()
    local t = bit.bxor(x, bit.lshift(x, 11))
    x, y, z = y, z, w
    w = bit.bxor(w, bit.rshift(w, 19), t, bit.rshift(t, 8))
    return (w % 2^32) / 2^32
  end
  for _ = 1, 32 do step() end -- close seeds start alike
  return step
end

-- A draw of the caller's generator, checked where it is used as an index.
local function index(where, rng, n)
  local u = rng()
  if type(u) ~= 'number' or u ~= u or u < 0 or u >= 1 then
    check.fail('%s: rng must return numbers in [0, 1), it returned %s', where, tostring(u))
  end
  return floor(u * n) + 1
end

--- Percentile bootstrap over n units (Efron 1979). n: a whole number >= 2, the units that are
--- drawn (canaries, seeds); statistic(indices): a function from an array of n indices to a number.
--- Several arrays indexed with the same indices are resampled in pairs. Options rng (required),
--- draws = 2000, level = 0.95.
--- Returns {estimate, se, lo, hi, level, n, draws}; estimate is the statistic of 1..n.
--- > local x = {1, 2, 3, 4}
--- > local r = stats.bootstrap(4, function(at)
--- >   return (x[at[1]] + x[at[2]] + x[at[3]] + x[at[4]]) / 4
--- > end, {rng = stats.xorshift(1)})
--- > assert(r.estimate == 2.5 and r.lo < 2.5 and r.hi > 2.5)
function M.bootstrap(n, statistic, options)
  local where = 'stats.bootstrap'
  check.integer(where, 'n', n, 2)
  check.callable(where, 'statistic', statistic)
  local o = check.options(where, options, { rng = false, draws = 2000, level = 0.95 })
  check.callable(where, 'rng', o.rng)
  check.integer(where, 'draws', o.draws, 100)
  check.share(where, 'level', o.level)
  local at, values = {}, {}
  for i = 1, n do at[i] = i end
  local estimate = statistic(at)
  check.finite(where, "the statistic's value", estimate)
  for d = 1, o.draws do
    for i = 1, n do at[i] = index(where, o.rng, n) end
    local v = statistic(at)
    check.number(where, "the statistic's value", v)
    values[d] = v
  end
  table.sort(values)
  local bounded = values[1] > -math.huge and values[o.draws] < math.huge
  local tail = (1 - o.level) / 2
  return {
    estimate = estimate, n = n, draws = o.draws,
    se = bounded and math.sqrt(inference.var(values)) or math.huge,
    lo = inference.sorted_quantile(values, tail), hi = inference.sorted_quantile(values, 1 - tail),
    level = o.level,
  }
end

-- Share of the 2^n signs whose |sum| reaches the observed one, along a Gray code. The first sign
-- stays +: the other half is its mirror.
local function enumerate_signs(x, limit)
  local n, total, reached = #x, 0, 0
  for i = 1, n do total = total + x[i] end
  local sign = {}
  for i = 1, n do sign[i] = 1 end
  local count = 2^(n - 1)
  for step = 1, count do
    if abs(total) >= limit then reached = reached + 1 end
    local flip, rest = 2, step
    while rest % 2 == 0 do flip, rest = flip + 1, rest / 2 end
    if flip <= n then
      sign[flip] = -sign[flip]
      total = total + 2 * sign[flip] * x[flip]
    end
  end
  return reached / count
end

--- Sign-flip test that differences are symmetric about zero, on |sum of x|, two-sided. All 2^n
--- signs are tried up to n = 16, so p is at least 2/2^n; beyond, `draws` random ones with rng, the
--- observed one counted among them. Options rng (needed above 16), draws = 10000.
--- Returns {estimate, n, p, exact, draws}; estimate is the mean.
--- > assert(stats.sign_flip_test({1, 2, 3}).p == 0.25)
function M.sign_flip_test(x, options)
  local where = 'stats.sign_flip_test'
  local n = check.array(where, 'x', x, 1)
  local o = check.options(where, options, { rng = false, draws = 10000 })
  check.integer(where, 'draws', o.draws, 100)
  local observed, size = 0, 0
  for i = 1, n do observed, size = observed + x[i], size + abs(x[i]) end
  local limit = abs(observed) - 1e-12 * size -- ties count, whatever the order of the sums
  if n <= 16 then
    return { estimate = inference.mean(x), n = n, exact = true, draws = 2^n,
      p = enumerate_signs(x, limit) }
  end
  check.callable(where, 'rng (needed above 16 values)', o.rng)
  local reached = 1
  for _ = 1, o.draws do
    local total = 0
    for i = 1, n do
      total = total + (index(where, o.rng, 2) == 1 and x[i] or -x[i])
    end
    if abs(total) >= limit then reached = reached + 1 end
  end
  return { estimate = inference.mean(x), n = n, exact = false, draws = o.draws,
    p = reached / (o.draws + 1) }
end

return M
