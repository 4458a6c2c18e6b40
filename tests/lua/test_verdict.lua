-- The verdict on one model: each word of it, on planted scores from fixed seeds.
-- luacheck: globals TestVerdict TestInput
local lu = require 'luaunit'
local stats = require 'vestige.stats'
local verdict = require 'vestige.verdict'
local words = verdict.words

-- `n` scores N(mean(i), 1) from a fixed seed; `shared` is what before and after have in common.
local function scores(seed, n, mean)
  local rng = stats.xorshift(seed)
  local I = {}
  for i = 1, n do
    local mu = type(mean) == 'function' and mean(i) or mean
    I[i] = mu + stats.normal_quantile((rng() * 2^32 + 0.5) / 2^32)
  end
  return I
end

local function mixed(size)
  return function(i) return i % 2 == 0 and size or -size end
end

TestVerdict = {}

function TestVerdict.test_moving_nothing_is_flagged()
  for _, mu in ipairs { -0.5, -1, -2 } do
    local before = scores(1, 500, mu)
    local r = verdict.judge(before, before)
    lu.assertEquals(r.verdict, words.remains)
    lu.assertEquals({ r.remaining.estimate, r.remaining.lo, r.remaining.hi }, { 1, 1, 1 })
    lu.assertStrContains(r.sentence, 'Influence remains: over 500 canaries GUS is')
    lu.assertStrContains(r.sentence, '100 % of the signal is left')
  end
end

function TestVerdict.test_retrained_is_not_flagged()
  -- A retrained model is flagged at most at alpha; the rest is equivalence or inconclusive.
  local before = scores(1, 500, -1)
  local count = {}
  for seed = 100, 1099 do
    local r = verdict.judge(before, scores(seed, 500, 0), { draws = 100 })
    count[r.verdict] = (count[r.verdict] or 0) + 1
  end
  local flagged = (count[words.remains] or 0) + (count[words.over] or 0)
  lu.assertTrue(flagged <= 50 + 21, flagged .. ' of 1000 flagged')
  lu.assertTrue(flagged >= 20, flagged .. ' of 1000 flagged: the test has lost its level')
  lu.assertTrue(count[words.none] > 900)
  lu.assertNil(count[words.cannot_tell])
end

function TestVerdict.test_no_influence_names_the_margin()
  local r = verdict.judge(scores(1, 500, -1), scores(2, 500, 0), { margin = 0.25 })
  lu.assertEquals(r.verdict, words.none)
  lu.assertAlmostEquals(r.margin, 0.25 * math.abs(r.before.gus), 1e-15)
  lu.assertEquals(r.text, ('no influence above %.3f (25 %% of before)'):format(r.margin))
  lu.assertStrContains(r.sentence, 'No influence above')
  lu.assertTrue(r.equivalence.p <= 0.05)
  lu.assertTrue(r.remaining.lo < r.remaining.hi and r.remaining.hi < 0.25)
end

function TestVerdict.test_equivalence_needs_enough_canaries()
  -- 40 canaries reject before, but cannot bound mu by 0.2: silence is not evidence.
  local r = verdict.judge(scores(1, 40, -1), scores(2, 40, 0))
  lu.assertFalse(r.after.rejects)
  lu.assertEquals(r.verdict, words.inconclusive)
  lu.assertStrContains(r.sentence, 'Inconclusive')
end

function TestVerdict.test_mixed_signs_are_caught_by_the_squares()
  local r = verdict.judge(scores(1, 500, -1), scores(2, 500, mixed(1)))
  lu.assertFalse(r.after.rejects_z)
  lu.assertTrue(r.after.rejects_sum_squares)
  lu.assertEquals(r.verdict, words.remains)
end

function TestVerdict.test_opposite_sign_is_over_unlearned()
  -- A strong one rejects by sum I^2 as well, a weak one only by z.
  for _, mu in ipairs { 1, 0.2 } do
    local r = verdict.judge(scores(1, 500, -1), scores(2, 500, mu))
    lu.assertEquals(r.after.rejects_sum_squares, mu == 1)
    lu.assertEquals(r.verdict, words.over)
    lu.assertTrue(r.remaining.hi < 0)
    lu.assertStrContains(r.sentence, 'changed its sign')
  end
  -- Nothing depends on which sign "learned" has.
  local mirrored = verdict.judge(scores(1, 500, 1), scores(2, 500, -1))
  lu.assertEquals(mirrored.verdict, words.over)
end

function TestVerdict.test_before_must_reject()
  for _, after in ipairs { scores(2, 500, 0), scores(3, 500, -1), scores(4, 500, mixed(2)) } do
    local r = verdict.judge(scores(9, 500, 0), after)
    lu.assertEquals(r.verdict, words.cannot_tell)
    lu.assertNil(r.remaining)
    lu.assertStrContains(r.sentence, 'This scale cannot tell')
  end
