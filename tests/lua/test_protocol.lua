-- The stages of the protocol on a small net: what moves, what is reused, what the verdict says.
local lu = require 'luaunit'
local data = require 'vestige.data'
local fs = require 'vestige.fs'
local models = require 'vestige.models'
local plugins = require 'vestige.plugins'
local protocol = require 'vestige.protocol'
local similarity = require 'vestige.metrics.similarity'
local stages = require 'vestige.stages'
local study = require 'vestige.study'
local vestige = require 'vestige'

local T = {}

local root
local model = { name = 'mlp', options = { inputs = 64, hidden = { 32 }, classes = 4,
                                          normalize = { mean = { 0.5 }, std = { 0.29 } } } }
local recipe = { epochs = 40, batch_size = 25, augment = {},
                 optim = { name = 'sgd', lr = 0.1, momentum = 0.9 } }

local function images(n, seed, first_id)
  local g = vestige.generator(seed, 'images')
  return data.new({ x = vestige.rand({ n, 8, 8, 1 }, { generator = g }),
                    y = vestige.randint(0, 4, { n }, { generator = g }) },
                  { classes = { 'a', 'b', 'c', 'd' }, first_id = first_id })
end

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end

function T.tearDown()
  for _, name in ipairs { 'nothing', 'halves', 'wrong', 'empty', 'spy', 'breaks' } do
    package.loaded['vestige.unlearn.' .. name] = nil
    package.loaded['vestige.attacks.' .. name] = nil
  end
  fs.remove_tree(root, '/tmp')
end

local function new_study()
  return study.new{ root = root .. '/runs', quiet = true,
                    context = function(ctx) ctx.quiet = true end }
end

local function run(t)
  local o = { train = images(300, 1), test = images(100, 2, 1000), attack = 'gaussian',
              attack_options = { share = 0.4 }, model = model, recipe = recipe, seed = 1,
              methods = {} }
  for k, v in pairs(t) do o[k] = v end
  return protocol.run(t.study or new_study(), o)
end

local function plugin(kind, t)
  package.loaded[('vestige.%s.%s'):format(kind, t.name)] = t
end

local function state(record)
  return vestige.load(record:path 'model.safetensors')
end

local function model_of(record)
  return models.make(model.name, model.options):load(record:path 'model.safetensors')
end

local function same(a, b)
  for name, t in pairs(a) do
    if not vestige.equal(t, b[name]) then return false, name end
  end
  return true
end

function T.test_an_unlearner_that_moves_nothing_is_flagged()
  plugin('unlearn', { name = 'nothing', defaults = {},
                      unlearn = function(m) return m end })
  local r = run{ methods = { 'nothing', 'retrain' } }
  lu.assertTrue(r.before.estimates.gus.rejects)
  lu.assertEquals(r.methods[1].unlearn.estimates.moved, 0)
  lu.assertEquals(r.methods[1].unlearn.estimates.steps, 0)
  local verdict = protocol.judge(r.before, r.methods[1].score)
  lu.assertEquals(verdict.verdict, 'influence remains')
  lu.assertEquals(verdict.remaining.estimate, 1)
  local retrained = protocol.judge(r.before, r.methods[2].score)
  lu.assertNotEquals(retrained.verdict, 'influence remains')
  lu.assertFalse((same(state(r.train), state(r.methods[2].unlearn))))
end

function T.test_a_budget_in_steps_or_in_epochs_of_what_is_retained()
  local all = run{}.train.estimates.steps -- of 300 samples
  local function steps(t)
    t.methods, t.budget = { 'gd' }, 0.5
    return run(t).methods[1].unlearn.estimates.steps
  end
  lu.assertEquals(steps{}, all / 2)
  -- 120 of them are poisons.
  local epoch = math.ceil(180 / recipe.batch_size)
  lu.assertEquals(steps{ budget_unit = 'epochs' }, math.floor(recipe.epochs * epoch / 2 + 0.5))
  -- Of which a half is known: 60 stay in what is retained.
  epoch = math.ceil(240 / recipe.batch_size)
  lu.assertEquals(steps{ budget_unit = 'epochs', discovered = 0.5 },
                  math.floor(recipe.epochs * epoch / 2 + 0.5))
  lu.assertErrorMsgContains("did you mean 'epochs'", run, { methods = {}, budget_unit = 'epoch' })
end

