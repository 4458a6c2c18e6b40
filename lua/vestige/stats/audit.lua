-- The formulas of the Gaussian poisoning audit (paper section 3.3 and C.1.4, Figure 7). I is the
-- normalised product <g, xi> / (eps |g|) of one canary: N(0,1) when the model does not depend on
-- the noise, near N(mu, 1) when it does, with mu < 0 when it learned the noise.
local check = require 'vestige.stats.check'
local special = require('vestige.stats.special').raw
local inference = require('vestige.stats.inference').raw
local resample = require 'vestige.stats.resample'

local M = {}

local SIDES = { 'abs', 'signed' }

local function side_option(where, options, defaults)
  defaults.side = 'abs'
  local o = check.options(where, options, defaults)
  check.word(where, 'side', o.side, SIDES)
  return o
end

local function threshold(fpr, side)
  return -special.normal_quantile(side == 'abs' and fpr / 2 or fpr)
end

--- Exact threshold for a false positive rate under N(0,1): Phi^-1(1 - fpr/2) on |I|
--- (side = 'abs', the default), Phi^-1(1 - fpr) on -I (side = 'signed'). fpr: between 0 and 1.
--- > assert(math.abs(stats.gus_threshold(0.01) - 2.5758293035489) < 1e-12)
--- > assert(math.abs(stats.gus_threshold(0.01, {side = 'signed'}) - 2.3263478740408) < 1e-12)
function M.gus_threshold(fpr, options)
  check.share('stats.gus_threshold', 'fpr', fpr)
  local o = side_option('stats.gus_threshold', options, {})
  return threshold(fpr, o.side)
end

--- Trade-off curve of N(mu, 1) against N(0,1): the true positive rate at a false positive rate.
--- mu: the size of the shift, as the mean of -I; fpr: 0 to 1. With q the threshold,
--- side = 'abs' (default) gives Phi(mu - q) + Phi(-mu - q), side = 'signed' 1 - Phi(q - mu), the
--- curve of the paper's Figure 7 (Dong, Roth, Su 2022).
--- > assert(math.abs(stats.tpr_curve(1, 0.01) - 0.0577) < 1e-4)
--- > assert(math.abs(stats.tpr_curve(1, 0.01, {side = 'signed'}) - 0.0924) < 1e-4)
function M.tpr_curve(mu, fpr, options)
  check.finite('stats.tpr_curve', 'mu', mu)
  check.probability('stats.tpr_curve', 'fpr', fpr)
  local o = side_option('stats.tpr_curve', options, {})
  if fpr == 0 or fpr == 1 then return fpr end
  local q = threshold(fpr, o.side)
  if o.side == 'signed' then return special.normal_cdf(mu - q) end
  return special.normal_cdf(mu - q) + special.normal_cdf(-mu - q)
end

--- True positive rate of the scores I at the exact N(0,1) threshold. I: at least one score; fpr:
--- between 0 and 1; options side = 'abs' (|I| > q) or 'signed' (-I > q), level = 0.95.
--- Returns {estimate, lo, hi, level, n, threshold}; Clopper and Pearson's interval, n canaries.
--- > assert(stats.gus_tpr({-3, 3, 0, 1}, 0.01).estimate == 0.5)
--- > assert(stats.gus_tpr({-3, 3, 0, 1}, 0.01, {side = 'signed'}).estimate == 0.25)
function M.gus_tpr(I, fpr, options)
  local where = 'stats.gus_tpr'
  local n = check.array(where, 'I', I, 1)
  check.share(where, 'fpr', fpr)
  local o = side_option(where, options, { level = 0.95 })
  check.share(where, 'level', o.level)
  local q, hits = threshold(fpr, o.side), 0
  for i = 1, n do
    local score = o.side == 'abs' and math.abs(I[i]) or -I[i]
    if score > q then hits = hits + 1 end
  end
  local lo, hi = inference.clopper_pearson(hits, n, o.level)
  return { estimate = hits / n, lo = lo, hi = hi, level = o.level, n = n, threshold = q }
end

--- Remaining signal mean(I_after) / mean(I_before), with a percentile bootstrap that draws canaries
--- and keeps each one's two scores together. I_before, I_after: the same canaries in the same
--- order, at least two; it is meaningful only where mean(I_before) is many standard errors from 0.
--- Options rng (required), draws = 2000, level = 0.95.
--- Returns {estimate, se, lo, hi, level, n, draws}.
--- > local r = stats.remaining_signal({-2, -1, -3}, {-1, -0.5, -1.5}, {rng = stats.xorshift(1)})
--- > assert(r.estimate == 0.5 and r.lo == 0.5 and r.hi == 0.5)
function M.remaining_signal(I_before, I_after, options)
  local where = 'stats.remaining_signal'
  local n = check.pairs(where, 'I_before', I_before, 'I_after', I_after, 2)
  local o = check.options(where, options, { rng = false, draws = 2000, level = 0.95 })
  check.callable(where, 'rng', o.rng)
  check.integer(where, 'draws', o.draws, 100)
  check.share(where, 'level', o.level)
  if inference.mean(I_before) == 0 then
    check.fail('%s: I_before must have a mean other than 0', where)
  end
  return resample.bootstrap(n, function(at)
    local before, after = 0, 0
    for i = 1, n do
      before = before + I_before[at[i]]
      after = after + I_after[at[i]]
    end
    -- A draw of mean exactly 0 has no ratio; it counts as unbounded.
    if before == 0 then return after < 0 and -math.huge or math.huge end
    return after / before
  end, o)
end

return M