end

function TestVerdict.test_before_without_a_sign()
  -- Before rejects by sum I^2 alone: there is no sign to turn over and no ratio to bound.
  local before = scores(6, 500, mixed(1))
  local first = verdict.primary(before)
  lu.assertTrue(first.rejects_sum_squares and not first.rejects_z)
  for _, mu in ipairs { -1, 1 } do
    local r = verdict.judge(before, scores(7, 500, mu))
    lu.assertEquals(r.verdict, words.remains)
    lu.assertNil(r.remaining)
  end
  lu.assertEquals(verdict.judge(before, scores(2, 500, 0)).verdict, words.inconclusive)
end

function TestVerdict.test_the_numbers_are_the_tests()
  local before, after = scores(1, 300, -1), scores(2, 300, -0.3)
  local r = verdict.judge(before, after, { alpha = 0.01 })
  local z, s = stats.z_test(after), stats.sum_squares_test(after)
  local holm = stats.holm { z.p, s.p }
  lu.assertEquals({ r.after.gus, r.after.se, r.after.z, r.after.p_z },
    { z.estimate, z.se, z.z, z.p })
  lu.assertEquals({ r.after.sum_squares, r.after.p_sum_squares, r.after.df },
    { s.statistic, s.p, 300 })
  lu.assertEquals({ r.after.p_z_holm, r.after.p_sum_squares_holm }, holm)
  lu.assertEquals({ r.after.rejects_z, r.after.rejects_sum_squares },
    { holm[1] <= 0.01, holm[2] <= 0.01 })
  lu.assertEquals(r.after.se, 1 / math.sqrt(300))
  lu.assertEquals({ r.n, r.unit, r.alpha, r.margin_share }, { 300, 'canaries', 0.01, 0.2 })
  local again = verdict.judge(before, after, { alpha = 0.01 })
  lu.assertEquals({ again.remaining.lo, again.remaining.hi }, { r.remaining.lo, r.remaining.hi })
end

function TestVerdict.test_holm_is_over_the_two()
  -- z alone has p just under 0.05, which Holm doubles; the sum of squares says nothing.
  local I = {}
  for i = 1, 100 do I[i] = 0.2 + (i % 2 == 0 and 0.9 or -0.9) end
  local r = verdict.primary(I)
  lu.assertTrue(r.p_z < 0.05 and r.p_z_holm == 2 * r.p_z and not r.rejects)
  lu.assertFalse(r.rejects_z or r.rejects_sum_squares)
end

function TestVerdict.test_zero_gradients_are_told()
  local before = scores(1, 100, -1)
  local r = verdict.judge(before, before, { zero_gradients_after = 3 })
  lu.assertEquals(r.zero_gradients, { before = 0, after = 3 })
  lu.assertStrContains(r.sentence, 'canaries without a gradient: 0 before, 3 after')
  lu.assertNotStrContains(verdict.judge(before, before).sentence, 'without a gradient')
end

TestInput = {}

local function raises(message, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(err, message)
  lu.assertStrContains(err, 'test_verdict.lua:')
end

function TestInput.test_bad_arguments()
  local I = { 1, 2, 3 }
  raises('verdict.judge: I_before must be an array of numbers, got nothing', verdict.judge)
  raises('verdict.judge: I_after must be an array of numbers, got nothing', verdict.judge, I)
  raises('verdict.judge: I_before must hold at least 2 numbers, got 1', verdict.judge, { 1 }, { 1 })
  raises('I_before and I_after are paired and must have the same length, got 3 and 2',
    verdict.judge, I, { 1, 2 })
  raises('verdict.judge: I_after[2] must be a finite number, got', verdict.judge, I,
    { 1, 0 / 0, 2 })
  raises('no option "marign" (did you mean "margin"?)', verdict.judge, I, I, { marign = 0.1 })
  raises('verdict.judge: alpha must be a number between 0 and 1, got 5', verdict.judge, I, I,
    { alpha = 5 })
  raises('verdict.judge: alpha must be a number below 0.5, got 0.5', verdict.judge, I, I,
    { alpha = 0.5 })
  raises('verdict.judge: margin must be a finite number > 0, got 0', verdict.judge, I, I,
    { margin = 0 })
  raises('verdict.judge: zero_gradients_before must be a whole number >= 0, got -1', verdict.judge,
    I, I, { zero_gradients_before = -1 })
  raises('verdict.judge: rng must be a function, got 7', verdict.judge, I, I, { rng = 7 })
  raises('verdict.primary: I must hold at least 1 number, got 0', verdict.primary, {})
end

os.exit(lu.LuaUnit.run())
