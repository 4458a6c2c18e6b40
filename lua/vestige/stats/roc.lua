-- How well a score tells two samples apart: ROC curve, TPR at a false positive rate, AUC. A higher
-- score means "positive".
local check = require 'vestige.stats.check'
local special = require('vestige.stats.special').raw
local inference = require('vestige.stats.inference').raw

local floor, huge, max, min, sqrt = math.floor, math.huge, math.max, math.min, math.sqrt

local M = {}

-- Ranks of x from 1, ties sharing their mean rank.
local function midranks(x)
  local n = #x
  local order, rank = {}, {}
  for i = 1, n do order[i] = i end
  table.sort(order, function(i, j) return x[i] < x[j] end)
  local i = 1
  while i <= n do
    local j = i
    while j < n and x[order[j + 1]] == x[order[i]] do j = j + 1 end
    for k = i, j do rank[order[k]] = (i + j) / 2 end
    i = j + 1
  end
  return rank
end

local function samples(where, positives, negatives, least)
  return check.array(where, 'positives', positives, least),
    check.array(where, 'negatives', negatives, least)
end

--- Area under the ROC curve, the chance that a positive's score is above a negative's, ties
--- counting half. The interval is DeLong's (1988, normal, cut to [0, 1]; by midranks, Sun and Xu
--- 2014). Where the samples are fully apart DeLong's variance is 0: the interval is then Clopper
--- and Pearson's for min(m, n) successes (or failures) in as many trials, exact for disjoint pairs.
--- positives, negatives: at least two scores each. Option level = 0.95.
--- Returns {estimate, se, lo, hi, level, n_positive, n_negative, z, p, method}; z and p test 0.5,
--- and are absent where se is 0.
--- > local r = stats.auc({1, 2, 3, 4}, {0, 1, 2, 3})
--- > assert(r.estimate == 11.5 / 16 and r.method == 'DeLong')
function M.auc(positives, negatives, options)
  local where = 'stats.auc'
  local m, n = samples(where, positives, negatives, 2)
  local o = check.options(where, options, { level = 0.95 })
  check.share(where, 'level', o.level)
  local all = {}
  for i = 1, m do all[i] = positives[i] end
  for j = 1, n do all[m + j] = negatives[j] end
  local rank, rank_p, rank_n = midranks(all), midranks(positives), midranks(negatives)
  local place_p, place_n = {}, {}
  for i = 1, m do place_p[i] = (rank[i] - rank_p[i]) / n end
  for j = 1, n do place_n[j] = 1 - (rank[m + j] - rank_n[j]) / m end
  local estimate = inference.mean(place_p)
  local r = { estimate = estimate, level = o.level, n_positive = m, n_negative = n }
  r.se = sqrt(inference.var(place_p) / m + inference.var(place_n) / n)
  if r.se > 0 then
    local half = -special.normal_quantile((1 - o.level) / 2) * r.se
    r.lo, r.hi, r.method = max(0, estimate - half), min(1, estimate + half), 'DeLong'
    r.z = (estimate - 0.5) / r.se
    r.p = 2 * special.normal_cdf(-math.abs(r.z))
  elseif estimate == 0.5 then -- one value shared by all: nothing can be told apart
    r.lo, r.hi, r.method = 0.5, 0.5, 'constant'
  else
    local trials = min(m, n)
    r.lo, r.hi = inference.clopper_pearson(estimate == 1 and trials or 0, trials, o.level)
    r.method = 'separated'
  end
  return r
end

local function descending(x)
  local s = inference.sorted(x)
  local n = #s
  for i = 1, floor(n / 2) do s[i], s[n - i + 1] = s[n - i + 1], s[i] end
  return s
end

--- Points of the ROC curve, from (0, 0) to (1, 1), one for each distinct score: "positive" is a
--- score of at least the threshold. Returns three arrays {threshold, fpr, tpr}; the first threshold
--- is infinity.
--- > local r = stats.roc({2, 1}, {1, 0})
--- > assert(r.tpr[2] == 0.5 and r.fpr[2] == 0 and r.threshold[2] == 2)
function M.roc(positives, negatives)
  local m, n = samples('stats.roc', positives, negatives, 1)
  local p, q = descending(positives), descending(negatives)
  local r = { threshold = { huge }, fpr = { 0 }, tpr = { 0 } }
  local i, j = 0, 0
  while i < m or j < n do
    local t = max(p[i + 1] or -huge, q[j + 1] or -huge)
    while i < m and p[i + 1] >= t do i = i + 1 end
    while j < n and q[j + 1] >= t do j = j + 1 end
    local k = #r.threshold + 1
    r.threshold[k], r.tpr[k], r.fpr[k] = t, i / m, j / n
  end
  return r
end

--- True positive rate at a false positive rate, with the threshold taken from the negatives:
--- "positive" is a score above the smallest negative score that keeps the false positives at most
--- fpr n; nothing is interpolated. fpr: 0 to 1; option level = 0.95. Returns {estimate, lo, hi,
--- level, n, threshold, fpr, n_negative}: Clopper and Pearson's interval for the threshold as it is
--- (its own sampling error is not in it), fpr the rate reached.
--- > local r = stats.tpr_at_fpr({3, 2, 0}, {0, 1, 2, -1}, 0.25)
--- > assert(r.threshold == 1 and r.fpr == 0.25 and r.estimate == 2 / 3)
function M.tpr_at_fpr(positives, negatives, fpr, options)
  local where = 'stats.tpr_at_fpr'
  local m, n = samples(where, positives, negatives, 1)
  check.probability(where, 'fpr', fpr)
  local o = check.options(where, options, { level = 0.95 })
  check.share(where, 'level', o.level)
  local q = descending(negatives)
  local allowed = floor(fpr * n + 1e-9)
  local threshold = q[allowed + 1] or -huge
  local hits, false_hits = 0, 0
  for i = 1, m do if positives[i] > threshold then hits = hits + 1 end end
  for j = 1, n do if negatives[j] > threshold then false_hits = false_hits + 1 end end
  local lo, hi = inference.clopper_pearson(hits, m, o.level)
  return { estimate = hits / m, lo = lo, hi = hi, level = o.level, n = m, threshold = threshold,
    fpr = false_hits / n, n_negative = n }
end

return M
