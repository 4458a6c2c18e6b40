-- The Gaussian Unlearning Score: exact where p_y is nearly 1, N(0,1) where nothing was learned.
local lu = require 'luaunit'
local data = require 'vestige.data'
local gus = require 'vestige.metrics.gus'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local stats = require 'vestige.stats'
local vestige = require 'vestige'

local T = {}

local noise = { seed = 11, variance = 0.32, unit = 'normalised' }

-- n random images of 8 x 8 with random labels: what a model knows of them it has memorised.
local function images(n, classes)
  local g = vestige.generator(5, 'images')
  return data.new({ x = vestige.rand({ n, 8, 8, 1 }, { generator = g }),
                    y = vestige.randint(0, classes, { n }, { generator = g }) },
                  { classes = classes == 2 and { 'a', 'b' } or { 'a', 'b', 'c', 'd' } })
end

local function seeded(make)
  return vestige.with_generator(vestige.generator(1, 'init'), make)
end

local function mlp(classes)
  return seeded(function()
    return models.mlp{ inputs = 64, hidden = { 32 }, classes = classes,
                       normalize = { mean = { 0.5 }, std = { 0.29 } } }
  end)
end

local function ids(ds)
  local list = {}
  for i = 1, ds:size() do list[i] = ds:ids()[i] end
  return list
end

-- A model that has seen the images with their noise for a while.
local function trained(ds, model)
  local opt = optim.SGD(model, { lr = 0.1, momentum = 0.9 })
  local planted = ds:with_noise{ seed = noise.seed, variance = noise.variance, ids = ids(ds) }
  for epoch = 1, 60 do
    for b in planted:batches(50, { epoch = epoch, seed = 1 }) do
      vestige.scope(function()
        local loss = model(b.x, b.noise):cross_entropy(b.y)
        opt:step(vestige.grad(loss, opt:parameters()))
      end)
    end
  end
  return model
end

function T.test_certain_samples_score_as_in_f64()
  local ds = images(64, 4)
  local model = mlp(4)
  -- Logits 27.6 apart: 1 - p_y is about 1e-12, below what f32 can hold beside 1.
  vestige.scope(vestige.no_grad, function()
    local z = model(ds.x)
    local best = z:amax(2)
    local margin = best - z:masked_fill(z:eq(best:reshape{ -1, 1 }), -math.huge):amax(2)
    local scale = 27.6 / margin:median():item()
    model.fc.weight:mul_(scale)
    model.fc.bias:mul_(scale)
  end)
  local sure = data.new({ x = ds.x, y = model(ds.x):argmax(2) }, { classes = ds.classes })
  local lost = vestige.no_grad(function()
    return 1 - model(sure.x):to 'f64':softmax(2):gather(2, sure.y:reshape{ -1, 1 })
  end)
  lu.assertTrue(lost:median():item() < 1e-10, 'the samples are not certain')
  local I = gus.scores(model, sure, noise)
  local wide = model:clone():to 'f64'
  local sure64 = data.new({ x = sure.x:to 'f64', y = sure.y }, { classes = ds.classes })
  local exact = gus.scores(wide, sure64, noise)
  for i = 1, #I do lu.assertAlmostEquals(I[i], exact[i], 1e-4) end
end

function T.test_scores_are_standard_normal_where_nothing_was_learned()
  local ds = images(600, 4)
  local model = mlp(4)
  local untrained = gus.scores(model, ds, noise)
  lu.assertTrue(stats.ks_test(untrained).p > 0.01)
  trained(ds:first(200), model)
  local fresh = gus.scores(model, ds, noise, { fresh = 77 })
  lu.assertTrue(stats.ks_test(fresh).p > 0.01)
  -- and neither test rejects: this is the control of every study
  lu.assertFalse(gus.summary(fresh, 0).rejects)
end

function T.test_what_was_learned_is_seen_and_its_sign_is_negative()
  local ds = images(200, 4)
  local model = trained(ds, mlp(4))
  local s = gus.summary(gus.scores(model, ds, noise))
  lu.assertTrue(s.z < -5, s.z)
  lu.assertTrue(s.rejects)
  lu.assertTrue(s.tpr_signed.estimate > 0.01)
end

function T.test_the_score_is_the_formula()
  local ds, model = images(3, 4), mlp(4):to 'f64'
  ds = data.new({ x = ds.x:to 'f64', y = ds.y }, { classes = ds.classes })
  local I = gus.scores(model, ds, noise)
  for i = 1, 3 do
    -- One sample at a time, from the loss of Algorithm 3 at the normalised input.
    local zero = vestige.zeros({ 1, 8, 8, 1 }, { dtype = 'f64' }):requires_grad_()
    local one = ds:subset{ ds:ids()[i] }
    local g = vestige.grad(model(one.x, zero):cross_entropy(one.y), zero):reshape{ -1 }
    local xi = data.noise(noise.seed, { ds:ids()[i] }, { 8, 8, 1 }):to 'f64':reshape{ -1 }
    lu.assertAlmostEquals(I[i], (g * xi):sum():item() / g:norm():item(), 1e-9)
  end
end

function T.test_zero_gradients_are_counted()
  local ds, model = images(20, 4), mlp(4)
  vestige.no_grad(function() model.fc.weight:zero_() end)
  local I, zero = gus.scores(model, ds, noise)
  lu.assertEquals(zero, 20)
  for i = 1, 20 do lu.assertFalse(I[i]) end
end

function T.test_pixel_units_take_the_gradient_at_the_pixels()
  local ds, model = images(5, 4), mlp(4)
  local a = gus.scores(model, ds, noise)
  local b = gus.scores(model, ds, { seed = noise.seed, variance = 0.01, unit = 'pixel' })
  -- One channel: normalising scales the gradient by one number, which the quotient loses.
  for i = 1, 5 do lu.assertAlmostEquals(a[i], b[i], 1e-4) end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'gus', T } })
