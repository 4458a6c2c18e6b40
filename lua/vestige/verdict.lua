-- The verdict of the Gaussian poisoning audit on one model: what the scores I of the canaries say,
-- before and after unlearning. A verdict covers these canaries and this checkpoint; it never says
-- "removed".
local check = require 'vestige.stats.check'
local stats = require 'vestige.stats'

local M = {}

--- The words a verdict can be. `words.none` stands for "no influence above MU", with the margin.
M.words = {
  cannot_tell = 'this scale cannot tell',
  remains = 'influence remains',
  over = 'over-unlearned',
  none = 'no influence above',
  inconclusive = 'inconclusive',
}

-- The two primary tests of one array of scores, Holm over the two.
local function primary(I, alpha)
  local z, squares = stats.z_test(I), stats.sum_squares_test(I)
  local holm = stats.holm { z.p, squares.p }
  return {
    gus = z.estimate, se = z.se, z = z.z, lo = z.lo, hi = z.hi, level = z.level, n = z.n,
    p_z = z.p, sum_squares = squares.statistic, df = squares.df, p_sum_squares = squares.p,
    p_z_holm = holm[1], p_sum_squares_holm = holm[2],
    rejects_z = holm[1] <= alpha, rejects_sum_squares = holm[2] <= alpha,
    rejects = holm[1] <= alpha or holm[2] <= alpha,
  }
end

--- The primary test of one array of scores: two-sided z of GUS = mean(I), whose standard error is
--- 1/sqrt(n) under the null, and sum I^2 against chi-square with n degrees (upper tail: mixed
--- signs), Holm over the two. I: scores of at least one canary whose gradient is not zero; option
--- alpha = 0.05. Returns {gus, se, z, lo, hi, level, n, p_z, sum_squares, df, p_sum_squares,
--- p_z_holm, p_sum_squares_holm, rejects_z, rejects_sum_squares, rejects}.
--- > local r = verdict.primary{3, -3, 3, -3}
--- > assert(r.rejects_sum_squares and not r.rejects_z)
function M.primary(I, options)
  check.array('verdict.primary', 'I', I, 1)
  local o = check.options('verdict.primary', options, { alpha = 0.05 })
  check.share('verdict.primary', 'alpha', o.alpha)
  return primary(I, o.alpha)
end

local function p_text(p)
  if p < 1e-300 then return 'p < 1e-300' end
  return ('p = %.2g'):format(p)
end

-- GUS with the adjusted p of whichever test speaks louder.
local function tests_text(t)
  return ('GUS is %.3f (se %.3f, adjusted %s), sum I^2 is %.0f on %d degrees (adjusted %s)')
    :format(t.gus, t.se, p_text(t.p_z_holm), t.sum_squares, t.df, p_text(t.p_sum_squares_holm))
end

