-- The stages of the protocol on a small net: what moves, what is reused, what the verdict says.
local lu = require 'luaunit'
local data = require 'vestige.data'
local fs = require 'vestige.fs'
local models = require 'vestige.models'
local plugins = require 'vestige.plugins'
local protocol = require 'vestige.protocol'
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
  for _, name in ipairs { 'nothing', 'halves', 'wrong', 'flips', 'empty' } do
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
  lu.assertTrue(r.methods[2].unlearn.estimates.moved > 0)
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
  local _, p = protocol.poisoned(retain, r.poison)
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

function T.test_pixel_units()
  local r = run{ attack_options = { share = 0.4, unit = 'pixel', eps2 = 0.03 }, methods = { 'gd' } }
  local clean = images(300, 1)
  local ds, p = protocol.poisoned(clean, r.poison)
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
  plugin('unlearn', { name = 'wrong', defaults = {}, unlearn = function() return 5 end })
  lu.assertStrContains(message{ methods = { 'wrong' } }, 'expected unlearn to return a model')
  plugin('attacks', { name = 'empty', defaults = {}, poison = function() return {} end })
  lu.assertStrContains(message{ attack = 'empty', attack_options = {} }, 'expected {data')
  package.loaded['vestige.unlearn.wrong'] = { unlearn = function() end }
  lu.assertStrContains(message{ methods = { 'wrong' } }, 'expected a table with a name')
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