function T.test_a_default_of_the_attack_that_is_spelled_out_makes_no_other_stage()
  local s = new_study()
  local short = run{ study = s, attack_options = { share = 0.4 } }
  local long = run{ study = s, attack_options = { share = 0.4, eps2 = 0.32,
                                                  unit = 'normalised' } }
  lu.assertEquals(long.train.key, short.train.key)
end

-- The key of what retrains holds what is retained and nothing of the attack.
function T.test_attacks_that_leave_the_same_samples_share_the_retrained_model()
  local s = new_study()
  local function retrained(attack, options)
    return run{ study = s, attack = attack, attack_options = options,
                methods = { 'retrain' } }.methods[1].unlearn
  end
  local noise = retrained('gaussian', { share = 0.4 })
  lu.assertEquals(retrained('gaussian', { share = 0.4, eps2 = 0.5 }).key, noise.key)
  lu.assertNotEquals(retrained('gaussian', { share = 0.3 }).key, noise.key)
  -- Samples that are added leave all others: retraining is training.
  local cancel = { share = 0.05, steps = 1, gradpc = { epochs = 0.1 } }
  local clean = retrained('gradient_cancelling', cancel)
  cancel.steps = 2
  lu.assertEquals(retrained('gradient_cancelling', cancel).key, clean.key)
  local trained = s:run(stages.train, { model = model, recipe = recipe, seed = 1 },
                        { data = images(300, 1) })
  lu.assertTrue(same(state(clean), state(trained)))
end

function T.test_a_method_has_a_copy_of_the_model_and_what_it_moves_is_what_changes()
  plugin('unlearn', { name = 'halves', defaults = { by = 0.5 },
                      unlearn = function(m, _, _, o)
    vestige.no_grad(function() m.fc.weight:mul_(o.by) end)
    return m
  end })
  local r = run{ methods = { 'halves', 'gd' } }
  local before, after = state(r.train), state(r.methods[1].unlearn)
  for name, t in pairs(before) do
    if name == 'fc.weight' then
      lu.assertEquals(after[name]:tolist(), (t * 0.5):tolist())
    else
      lu.assertTrue(vestige.equal(t, after[name]), name)
    end
  end
  -- The next method started from the trained model, not from what this one made of it.
  local moved = state(r.methods[2].unlearn)
  for name, t in pairs(before) do
    lu.assertFalse(vestige.equal(t, moved[name]), name)
    lu.assertTrue((t - moved[name]):norm():item() < 0.2 * t:norm():item(), name)
  end
end

function T.test_retraining_is_training_without_the_poisons()
  local r = run{ methods = { 'retrain', 'retrain_budget' }, budget = 0.1 }
  local steps = r.train.estimates.steps
  lu.assertEquals(steps, 40 * 12)
  lu.assertEquals(r.methods[1].unlearn.estimates.steps, 40 * 8) -- 180 of 300 samples are left
  lu.assertEquals(r.methods[2].unlearn.estimates.steps, 48)
  -- A study of the retained samples alone gives the same bits.
  local retain = images(300, 1)
  local _, p = stages.poisoned(retain, r.poison)
  local context = require 'vestige.context'
  local c = context.new{ seed = 1, recipe = recipe, quiet = true,
                         make = function() return models.make(model.name, model.options) end }
  local again = c:fresh()
  c:train(again, { data = retain:without(p.forget), budget = false })
  lu.assertTrue(same(state(r.methods[1].unlearn), again:state_dict()))
end

function T.test_stages_are_shared_and_kept()
  local s = new_study()
  local first = run{ study = s, methods = { 'gd' } }
  lu.assertTrue(first.train.ran)
  local second = run{ study = s, methods = { 'gd', 'ngd' } }
  lu.assertFalse(second.train.ran)
  lu.assertFalse(second.methods[1].unlearn.ran)
  lu.assertTrue(second.methods[2].unlearn.ran)
  local other = run{ study = s, methods = { 'gd' }, method_options = { gd = { lr = 0.01 } } }
  lu.assertFalse(other.train.ran)
  lu.assertTrue(other.methods[1].unlearn.ran)
end

