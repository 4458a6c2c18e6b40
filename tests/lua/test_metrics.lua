-- Metrics that read more than one model against PyTorch's and NumPy's values
-- (tests/golden/make_metrics.py), collapse, interclass confusion, and exact oracles of unlearning.
local lu = require 'luaunit'
local attack = require 'vestige.attacks.interclass_confusion'
local collapse = require 'vestige.metrics.collapse'
local context = require 'vestige.context'
local data = require 'vestige.data'
local golden = require 'tests.golden.metrics'
local gus = require 'vestige.metrics.gus'
local interclass = require 'vestige.metrics.interclass'
local lira = require 'vestige.metrics.lira'
local models = require 'vestige.models'
local plugins = require 'vestige.plugins'
local similarity = require 'vestige.metrics.similarity'
local stats = require 'vestige.stats'
local vestige = require 'vestige'

local T = {}

local f64 = { dtype = 'f64' }

local function linear(t)
  local m = models.logistic_regression{ inputs = #t.w[1], classes = #t.w }:to 'f64'
  vestige.no_grad(function()
    m.fc.weight:copy_(vestige.tensor(t.w, f64))
    m.fc.bias:copy_(vestige.tensor(t.b, f64))
  end)
  return m
end

local function set(t, first_id)
  return data.new({ x = vestige.tensor(t.x, f64), y = vestige.tensor(t.y, { dtype = 'i64' }) },
                  { first_id = first_id })
end

local test, forget, fresh = set(golden.test, 0), set(golden.forget, 100), set(golden.fresh, 200)
local original, retrained = linear(golden.original), linear(golden.retrained)
local unlearned = linear(golden.unlearned)

local function close(a, b, what) lu.assertAlmostEquals(a, b, 1e-12 * (1 + math.abs(b)), what) end

local function message(...)
  local ok, text = pcall(...)
  lu.assertFalse(ok)
  return text
end

function T.test_all_metrics_have_the_shape_of_plugins()
  for _, name in ipairs { 'accuracy', 'collapse', 'gus', 'interclass', 'lira', 'mia', 'similarity',
                          'target' } do
    lu.assertEquals(plugins.find('metrics', name).name, name)
  end
end

-- ---- Beside the retrained model ----

function T.test_similarity_is_pytorchs()
  local r = similarity.measure(unlearned, { retrained = retrained, original = original, test = test,
                                            canaries = { planted = forget } })
  local want = golden.on_test
  for _, name in ipairs { 'distance', 'distance_before', 'cosine' } do
    close(r[name], want[name], name)
  end
  close(r.kl.estimate, want.kl)
  close(r.kl.se, want.kl_se)
  lu.assertEquals({ r.estimate, r.n, r.unit }, { want.agree / 40, 40, 'test samples' })
  lu.assertEquals({ r.lo, r.hi }, { stats.wilson(want.agree, 40).lo,
                                    stats.wilson(want.agree, 40).hi })
  close(r.forgotten.kl.estimate, golden.on_forget.kl)
  lu.assertEquals(r.forgotten.agreement.estimate, golden.on_forget.agree / 12)
end

function T.test_a_model_beside_itself()
  local r = similarity.measure(retrained, { retrained = retrained, original = original,
                                            test = test })
  lu.assertEquals({ r.estimate, r.kl.estimate, r.distance }, { 1, 0, 0 })
  close(r.cosine, 1)
  lu.assertNil(similarity.cosine(original, retrained, original)) -- it did not move
end

-- ---- LiRA ----

-- n out-models; holds(i, id): whether the i-th was trained on a sample.
local function out_models(n, holds)
  local out = {}
  for i = 1, n do
    out[i] = { load = function() return linear(golden.out[(i - 1) % #golden.out + 1]) end,
               holds = function(id) return holds ~= nil and holds(i, id) end }
  end
  return out
end

local canaries = { planted = forget, fresh = fresh }

function T.test_lira_is_numpys()
  local r = lira.measure(unlearned, { canaries = canaries, out = out_models(16) })
  close(r.estimate, golden.lira.auc)
  close(r.sd, golden.lira.sd)
  close(r.shift.estimate, golden.lira.shift)
  close(r.lo, golden.lira.lo)
  close(r.hi, golden.lira.hi)
  lu.assertEquals({ r.models, r.n, r.unit, r.null, r.clears }, { 16, 21, 'samples', 0.5, false })
end

-- A model that was trained on a sample is none of its out-models.
function T.test_lira_leaves_out_models_that_saw_the_sample()
  local r = lira.measure(unlearned, { canaries = canaries, out = out_models(20, function(i)
    return i > 16
  end) })
  lu.assertEquals(r.models, 16)
  close(r.sd, golden.lira.sd)
  close(r.shift.estimate, golden.lira.shift)
end

function T.test_lira_refuses_few_models()
  local text = message(lira.measure, unlearned, { canaries = canaries, out = out_models(15) })
  lu.assertStrContains(text, 'has 15 models that were not trained on it, expected at least 16')
  local one_held = out_models(16, function(_, id) return id == 103 end)
  text = message(lira.measure, unlearned, { canaries = canaries, out = one_held })
  lu.assertStrContains(text, 'members: a sample has 0 models')
  local flat = {}
  for i = 1, 16 do flat[i] = 1 end
  local group = { phi = { 1, 2 }, out = { flat, flat } }
  lu.assertStrContains(message(lira.attack, group, group), 'spread is 0')
  lu.assertStrContains(message(lira.attack, { phi = { 1 }, out = { flat, flat } }, group),
                       '1 samples, out-models for 2')
end

-- ---- Interclass confusion ----

function T.test_interclass_errors_are_numpys()
  local want = golden.confusion
  local r = interclass.measure(unlearned, { test = test, classes = { 0, 2 },
                                            canaries = { planted = test } })
  lu.assertEquals({ r.estimate, r.count, r.n }, { want.ic / want.n, want.ic, want.n })
  lu.assertEquals({ r.fgt.estimate, r.fgt.count }, { want.fgt / want.n, want.fgt })
  lu.assertEquals({ r.lo, r.hi }, { stats.wilson(want.ic, want.n).lo,
                                    stats.wilson(want.ic, want.n).hi })
  lu.assertEquals({ r.memorised.count, r.memorised.n }, { want.right, 40 })
end

function T.test_interclass_errors_by_hand()
  -- Of class 0 five right, two taken for 1, one for 2; of class 1 four right, three for 0.
  local r = interclass.errors({ { 5, 2, 1 }, { 3, 4, 0 }, { 9, 9, 9 } }, 0, 1)
  lu.assertEquals({ r.ic.count, r.fgt.count, r.ic.n, r.fgt.n }, { 6, 5, 15, 15 })
  lu.assertStrContains(message(interclass.errors, { { 1, 0 }, { 0, 1 } }, 0, 2),
                       'class 2: expected 0 to 1')
  lu.assertStrContains(message(interclass.errors, { { 1, 0 }, { 0, 1 } }, 1, 1), '1 twice')
  lu.assertStrContains(message(interclass.errors, { { 0, 0 }, { 0, 0 } }, 0, 1), 'no sample')
end

function T.test_the_attack_swaps_two_classes()
  local y = {}
  for i = 1, 60 do y[i] = i % 3 end
  local ds = data.new({ x = vestige.zeros{ 60, 1 }, y = vestige.tensor(y, { dtype = 'i64' }) },
                      { classes = { 'a', 'b', 'c' }, first_id = 7 })
  local function poison(o)
    local ctx = context.new{ seed = 3, recipe = {} }
    return ctx:call(attack.poison, ds, plugins.options('attack', attack, o))
  end
  local r = poison{ a = 0, b = 2, share = 0.2 }
  lu.assertEquals(#r.forget, 12)
  lu.assertEquals(r.classes, { 0, 2 })
  local before, after, swapped = ds:subset(r.forget).y:tolist(), r.data:subset(r.forget).y:tolist(),
                                 { [0] = 0, [2] = 0 }
  for i, label in ipairs(before) do
    lu.assertEquals(after[i], 2 - label)
    swapped[label] = swapped[label] + 1
  end
  lu.assertEquals(swapped, { [0] = 6, [2] = 6 })
  lu.assertEquals(r.data:without(r.forget).y:tolist(), ds:without(r.forget).y:tolist())
  lu.assertStrContains(message(poison, { a = 0, b = 2, share = 0.9 }), '27 samples are more than')
  lu.assertStrContains(message(poison, { a = 1, b = 1 }), 'the same class, 1')
  lu.assertStrContains(message(poison, { share = 0 }), 'above 0')
end

-- ---- Collapse ----

function T.test_collapse()
  local good = data.new{ x = test.x, y = vestige.no_grad(unlearned, test.x):argmax(2) }
  local before = collapse.measure(unlearned, { test = good })
  lu.assertEquals({ before.collapsed, before.estimate, before.n, before.finite },
                  { false, 1, 40, true })
  lu.assertEquals(before.null, 1 / 3)
  lu.assertNil(before.reason)

  local one = linear(golden.unlearned)
  vestige.no_grad(function() one.fc.bias:copy_(vestige.tensor({ 0, 1e3, 0 }, f64)) end)
  local constant = collapse.measure(one, { test = good })
  lu.assertEquals(constant.reason, 'every prediction is class 1')

  local nan = linear(golden.unlearned)
  vestige.no_grad(function() nan.fc.bias:copy_(vestige.tensor({ 0, 0 / 0, 0 }, f64)) end)
  local broken = collapse.measure(nan, { test = good })
  lu.assertEquals({ broken.reason, broken.finite }, { 'fc.bias is not finite', false })

  local labels = {} -- a third of all are as predicted
  for i, p in ipairs(good.y:tolist()) do labels[i] = (p + i) % 3 end
  local chance = collapse.measure(unlearned, {
    test = data.new{ x = test.x, y = vestige.tensor(labels, { dtype = 'i64' }) } })
  lu.assertStrContains(chance.reason, 'is not above chance, 0.333')
  lu.assertTrue(chance.lo <= 1 / 3 and chance.hi > 1 / 3)

  lu.assertEquals(collapse.since(before, constant), constant.reason)
  lu.assertNil(collapse.since(chance, constant)) -- it was no better before
  lu.assertNil(collapse.since(before, before))
  lu.assertNil(collapse.since(nil, constant)) -- a result without the measure
  local function at(accuracy) return { estimate = accuracy, null = 0.1, collapsed = false } end
  lu.assertNil(collapse.since(at(0.6), at(0.21)))
  lu.assertEquals(collapse.since(at(0.6), at(0.19)),
                  'test accuracy fell from 0.600 to 0.190, where chance is 0.1')
end

-- ---- Trade-off ----

function T.test_the_trade_off_curve()
  local I = {}
  for i = 1, 60 do I[i] = -2 end
  I[61] = false
  local signed, abs = gus.curve(I), gus.curve(I, 'abs')
  lu.assertEquals(#signed.fpr, 99)
  for i, fpr in ipairs(signed.fpr) do
    local q = stats.gus_threshold(fpr, { side = 'signed' })
    lu.assertEquals(signed.tpr[i], q < 2 and 1 or 0)
    close(signed.gaussian[i], stats.normal_cdf(2 - q))
    q = stats.gus_threshold(fpr)
    lu.assertEquals(abs.tpr[i], q < 2 and 1 or 0)
    close(abs.gaussian[i], stats.normal_cdf(2 - q) + stats.normal_cdf(-2 - q))
  end
end

-- ---- Exact oracles ----

-- Least squares on one-hot labels: what is retrained, deleted in closed form (Sherman, Morrison,
-- Woodbury) and reached by one Newton step on the retained loss is one and the same, without GUS.
function T.test_least_squares_is_unlearned_exactly()
  local n, d, g = 240, 60, vestige.generator(1, 'oracle')
  local x = vestige.randn({ n, d }, { dtype = 'f64', generator = g })
  local y = vestige.randint(0, 2, { n }, { generator = g })
  local clean = data.new{ x = x, y = y }
  local noise = { seed = 3, variance = 1, unit = 'normalised' }
  local ids = clean:sample(120, g):ids()
  -- The columns as the model sees them, and one-hot labels.
  local function seen(ds)
    local xi = data.noise(noise.seed, ds:ids(), { d }):to 'f64'
    return ds.x + xi, vestige.one_hot(ds.y, 2):to 'f64'
  end
  local retain = clean:without(ids)
  local gone_x, gone_y = seen(clean:subset(ids))
  local kept_x, kept_y = retain.x, vestige.one_hot(retain.y, 2):to 'f64'
  local function product(a, b) return vestige.matmul(a, b, { ta = true }) end
  local solve = vestige.linalg.solve
  local function model(w) -- (d, classes)
    local m = models.logistic_regression{ inputs = d, classes = 2 }:to 'f64'
    vestige.no_grad(function()
      m.fc.weight:copy_(w:permute{ 2, 1 })
      m.fc.bias:zero_()
    end)
    return m
  end
  local A = product(kept_x, kept_x) + product(gone_x, gone_x)
  local b = product(kept_x, kept_y) + product(gone_x, gone_y)
  local trained = solve(A, b)
  local gold = solve(product(kept_x, kept_x), product(kept_x, kept_y))

  local inverse_u = solve(A, gone_x:permute{ 2, 1 }) -- A^-1 U'
  local eye = vestige.one_hot(vestige.arange(120):to 'i64', 120):to 'f64'
  local rest = b - product(gone_x, gone_y)
  local start = solve(A, rest)
  local deleted = start + vestige.matmul(inverse_u, solve(
    eye - vestige.matmul(gone_x, inverse_u), vestige.matmul(gone_x, start)))

  local m = model(trained)
  local residual = m(kept_x) - kept_y
  local gradient = vestige.grad(residual:square():sum() / 2, m.fc.weight)
  local newton = trained - solve(product(kept_x, kept_x), gradient:permute{ 2, 1 })

  local function score(w) return gus.summary(gus.scores(model(w), clean:subset(ids), noise)) end
  local before, want = score(trained), score(gold)
  lu.assertTrue(before.rejects and before.z < -3)
  lu.assertFalse(want.rejects)
  for name, w in pairs { deletion = deleted, newton = newton } do
    local off = (w - gold):abs():max():item()
    lu.assertTrue(off < 1e-9, ('%s: off by %.3g'):format(name, off))
    lu.assertTrue((w - trained):abs():max():item() > 1e-2)
    lu.assertAlmostEquals(score(w).estimate, want.estimate, 1e-9, name)
    lu.assertFalse(score(w).rejects, name)
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'metrics', T } })