local function sentence(r)
  local b, a, w = r.before, r.after, M.words
  local parts = {}
  if r.verdict == w.cannot_tell then
    parts[1] = ('This scale cannot tell: before unlearning, over %d canaries, %s, so there is no '
      .. 'influence whose removal could be judged'):format(r.n, tests_text(b))
  else
    local head
    if r.verdict == w.remains then
      head = 'Influence remains'
    elseif r.verdict == w.over then
      head = 'Over-unlearned, the influence has changed its sign'
    elseif r.verdict == w.inconclusive then
      head = ('Inconclusive, neither influence nor its absence within %.3f (%.3g %% of before) is '
        .. 'shown'):format(r.margin, 100 * r.margin_share)
    else
      head = ('No influence above %.3f (%.3g %% of before, equivalence %s)')
        :format(r.margin, 100 * r.margin_share, p_text(r.equivalence.p))
    end
    parts[1] = ('%s: over %d canaries %s after unlearning, against %.3f before'):format(head, r.n,
      tests_text(a), b.gus)
    if r.remaining then
      parts[#parts + 1] = ('%.0f %% of the signal is left (%.3g %% interval %.0f to %.0f %%)')
        :format(100 * r.remaining.estimate, 100 * r.remaining.level, 100 * r.remaining.lo,
          100 * r.remaining.hi)
    end
  end
  local zero_b, zero_a = r.zero_gradients.before, r.zero_gradients.after
  if zero_b + zero_a > 0 then
    parts[#parts + 1] = ('canaries without a gradient: %d before, %d after'):format(zero_b, zero_a)
  end
  return table.concat(parts, '; ') .. '.'
end

-- Which word the tests give. Before's sign counts only where before's z test rejects: a model that
-- rejected by sum I^2 alone has no sign that could turn over.
local function word(before, after, equivalent)
  local w = M.words
  if not before.rejects then return w.cannot_tell end
  if after.rejects_z and before.rejects_z and after.gus * before.gus < 0 then return w.over end
  if after.rejects then return w.remains end
  return equivalent and w.none or w.inconclusive
end

--- Judges one model from the scores of its canaries before and after unlearning.
--- Before must reject (see `primary`), else "this scale cannot tell". After: Holm over z
--- (two-sided) and sum I^2 (upper tail) at alpha. z rejecting with the sign opposite to before's is
--- "over-unlearned", whatever sum I^2 says; any other rejection is "influence remains"; no
--- rejection, and two one-sided tests that |mean I| is inside the margin, is "no influence above
--- MU"; else "inconclusive".
--- I_before, I_after: the same canaries in the same order, at least two, without those that have no
--- gradient in either. Options: alpha = 0.05; margin = 0.2, the share of |mean I before| that
--- counts as no influence; zero_gradients_before, zero_gradients_after = 0, how many canaries were
--- left out, for the report; rng, draws = 2000, level = 0.95 for the interval of the remaining
--- signal (rng: a function giving uniforms in [0, 1); default a fixed seed).
--- Returns {verdict, text, sentence, n, unit, alpha, before, after, margin, margin_share,
--- equivalence, remaining, zero_gradients}: verdict is one of `words`, text the same with the
--- margin filled in, before and after are `primary` tables, equivalence is `stats.tost_z`'s and
--- remaining `stats.remaining_signal`'s (absent unless before's z rejects). I < 0 is learned.
--- > local before, same = {}, {}
--- > for i = 1, 100 do before[i], same[i] = -2 * (i % 2), -2 * (i % 2) end
--- > assert(verdict.judge(before, same).verdict == 'influence remains')
function M.judge(I_before, I_after, options)
  local where = 'verdict.judge'
  local n = check.pairs(where, 'I_before', I_before, 'I_after', I_after, 2)
  local o = check.options(where, options, {
    alpha = 0.05, margin = 0.2, zero_gradients_before = 0, zero_gradients_after = 0, rng = false,
    draws = 2000, level = 0.95,
  })
  check.share(where, 'alpha', o.alpha)
  if o.alpha >= 0.5 then
    check.fail('%s: alpha must be a number below 0.5, got %.10g', where, o.alpha)
  end
  check.finite_positive(where, 'margin', o.margin)
  check.integer(where, 'zero_gradients_before', o.zero_gradients_before, 0)
  check.integer(where, 'zero_gradients_after', o.zero_gradients_after, 0)
  if o.rng then check.callable(where, 'rng', o.rng) end
  local before, after = primary(I_before, o.alpha), primary(I_after, o.alpha)
  local r = {
    n = n, unit = 'canaries', alpha = o.alpha, before = before, after = after,
    margin_share = o.margin, margin = o.margin * math.abs(before.gus),
    zero_gradients = { before = o.zero_gradients_before, after = o.zero_gradients_after },
  }
  if r.margin > 0 then
    r.equivalence = stats.tost_z(after.gus, after.se, r.margin, { alpha = o.alpha })
  end
  if before.rejects_z then
    r.remaining = stats.remaining_signal(I_before, I_after, {
      rng = o.rng or stats.xorshift(1), draws = o.draws, level = o.level,
    })
  end
  r.verdict = word(before, after, r.equivalence ~= nil and r.equivalence.equivalent)
  r.text = r.verdict
  if r.verdict == M.words.none then
    r.text = ('%s %.3f (%.3g %% of before)'):format(r.verdict, r.margin, 100 * r.margin_share)
  end
  r.sentence = sentence(r)
  return r
end

return M