function T.test_after_each_stage()
  local names = {}
  run{ methods = { 'gd' }, after = function(name) names[#names + 1] = name end }
  lu.assertEquals(names, { 'poison', 'train', 'score', 'gd', 'score' })
end

-- ---- What is known, and in how many parts it is deleted ----

-- A method that trains a little and notes what it was given.
local function spy(seen)
  local function kept(m)
    local list = {}
    for name, t in pairs(m:state_dict()) do list[name] = t:detach():clone():keep() end
    return list
  end
  plugin('unlearn', { name = 'spy', needs = 'retain forget full', defaults = {},
                      unlearn = function(m, retain, forget, _, ctx)
    seen[#seen + 1] = { retain = retain:ids(), forget = forget:ids(), budget = ctx.budget,
                        full = ctx.full:size(), noise = retain.noise and #retain.noise.ids or 0,
                        start = kept(m), original = kept(ctx.original),
                        stream = ctx:rng('unlearn'):state(), fresh = kept(ctx:fresh()) }
    ctx:train(m, { parts = { retain = retain }, optim = { name = 'sgd', lr = 0.01 } })
    seen[#seen].result = kept(m)
    return m
  end })
end

local function as_set(ids)
  local set = {}
  for _, id in ipairs(ids) do set[id] = true end
  return set
end

function T.test_parts_of_the_poisons()
  local forget = {}
  for i = 1, 50 do forget[i] = 3 * i end
  local found, hidden = stages.discovered(forget, 0.3, 1)
  lu.assertEquals({ #found, #hidden }, { 15, 35 })
  local all = as_set(found)
  for i, id in ipairs(hidden) do
    lu.assertNil(all[id])
    all[id] = true
    lu.assertTrue(i == 1 or hidden[i - 1] < id) -- in the order of the poisons
  end
  lu.assertEquals(all, as_set(forget))
  lu.assertEquals((stages.discovered(forget, 0.3, 1)), found)
  lu.assertNotEquals((stages.discovered(forget, 0.3, 2)), found)
  lu.assertEquals({ stages.discovered(forget, 1, 1) }, { forget, {} })
  lu.assertEquals(#(stages.discovered(forget, 0.001, 1)), 1)

  local parts, together = stages.requests(forget, 4, 1), {}
  lu.assertEquals(#parts, 4)
  for _, part in ipairs(parts) do
    lu.assertTrue(#part == 12 or #part == 13)
    for _, id in ipairs(part) do together[#together + 1] = id end
  end
  lu.assertItemsEquals(together, forget)
  lu.assertEquals(stages.requests(forget, 1, 1), { forget })
end

function T.test_a_share_of_the_poisons_is_known()
  local s, seen = new_study(), {}
  spy(seen)
  local whole = run{ study = s, methods = { 'spy', 'retrain' } }
  local r = run{ study = s, methods = { 'spy', 'retrain' }, discovered = 0.25 }
  local _, p = stages.poisoned(images(300, 1), r.poison)
  local found, hidden = stages.discovered(p.forget, 0.25, 1)
  lu.assertEquals({ #found, #hidden }, { 30, 90 })
  lu.assertEquals(seen[1].forget, p.forget)
  lu.assertEquals({ #seen[1].retain, seen[1].noise }, { 180, 0 })
  lu.assertEquals(seen[2].forget, found)
  lu.assertEquals({ #seen[2].retain, seen[2].noise }, { 270, 90 })
  local kept = as_set(seen[2].retain)
  for _, id in ipairs(hidden) do lu.assertTrue(kept[id]) end
  for _, id in ipairs(found) do lu.assertNil(kept[id]) end
  -- The gold standard is the same stage: without all poisons.
  lu.assertFalse(r.methods[2].unlearn.ran)
  lu.assertEquals(r.methods[2].unlearn.key, whole.methods[2].unlearn.key)
  -- All poisons, and both parts.
  local e = r.before.estimates
  lu.assertEquals({ e.gus.n, e.parts.discovered.gus.n, e.parts.undiscovered.gus.n },
                  { 120, 30, 90 })
  lu.assertEquals(e.gus.estimate, whole.before.estimates.gus.estimate)
  lu.assertAlmostEquals(e.parts.discovered.gus.estimate * 30
                        + e.parts.undiscovered.gus.estimate * 90, e.gus.estimate * 120, 1e-10)
  lu.assertEquals(e.parts.discovered.mia.n, 30 + 100) -- 100 test samples
  local I, sum = protocol.scores(r.before), 0
  local known = as_set(found)
  for i, id in ipairs(p.forget) do sum = sum + (known[id] and I[i] or 0) end
  lu.assertAlmostEquals(e.parts.discovered.gus.estimate, sum / 30, 1e-12)
  lu.assertNil(whole.before.estimates.parts)
end

function T.test_deletion_in_several_requests()
  local seen = {}
  spy(seen)
  local r = run{ methods = { 'spy' }, requests = 3, discovered = 0.5, budget = 0.1 }
  local _, p = stages.poisoned(images(300, 1), r.poison)
  local found = stages.discovered(p.forget, 0.5, 1)
  lu.assertEquals(#seen, 3)
  local steps, gone = 0, {}
  for j, t in ipairs(seen) do
    lu.assertEquals(t.forget, stages.requests(found, 3, 1)[j])
    lu.assertEquals({ #t.forget, #t.retain, t.full }, { 20, 300 - 20 * j, 320 - 20 * j })
    for _, id in ipairs(t.forget) do gone[id] = true end
    for _, id in ipairs(t.retain) do lu.assertNil(gone[id]) end -- none comes back
    steps = steps + t.budget
    lu.assertTrue(same(t.start, t.original))
    lu.assertTrue(same(t.start, j == 1 and state(r.train) or seen[j - 1].result))
    lu.assertTrue(same(t.fresh, seen[1].fresh)) -- the initial weights are those of the seed
    lu.assertTrue(j == 1 or t.stream ~= seen[1].stream) -- the noise is not
  end
  lu.assertEquals(steps, 48)
  lu.assertEquals(r.methods[1].unlearn.estimates.steps, 48)
  lu.assertTrue(same(state(r.methods[1].unlearn), seen[3].result))
  local rows = r.methods[1].unlearn:metrics()
  for i = 2, #rows do lu.assertTrue(rows[i].step > rows[i - 1].step) end
  lu.assertEquals(rows[#rows].step, 48)
end

function T.test_one_request_of_all_poisons_is_what_it_was()
  local s = new_study()
  local first = run{ study = s, methods = { 'gd', 'retrain' } }
  local second = run{ study = s, methods = { 'gd', 'retrain' }, discovered = 1, requests = 1 }
  for k = 1, 2 do
    lu.assertFalse(second.methods[k].unlearn.ran)
    lu.assertFalse(second.methods[k].score.ran)
    lu.assertEquals(second.methods[k].unlearn.key, first.methods[k].unlearn.key)
  end
  -- The key is that of a stage without the two options.
  local stage = study.stage{ name = 'unlearn', version = 1, run = print,
    defaults = { method = 'gd', options = stages.unlearn.defaults.options, budget = 0, seed = 0,
                 model = stages.unlearn.defaults.model,
                 recipe = stages.unlearn.defaults.recipe } }
  lu.assertEquals((study.key(stage, { method = 'gd', options = {}, budget = 48, model = model,
                                      recipe = recipe, seed = 1 },
                             { data = images(300, 1), poison = first.poison,
                               train = first.train })), first.methods[1].unlearn.key)
end

-- A run that is stopped in any request, or between two, goes on to the same bits.
function T.test_a_stop_in_any_request_loses_nothing()
  local forward, calls, stop = models.Model.forward, 0, nil
  function models.Model:forward(...)
    calls = calls + 1
    if calls == stop then error('stopped', 0) end
    return forward(self, ...)
  end
  local began = {}
  local function go(name, methods_stop)
    local s = study.new{ root = root .. '/' .. name, quiet = true, context = function(ctx)
      ctx.quiet, ctx.every = true, 0
      if ctx.stage == 'unlearn' then
        calls, stop = 0, methods_stop
        began[#began + 1] = ctx.resume ~= nil
      else
        stop = nil
      end
    end }
    return pcall(run, { study = s, methods = { 'ngd' }, requests = 3, budget = 0.1,
                        recipe = { epochs = 6, batch_size = 25, augment = {},
                                   optim = recipe.optim } })
  end
  local ok, err = pcall(function()
    local _, whole = go 'whole'
    lu.assertEquals(whole.methods[1].unlearn.estimates.steps, 7)
    for at = 2, 7 do
      local name = 'stopped' .. at
      lu.assertFalse((go(name, at)))
      local good, again = go(name)
      lu.assertTrue(good)
      lu.assertTrue(began[#began])
      lu.assertTrue(same(state(whole.methods[1].unlearn), state(again.methods[1].unlearn)),
                    'stopped at ' .. at)
      lu.assertEquals(again.methods[1].unlearn.estimates.steps, 7)
      lu.assertEquals(#again.methods[1].unlearn:metrics(), #whole.methods[1].unlearn:metrics())
    end
  end)
  models.Model.forward = forward
  if not ok then error(err, 0) end
end

-- ---- Metrics with further inputs ----

function T.test_models_stand_beside_the_retrained_one()
  local r = run{ methods = { 'retrain', 'gd' } }
  lu.assertNil(r.methods[1].compare)
  local before, gd = r.compare.estimates, r.methods[2].compare.estimates
  lu.assertNil(before.cosine) -- it has not moved
  lu.assertEquals(before.distance, before.distance_before)
  local trained, gold = model_of(r.train), model_of(r.methods[1].unlearn)
  lu.assertEquals(gd.distance_before, similarity.distance(gold, trained))
  lu.assertTrue(gd.n == 100 and gd.forgotten.agreement.n == 120)
  lu.assertTrue(math.abs(gd.cosine) <= 1 and gd.kl.estimate > 0)
  lu.assertNil((run{ methods = { 'gd' } }).compare)
end

function T.test_lira_from_the_studys_models()
  local s, short = new_study(), { epochs = 12, batch_size = 25, augment = {}, optim = recipe.optim }
  local count = 0
  local r = run{ study = s, methods = { 'retrain' }, recipe = short, lira = 16,
                 attack_options = { share = 0.4, eps2 = 0.05 },
                 after = function(name) count = count + (name == 'out' and 1 or 0) end }
  lu.assertEquals(count, 32)
  local before, after = r.lira.estimates, r.methods[1].lira.estimates
  lu.assertEquals({ before.models, before.n, before.null }, { 16, 220, 0.5 })
  lu.assertTrue(before.lo > 0.6 and not before.clears)
  lu.assertTrue(after.lo < 0.5 and after.hi > 0.5 and after.clears)
  -- Another seed and another method share the out-models.
  local again = protocol.out_models(s, { lira = 16, train = images(300, 1), model = model,
                                         recipe = short })
  for _, record in pairs(again) do lu.assertFalse(record.ran) end
  lu.assertStrContains(select(2, pcall(run, { lira = 8 })), 'out-models, at least 16, got 8')
end

function T.test_interclass_confusion_is_scored()
  local r = run{ attack = 'interclass_confusion', attack_options = { a = 0, b = 1, share = 0.2 },
                 methods = { 'retrain' } }
  local before, after = r.before.estimates.interclass, r.methods[1].score.estimates.interclass
  lu.assertTrue(before.memorised.lo > after.memorised.hi)
  lu.assertTrue(before.fgt.count <= before.count)
  lu.assertEquals(before.memorised.n, 60)
  lu.assertNil(r.before.estimates.gus)
end

-- ---- Collapse ----

function T.test_a_model_that_collapsed_is_said_to_have_collapsed()
  plugin('unlearn', { name = 'breaks', defaults = { to = 0 }, unlearn = function(m, _, _, o)
    vestige.no_grad(function() m.fc.weight:mul_(o.to) end)
    return m
  end })
  -- Test samples that the model can know: those it is trained on.
  local known = images(300, 1)
  local function judged(to)
    local r = run{ test = known, methods = { 'breaks' },
                   method_options = { breaks = { to = to } } }
    return protocol.judge(r.before, r.methods[1].score), r.methods[1].score.estimates
  end
  local fine, e = judged(0.9)
  lu.assertNil(fine.collapsed)
  lu.assertFalse(e.collapse.collapsed)
  local flat
  flat, e = judged(0)
  lu.assertStrContains(flat.collapsed, 'every prediction is class')
  lu.assertEquals({ flat.verdict, flat.text }, { 'inconclusive', 'collapsed' })
  lu.assertStrContains(flat.sentence, 'No canary has a gradient')
  lu.assertTrue(e.mia ~= nil and e.gus == nil)
  local nan
  nan, e = judged(1e39) -- beyond f32
  lu.assertEquals(nan.collapsed, 'fc.weight is not finite')
  lu.assertTrue(e.mia == nil and e.gus == nil)
  -- Upside down: worse than chance, with all its gradients.
  local turned
  turned, e = judged(-1)
  lu.assertStrContains(turned.collapsed, 'is not above chance, 0.25')
  lu.assertStrContains(turned.text, 'over-unlearned; collapsed')
  lu.assertStrContains(turned.sentence, 'The model collapsed')
  lu.assertNotNil(e.gus)
end

function T.test_ga_that_collapses_is_said_to_have_collapsed()
  local known = images(300, 1) -- samples that the model knows
  local function judged(lr)
    local r = run{ test = known, methods = { 'ga' }, budget = 0.5,
                   method_options = { ga = { lr = lr } } }
    return protocol.judge(r.before, r.methods[1].score).collapsed
  end
  lu.assertNil(judged(5e-6))
  lu.assertNotNil(judged(0.1))
end

function T.test_a_backdoors_success_is_scored()
  local r = run{ attack = 'badnets', attack_options = { share = 0.1, class = 2 },
                 methods = { 'retrain' } }
  local before, after = r.before.estimates.backdoor, r.methods[1].score.estimates.backdoor
  lu.assertTrue(before.lo > after.hi)
  local others = 0
  for _, y in ipairs(images(100, 2, 1000).y:tolist()) do others = others + (y ~= 2 and 1 or 0) end
  lu.assertEquals({ before.n, after.n }, { others, others })
  lu.assertNil(r.before.estimates.mia) -- no sample that was not trained on has the patch
end

function T.test_pixel_units()
  local r = run{ attack_options = { share = 0.4, unit = 'pixel', eps2 = 0.03 }, methods = { 'gd' } }
  local clean = images(300, 1)
  local ds, p = stages.poisoned(clean, r.poison)
  lu.assertEquals(#p.forget, 120)
  local planted = ds:subset(p.forget).x - clean:subset(p.forget).x
  lu.assertAlmostEquals(planted:var():item(), 0.03, 0.002)
  lu.assertTrue(vestige.equal(ds:without(p.forget).x, clean:without(p.forget).x))
  lu.assertTrue(r.before.estimates.gus.z < -3)
end

function T.test_messages()
  local function message(t)
    local ok, text = pcall(run, t)
    lu.assertFalse(ok)
    return text
  end
  lu.assertStrContains(message{ methods = { 'retrian' } }, "no 'retrian'")
  lu.assertStrContains(message{ methods = { 'retrian' } }, "'retrain'")
  lu.assertStrContains(message{ attack = 'gausian' }, "'gaussian'")
  lu.assertStrContains(message{ methods = { 'gd' }, method_options = { gd = { lrr = 1 } } }, "'lr'")
  lu.assertStrContains(message{ attack_options = { share = 2 } }, 'share')
  lu.assertStrContains(message{ discovered = 0, methods = { 'gd' } }, 'expected a share above 0')
  lu.assertStrContains(message{ requests = 200, methods = { 'gd' } }, 'whole number from 1 to 120')
  plugin('unlearn', { name = 'wrong', defaults = {}, unlearn = function() return 5 end })
  lu.assertStrContains(message{ methods = { 'wrong' } }, 'expected unlearn to return a model')
  plugin('attacks', { name = 'empty', defaults = {}, poison = function() return {} end })
  lu.assertStrContains(message{ attack = 'empty', attack_options = {} }, 'expected {data')
  package.loaded['vestige.unlearn.wrong'] = { unlearn = function() end }
  lu.assertStrContains(message{ methods = { 'wrong' } }, 'expected a table with a name')
end

function T.test_bad_options_are_told_before_anything_is_computed()
  local s = new_study()
  local function message(t)
    t.study, t.train, t.test = s, images(300, 1), images(100, 2, 1000)
    local ok, err = pcall(run, t)
    lu.assertFalse(ok)
    lu.assertEquals(study.list(root .. '/runs'), {})
    return err
  end
  local text = message{ attack = 'gradient_matching', attack_options = { optimizer = 'adm' } }
  lu.assertStrContains(text, "expected one of signed_adam, adam, got 'adm'; did you mean 'adam'?")
  text = message{ methods = { 'retrain', 'ga' }, method_options = { ga = { form = 'yang' } } }
  lu.assertStrContains(text, "did you mean 'jang'?")
  lu.assertStrContains(message{ methods = { 'retrain', 'gaa' } }, "did you mean 'ga'")
end

function T.test_plugins()
  for kind, least in pairs{ attacks = { 'gaussian' }, metrics = { 'accuracy', 'gus', 'mia' },
                            unlearn = { 'gd', 'ngd', 'retrain', 'retrain_budget' } } do
    local names = plugins.names(kind)
    for _, name in ipairs(names) do lu.assertEquals(plugins.find(kind, name).name, name) end
    for _, name in ipairs(least) do lu.assertTableContains(names, name) end
  end
  local gd = plugins.find('unlearn', 'gd')
  lu.assertEquals(plugins.options('unlearn', gd, { lr = 0.5 }),
                  { lr = 0.5, momentum = 0.9, weight_decay = 5e-4 })
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'protocol', T } })
