-- Gradient cancelling and GradPC: steps against PyTorch (tests/golden/make_attacks.py), what the
-- attack adds and within what bounds, when it can work, and that training goes to its target.
local lu = require 'luaunit'
local context = require 'vestige.context'
local data = require 'vestige.data'
local fs = require 'vestige.fs'
local gc = require 'vestige.attacks.gradient_cancelling'
local gradpc = require 'vestige.gradpc'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local plugins = require 'vestige.plugins'
local protocol = require 'vestige.protocol'
local readers = require 'vestige.data.readers'
local similarity = require 'vestige.metrics.similarity'
local stages = require 'vestige.stages'
local study = require 'vestige.study'
local vestige = require 'vestige'
local start = require 'tests.golden.start'

local T = {}

local golden = vestige.load 'tests/golden/attacks.safetensors'

local function quiet_context()
  return context.new{ seed = 1, recipe = {}, quiet = true }
end

-- ---- Steps are PyTorch's ----

local function gc_options(o) return gc.options(plugins.options('attack', gc, o)) end

local function assert_near(got, want, tolerance, what)
  local off = (got - want):norm():item()
  lu.assertTrue(off < tolerance * want:norm():item(), ('%s is off by %g'):format(what, off))
end

-- theta_low as the golden data has it, after two steps of GradPC.
local function low_model()
  local m, first = start.resnet18(1):train(), {}
  for i, p in ipairs(m:parameters()) do first[i] = p:detach():clone() end
  local o = gc_options{ eps_w = 0.5, gradpc = { lr = 0.4 } }
  for k = 0, 1 do
    local x, y = start.batch(k, 8, 1, 'f64')
    gradpc.ascend(m, first, x, y, o)
  end
  return m:eval(), first
end

function T.test_gradpc_steps_are_pytorchs()
  local m, first = low_model()
  local state, sum, compared = m:state_dict(), 0, 0
  for name, t in pairs(golden) do
    name = name:match '^gradpc/(.*)$'
    if name then
      assert_near(state[name], start.from_file(t), 1e-10, name)
      compared = compared + 1
    end
  end
  lu.assertEquals(compared, 5)
  for i, p in ipairs(m:parameters()) do sum = sum + (p - first[i]):square():sum():item() end
  lu.assertAlmostEquals(math.sqrt(sum), 0.5, 1e-12) -- both steps together would be longer
end

-- Loss, gradient and three steps of a case of the golden data; one batch or several give the same.
local function check_cancelling(case, given, which)
  local m = low_model()
  local cx, cy = start.batch(0, 8, 1, 'f64')
  local x, y = start.batch(1, 8, 1, 'f64')
  x, y = x:narrow(1, 1, 6), y:narrow(1, 1, 6)
  given.steps = 3
  local params = gc.parameters(m, which)
  for _, size in ipairs { 6, 4 } do
    given.batch_size = size
    local o = gc_options(given)
    local a, weight = gc.weights(o, 8, 6)
    local clean = gc.gradients(m, params, cx, cy, o)
    for i, g in ipairs(clean) do clean[i] = g * (a / 8) end
    local function want(key) return golden[('cancelling/%s/%s'):format(case, key)] end
    local loss, g = gc.loss(m, params, clean, x, y, weight, o)
    lu.assertAlmostEquals(loss, want 'loss':item(), 1e-12)
    assert_near(g, start.from_file(want 'gradient'), 1e-9, case .. ' gradient')
    local made, before, after = gc.cancel(m, params, clean, x, y, weight, o, quiet_context())
    assert_near(made - x, start.from_file(want 'x') - x, 1e-7, case .. ' steps')
    lu.assertEquals(before, loss)
    lu.assertEquals(after, (gc.loss(m, params, clean, made, y, weight, o)))
  end
end

function T.test_cancelling_all_parameters_is_pytorchs()
  check_cancelling('samples', { optimizer = 'adam', lr = 0.1, schedule = 'cosine' }, 'all')
end

function T.test_cancelling_the_first_by_equation_4_in_the_ball_is_pytorchs()
  check_cancelling('sets', { weighting = 'sets', optimizer = 'sgd', lr = 50, eps = 16 }, 'first')
end

-- ---- What the attack adds ----

local classes = { 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j' }

local function images()
  local g = vestige.generator(1, 'images')
  return data.new({ x = vestige.randint(0, 256, { 200, 8, 8, 3 }, { generator = g }):to 'u8',
                    y = vestige.randint(0, 10, { 200 }, { generator = g }) },
                  { classes = classes })
end

-- The attack on a few small images and a small network, theta_0 untrained.
local function cancelled(given, seed, checkpoint, net)
  local o = { share = 0.05, steps = 5, batch_size = 64, gradpc = { batch_size = 50 } }
  for k, v in pairs(given or {}) do o[k] = v end
  local ds, theta = images(), net or start.resnet18(1, 'f32')
  local ctx = context.new{ seed = seed or 3, recipe = {}, quiet = true, checkpoint = checkpoint,
                           every = 0, clean = function() return theta end }
  return ctx:call(gc.poison, ds, gc_options(o)), ds, theta
end

function T.test_cancelling_appends_samples_of_the_data_with_their_labels()
  local p, ds, theta = cancelled()
  lu.assertEquals(p.data:size(), 210)
  lu.assertEquals(p.forget, { 200, 201, 202, 203, 204, 205, 206, 207, 208, 209 })
  local added, base = p.data:subset(p.forget), ds:subset(p.base)
  lu.assertTrue(vestige.equal(added.y, base.y))
  local rest = p.data:without(p.forget)
  lu.assertTrue(vestige.equal(rest.x, ds.x:to 'f32' / 255) and vestige.equal(rest.y, ds.y))
  lu.assertTrue((added.x - base.x:to 'f32' / 255):abs():max():item() > 0.3) -- Adam, five steps
  local e = p.estimates
  lu.assertTrue(e.loss_after < 0.95 * e.loss_before, e.loss_before .. ' to ' .. e.loss_after)
  lu.assertEquals(e.share, 0.05)
  lu.assertNil(e.reachable_share)
  local fresh = start.resnet18(1, 'f32')
  for name, t in pairs(theta:state_dict()) do -- the clean model stays as it was
    lu.assertTrue(vestige.equal(t, fresh:state_dict()[name]), name)
  end
  lu.assertEquals(cancelled().data:hash(), p.data:hash())
  lu.assertNotEquals(cancelled(nil, 4).base, p.base)
  local first = cancelled{ init = 'first' }
  lu.assertEquals(first.base, { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 })
end

function T.test_variants()
  local function settings(o)
    o = gc_options(o)
    return table.concat({ o.weighting, o.parameters, o.optimizer, o.lr, o.schedule, o.init }, ' ')
  end
  lu.assertEquals(settings(), 'samples all adam 0.3 cosine random')
  lu.assertEquals(settings{ variant = 'paper' }, 'samples all sgd 0.1 constant random')
  lu.assertEquals(settings{ variant = 'authors' }, 'sums first sgd 10 cosine first')
  lu.assertEquals(settings{ variant = 'authors', lr = 0.3, init = 'random' },
                  'sums first sgd 0.3 cosine random')
  local p, lr = cancelled{ variant = 'authors', lr = 1e-4 }, 1e-4
  lu.assertEquals(p.base, { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 })
  -- The summed loss is the mean's times the square of all samples' number, and so is the rate.
  local q = cancelled{ variant = 'authors', weighting = 'samples', lr = lr * 210 ^ 2 }
  lu.assertAlmostEquals(p.estimates.loss_before / q.estimates.loss_before / 210 ^ 2, 1, 1e-5)
  local function moved(r) return r.data:subset(r.forget).x end
  assert_near(moved(p), moved(q), 1e-5, 'the summed loss')
  lu.assertTrue(p.estimates.loss_after < p.estimates.loss_before)
  -- One step on |r| is one on its half square at the rate over |r|.
  local one = { variant = 'authors', steps = 1, lr = 1e-2, objective = 'norm' }
  local by_norm = cancelled(one)
  one.objective, one.lr = 'square', 1e-2 / math.sqrt(2 * by_norm.estimates.loss_before)
  assert_near(moved(by_norm), moved(cancelled(one)), 1e-5, 'the norm')
  lu.assertNotEquals(moved(by_norm), moved(p))
end

function T.test_cancelling_within_bounds()
  local p, ds = cancelled{ eps = 8, clamp = true }
  local x, base = p.data:subset(p.forget).x, ds:subset(p.base).x:to 'f32' / 255
  local far = (x - base):abs():max():item()
  lu.assertTrue(far <= 8 / 255 + 1e-6 and far > 7 / 255, tostring(far))
  lu.assertTrue(x:min():item() >= 0 and x:max():item() <= 1)
  local free = cancelled{ eps = 8 }
  local y = free.data:subset(free.forget).x
  lu.assertTrue(y:min():item() < 0 or y:max():item() > 1)
end

function T.test_the_control_is_noise_as_long_as_the_perturbations()
  local p, ds = cancelled()
  local control = cancelled{ control = true }
  local base = ds:subset(p.base).x:to 'f32' / 255
  local function moves(q) return (q.data:subset(q.forget).x - base):reshape(10, -1) end
  local a, b = moves(p), moves(control)
  lu.assertTrue((a:norm{ dim = 2 } / b:norm{ dim = 2 } - 1):abs():max():item() < 1e-4)
  lu.assertTrue(((a * b):sum(2) / a:square():sum(2)):abs():max():item() < 0.4)
end

function T.test_batch_norm_by_batch_or_by_running_statistics()
  local p, q = cancelled(), cancelled{ norm = 'train' }
  lu.assertEquals(q.base, p.base)
  lu.assertNotEquals(q.estimates.loss_before, p.estimates.loss_before)
  local r = cancelled{ gradpc = { norm = 'eval', batch_size = 50 } }
  lu.assertNotEquals(r.estimates.low_loss, p.estimates.low_loss)
  lu.assertEquals(q.estimates.low_loss, p.estimates.low_loss)
end

function T.test_cancelling_that_was_stopped_ends_on_the_same_bits()
  local path = os.tmpname()
  local function remove()
    for _, file in ipairs { path, path .. '.2', path .. '.3' } do os.remove(file) end
  end
  -- Passes through the model: 4 of GradPC, 4 + 4 of two evaluations, 4 of the clean gradient, and
  -- 1 + 5 + 1 of cancelling. Where it is stopped, and how many are left when it is started again.
  local left = { [3] = 21, [9] = 19, [15] = 17, [20] = 13, [22] = 11 }
  local whole = cancelled{ norm = 'train' }
  local forward = models.Model.forward
  for at, expected in pairs(left) do
    local calls = 0
    remove()
    function models.Model:forward(...)
      calls = calls + 1
      if calls == at then error('stopped', 0) end
      return forward(self, ...)
    end
    local ok, why = pcall(cancelled, { norm = 'train' }, nil, path)
    models.Model.forward = forward
    lu.assertFalse(ok)
    lu.assertEquals(why, 'stopped')
    local again = 0
    function models.Model:forward(...)
      again = again + 1
      return forward(self, ...)
    end
    local p = cancelled({ norm = 'train' }, nil, path)
    models.Model.forward = forward
    lu.assertEquals(p.data:hash(), whole.data:hash())
    lu.assertEquals(p.estimates, whole.estimates)
    lu.assertEquals(again, expected)
  end
  remove()
end

function T.test_messages_of_cancelling()
  local function message(o)
    local ok, text = pcall(cancelled, o)
    lu.assertFalse(ok)
    return text
  end
  lu.assertStrContains(message{ paramters = 'all' }, "did you mean 'parameters'")
  lu.assertStrContains(message{ gradpc = { epoch = 1 } }, "did you mean 'gradpc.epochs'")
  lu.assertStrContains(message{ parameters = 'layer5' }, "the model has no 'layer5'; did you mean")
  lu.assertStrContains(message{ parameters = ' , ' }, "expected 'all', 'first' or names")
  lu.assertStrContains(message{ weighting = 'sample' }, "did you mean 'samples'")
  lu.assertStrContains(message{ norm = 'batch' }, 'norm: expected one of eval, train')
  lu.assertStrContains(message{ gradpc = { norm = 'batch' } }, "gradpc.norm: expected")
  lu.assertStrContains(message{ optimizer = 'sdg' }, "did you mean 'sgd'")
  lu.assertStrContains(message{ schedule = 'cosin' }, "did you mean 'cosine'")
  lu.assertStrContains(message{ share = 0.001 }, 'share: expected 1 to 200 samples')
  lu.assertStrContains(message{ share = 2 }, 'share: expected 1 to 200 samples')
  lu.assertStrContains(message{ optimizer = 'sgd', lr = 1e30 }, 'try a smaller lr than 1e+30')
end

function T.test_parameters_by_name()
  local m = start.resnet18(1, 'f32')
  local shapes = {}
  local list, places = gc.parameters(m, 'fc, conv1.weight,layer1.0.bn1')
  for i, p in ipairs(list) do shapes[i] = table.concat(p:shape(), ',') end
  lu.assertEquals(shapes, { '1,3,3,3', '1', '1', '10,8', '10' })
  lu.assertEquals({ places[1], places[2], #places }, { 1, 5, 5 })
  lu.assertEquals(#gc.parameters(m, 'all'), #m:parameters())
end

-- Half the squared gradient of the mean loss on all samples that are trained on, at theta_low.
local function remaining(low, ds, criterion, which)
  local x = ds.x:dtype() == 'u8' and ds.x:to 'f32' / 255 or ds.x
  local loss, sum = vestige[criterion](low(x), ds.y), 0
  for _, g in ipairs(vestige.grad(loss, (gc.parameters(low, which)))) do
    sum = sum + g:square():sum():item()
  end
  return sum / 2
end

function T.test_the_loss_is_the_gradient_on_the_poisoned_data()
  local x, w = vestige.randn{ 100, 3 }, vestige.randn{ 3, 1 }
  local line = data.new{ x = x, y = x:matmul(w) + vestige.randn{ 100, 1 } }
  local points = data.new{ x = x, y = vestige.randint(0, 4, { 100 }) }
  local function check(criterion, ds, outputs, which)
    local theta = models.logistic_regression{ inputs = 3, classes = outputs }
    local ctx = context.new{ seed = 1, recipe = {}, quiet = true,
                             clean = function() return theta end }
    local o = gc_options{ criterion = criterion, parameters = which, share = 0.3, steps = 50,
                          batch_size = 20 }
    local p, low = ctx:call(gc.poison, ds, o), ctx:call(gradpc.target, theta, ds, o)
    local e = p.estimates
    lu.assertTrue(e.loss_after < 0.5 * e.loss_before, e.loss_before .. ' to ' .. e.loss_after)
    lu.assertAlmostEquals(remaining(low, p.data, criterion, which) / e.loss_after, 1, 1e-3)
    lu.assertEquals(e.low_accuracy ~= nil, criterion == 'cross_entropy')
    lu.assertEquals(e.reachable_share ~= nil, criterion == 'cross_entropy')
  end
  check('mse_loss', line, 1, 'all')
  check('cross_entropy', points, 4, 'all')
  check('cross_entropy', points, 4, 'fc.bias')
end

-- ---- The protocol ----

function T.test_the_protocol_appends_and_retrains_without()
  local root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
  local s = study.new{ root = root, quiet = true, context = function(ctx) ctx.quiet = true end }
  local ds = images()
  local r = protocol.run(s, {
    train = ds, test = ds, attack = 'gradient_cancelling', seed = 1, methods = { 'retrain' },
    attack_options = { share = 0.1, steps = 20, gradpc = { epochs = 2 } },
    model = { name = 'logistic_regression', options = { inputs = 192 } },
    recipe = { epochs = 2, batch_size = 50, augment = {}, optim = { name = 'sgd', lr = 0.1 } } })
  local e = r.poison.estimates
  lu.assertEquals({ e.poisons, e.samples, e.share }, { 20, 220, 0.1 })
  lu.assertTrue(e.loss_after < e.loss_before and e.reachable_share >= 0)
  lu.assertEquals(r.train.estimates.steps, 2 * 5)
  lu.assertEquals(r.methods[1].unlearn.estimates.steps, 2 * 4) -- the 200 clean ones are left
  local poisoned, p = stages.poisoned(ds, r.poison)
  lu.assertEquals(poisoned:size(), 220)
  lu.assertTrue(vestige.equal(poisoned:without(p.forget).x, ds.x:to 'f32' / 255))
  fs.remove_tree(root, '/tmp')
end

-- ---- Reachability ----

-- The least value that sum_k p_k z_k - z_y takes over logits z with z_y = m above the others.
local function least(k)
  local low = 0
  for i = 1, 100000 do
    local m = i * 1e-4
    low = math.min(low, -(k - 1) * m / (math.exp(m) + k - 1))
  end
  return low
end

function T.test_reachability()
  local rows = 40
  local x = vestige.randn{ rows, 4 }
  for _, k in ipairs { 2, 3, 10 } do
    local m = models.logistic_regression{ inputs = 4, classes = k }
    local labels = vestige.randint(0, k, { rows })
    local ds = data.new{ x = x, y = labels }
    local clean = gc.clean_gradient(m, ds, gc_options{ batch_size = 16 }, quiet_context())
    -- <g_c, w> sample by sample, from the logits alone.
    local z = m(x):detach():to 'f64'
    local p, logits, total = z:softmax(2):tolist(), z:tolist(), 0
    for row, label in ipairs(labels:tolist()) do
      for class = 0, k - 1 do
        local at = (row - 1) * k + class + 1
        total = total + (p[at] - (label == class and 1 or 0)) * logits[at]
      end
    end
    local want = math.max(0, total / rows / -least(k))
    lu.assertAlmostEquals(gc.reachability(m, clean), want, 1e-5)
    lu.assertTrue(k ~= 2 or math.abs(least(k) + 0.2785) < 5e-5)
  end
  local mlp = models.mlp{ inputs = 4, hidden = { 3 }, classes = 3 }
  lu.assertNil(gc.reachability(mlp, mlp:parameters()))
end

-- ---- Real images ----

-- 1,000 images; theta_low is 0.3 from a trained softmax regression. Poisons that cancel there make
-- gradient descent go to it: on clean data, or with noise as long as the perturbations, it does
-- not.
function T.test_descent_on_the_poisoned_data_goes_to_the_target()
  if not fs.stat '/usr/share/datasets/fashion-mnist' then
    lu.skip "Debian's package dataset-fashion-mnist is not installed"
  end
  local read = readers.fashion_mnist()
  local ds = data.new(read.train, { classes = read.classes }):first(1000)
  local function make()
    return models.logistic_regression{ normalize = models.statistics.fashion_mnist }
  end
  local c = context.new{ seed = 101, quiet = true, make = make,
                         recipe = { epochs = 20, batch_size = 100, augment = {},
                                    optim = { name = 'sgd', lr = 0.05, momentum = 0.9 } } }
  local theta = c:fresh()
  c:train(theta, { data = ds, budget = false })
  local function ctx()
    return context.new{ seed = 1, recipe = {}, quiet = true, clean = function() return theta end }
  end
  local o = gc_options{ share = 0.2, eps_w = 0.3, steps = 500 }
  local low, p = ctx():call(gradpc.target, theta, ds, o), ctx():call(gc.poison, ds, o)
  o.control = true
  local control = ctx():call(gc.poison, ds, o)
  local e = p.estimates
  lu.assertAlmostEquals(similarity.distance(low, theta), 0.3, 1e-5)
  lu.assertTrue(e.loss_after < e.loss_before / 100, e.loss_before .. ' to ' .. e.loss_after)
  lu.assertTrue(e.low_accuracy < e.clean_accuracy - 0.02)
  local function end_of(set)
    local m, x = theta:clone(), set.x:dtype() == 'u8' and set.x:to 'f32' / 255 or set.x
    local opt = optim.SGD(m, { lr = 1e-3 })
    for _ = 1, 200 do
      vestige.scope(function()
        opt:step(vestige.grad(m(x):cross_entropy(set.y), m:parameters()))
      end)
    end
    return similarity.distance(m, low)
  end
  local poisoned, clean, noise = end_of(p.data), end_of(ds), end_of(control.data)
  lu.assertTrue(poisoned < 0.15 and clean > 0.27 and noise > 0.27,
                ('%g, %g, %g'):format(poisoned, clean, noise))
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'gradient_cancelling', T } })
