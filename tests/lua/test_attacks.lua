-- Attacks: losses against PyTorch (tests/golden/make_attacks.py), what they change and by how much.
local lu = require 'luaunit'
local badnets = require 'vestige.attacks.badnets'
local context = require 'vestige.context'
local data = require 'vestige.data'
local gm = require 'vestige.attacks.gradient_matching'
local models = require 'vestige.models'
local plugins = require 'vestige.plugins'
local vestige = require 'vestige'
local start = require 'tests.golden.start'

local T = {}

local golden = vestige.load 'tests/golden/attacks.safetensors'
local Y_ADV = 3

local function model(...) return start.resnet18(...):eval() end

local function batch(k) return start.batch(k, 8, 1, 'f64') end

local function target_of(m)
  return gm.gradient(m, (batch(1)):narrow(1, 1, 1), vestige.tensor({ Y_ADV }, { dtype = 'i64' }))
end

-- ---- Gradient matching ----

-- Images changed by f, of the golden data's case.
local function check_phi(case, f)
  local m = model(1)
  local x, y = batch(0)
  x:requires_grad_()
  local phi = gm.loss(m, target_of(m), f(x), y)
  lu.assertAlmostEquals(phi:item(), golden[('gradient_matching/%sphi'):format(case)]:item(), 1e-12)
  local g = vestige.grad(phi, x)
  local want = start.from_file(golden[('gradient_matching/%sx'):format(case)])
  lu.assertTrue((g - want):norm():item() < 1e-9 * want:norm():item())
end

local function f64(numbers) return vestige.tensor(numbers, { dtype = 'f64' }) end

function T.test_phi_and_its_gradient_are_pytorchs()
  check_phi('', function(x) return x end)
end

function T.test_phi_of_images_that_are_moved_is_pytorchs()
  local at = f64{ 0, 1, 2, 3, 4, 5, 6, 7 }:reshape(8, 1) / 7
  local side = f64{ 1, -1, 1, -1, 1, -1, 1, -1 }:reshape(8, 1)
  local dx, dy = at * 1.8 - 0.9, 0.55 - at * 1.1
  check_phi('zero_', function(x) return gm.moved(x, dx, dy, side) end)
  check_phi('mean_', function(x) return gm.moved(x, dx, dy, side, f64{ 0.5, 0.4, 0.3 }) end)
end

local function options(o)
  local plain = { shift = 0, flip = false, restarts = 1, steps = 1 }
  for k, v in pairs(o or {}) do plain[k] = v end
  return plugins.options('attack', gm, plain)
end

local function new_context(seed)
  return context.new{ seed = seed or 1, recipe = {}, quiet = true }
end

-- One signed-Adam step: the rate times the sign, in normalised units; then ball and pixel range.
-- moved(x, draw, mean): what the images come through before the network.
local function check_step(more, moved)
  local std, mean = { 0.5, 0.25, 0.2 }, { 0.5, 0.4, 0.3 }
  local m = model(1, 'f64', { normalize = { mean = mean, std = std } })
  local x, y = batch(0)
  local target = target_of(m)
  local o = options{ eps = 16, lr = 0.4, batch_size = 8 }
  for k, v in pairs(more) do o[k] = v end
  local got = vestige.scope(function()
    local made = gm.brew(x, y, { m }, { target }, o, new_context())
    return made
  end)
  local bound = 16 / 255
  local stream = vestige.generator(1, 'brew')
  local noise = vestige.randn(x:shape(), { dtype = 'f64', generator = stream })
  local function project(p) return (x + p:clamp(-bound, bound)):clamp(0, 1) - x end
  local p = project(noise * bound)
  local at = (x + p):detach():requires_grad_()
  local function draw() return vestige.rand({ 8, 1 }, { generator = stream, dtype = 'f64' }) end
  local g = vestige.grad(gm.loss(m, target, moved(at, draw, f64(mean)), y), at)
  -- The schedule starts when floor(1 / 2.667) = 0 steps are over: a thousandth of the rate.
  local lr = 0.4 * 8 / 512 * 1e-3
  local want = x + project(p - g:sign() * f64(std) * lr)
  lu.assertTrue((got - want):abs():max():item() < 1e-10)
  lu.assertTrue((want - x - p):abs():max():item() > 1e-6)
end

function T.test_a_step_is_signed_adams()
  check_step({}, function(x) return x end)
end

-- Up to two pixels of eight each way: half of the image is 1, so up to a half.
function T.test_a_step_on_images_that_are_moved()
  for _, padding in ipairs { 'zero', 'mean' } do
    check_step({ shift = 2, flip = true, padding = padding }, function(x, draw, mean)
      local dx, dy = draw() - 0.5, draw() - 0.5
      local side = draw():lt(0.5):to 'f64' * 2 - 1
      return gm.moved(x, dx, dy, side, padding == 'mean' and mean or nil)
    end)
  end
end

-- Two models, two batches: the sign of the gradient of the mean of their phi, each batch with its
-- own cosines.
function T.test_ensembles_and_batches()
  local two = { model(1, 'f64'), model(2, 'f64') }
  local targets = { target_of(two[1]), target_of(two[2]) }
  local x, y = batch(0)
  local o = options{ eps = 16, lr = 0.4, batch_size = 4, ensemble = 2 }
  local got, phi = gm.brew(x, y, two, targets, o, new_context())
  local noise = vestige.randn(x:shape(), { dtype = 'f64',
                                           generator = vestige.generator(1, 'brew') })
  local p = (x + (noise * (16 / 255)):clamp(-16 / 255, 16 / 255)):clamp(0, 1) - x
  local signs, sum = {}, 0
  for k = 1, 2 do
    local at = (x + p):narrow(1, 4 * k - 3, 4):detach():requires_grad_()
    local labels = y:narrow(1, 4 * k - 3, 4)
    local loss = (gm.loss(two[1], targets[1], at, labels)
                  + gm.loss(two[2], targets[2], at, labels)) / 2
    signs[k], sum = vestige.grad(loss, at):sign(), sum + loss:item()
  end
  lu.assertAlmostEquals(phi, sum / 2, 1e-12)
  local step = got - (x + p)
  local inside = step:abs():gt(1e-9):to 'f64' -- where neither ball nor pixel range cut the step
  lu.assertTrue(inside:sum():item() > 100)
  lu.assertTrue(vestige.equal(step:sign() * inside, -vestige.cat(signs, 1) * inside))
end

-- Of three starts the one with the least loss at its last step is taken.
function T.test_restarts()
  local m = model(1, 'f64')
  local x, y = batch(0)
  local target, stream = target_of(m), vestige.generator(1, 'brew')
  local losses = {}
  for k = 1, 3 do
    local noise = vestige.randn(x:shape(), { dtype = 'f64', generator = stream })
    local p = (x + (noise * (16 / 255)):clamp(-16 / 255, 16 / 255)):clamp(0, 1) - x
    losses[k] = gm.loss(m, target, x + p, y):item()
  end
  local _, phi = gm.brew(x, y, { m }, { target }, options{ restarts = 3 }, new_context())
  lu.assertAlmostEquals(phi, math.min(unpack(losses)), 1e-12)
  lu.assertTrue(math.max(unpack(losses)) > phi + 1e-6)
end

function T.test_the_schedule()
  local seen = {}
  local brew = { o = { lr = 0.1, steps = 250, batch_size = 512, optimizer = 'signed_adam' },
                 x = vestige.zeros{ 600, 1 }, models = { 1, 2 } }
  for _, step in ipairs { 1, 93, 94, 156, 157, 218, 219, 250 } do
    seen[#seen + 1] = gm.rate(brew.o, step, 2)
  end
  lu.assertAlmostEquals(seen, { 0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005, 0.00005, 0.00005 }, 1e-12)
  brew.o.optimizer = 'adam'
  lu.assertEquals(gm.rate(brew.o, 250, 2), 0.1)
end

local classes = { 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j' }

local function images(n, seed, first_id)
  local g = vestige.generator(seed, 'images')
  return data.new({ x = vestige.randint(0, 256, { n, 8, 8, 3 }, { generator = g }):to 'u8',
                    y = vestige.randint(0, 10, { n }, { generator = g }) },
                  { classes = classes, first_id = first_id })
end

local function poison(o, seed, checkpoint)
  local train, test = images(200, 1), images(100, 2, 1000)
  local ctx = context.new{ seed = seed or 3, recipe = {}, quiet = true, test = test,
                           checkpoint = checkpoint, every = 0,
                           clean = function(i) return model(i, 'f32') end }
  return ctx:call(gm.poison, train, plugins.options('attack', gm, o)), train, test
end

function T.test_poisons_stay_in_the_ball_and_keep_their_labels()
  local o = { share = 0.03, steps = 4, restarts = 2, batch_size = 4, ensemble = 2, bits = 8 }
  local p, train, test = poison(o)
  lu.assertEquals(#p.forget, 6)
  local before, after = train:subset(p.forget), p.data:subset(p.forget)
  lu.assertTrue(vestige.equal(before.y, after.y))
  for _, y in ipairs(after.y:tolist()) do lu.assertEquals(y, p.y_adv) end
  lu.assertNotEquals(p.y_adv, p.target.y)
  lu.assertEquals(test:subset{ p.target.id }.y:item(), p.target.y)
  local moved = (after.x - before.x:to 'f32' / 255) * 255
  lu.assertTrue(moved:abs():max():item() <= 16 + 1e-4)
  lu.assertTrue(moved:abs():mean():item() > 4)
  lu.assertTrue((moved - moved:round()):abs():max():item() < 1e-3) -- 8 bits
  lu.assertTrue(after.x:min():item() >= 0 and after.x:max():item() <= 1)
  local rest = train:without(p.forget)
  lu.assertTrue((p.data:without(p.forget).x - rest.x:to 'f32' / 255):abs():max():item() < 1e-6)
  -- The same seed draws the same; another another.
  lu.assertEquals(poison(o).data:hash(), p.data:hash())
  lu.assertNotEquals(poison(o, 4).forget, p.forget)
end

function T.test_brewing_that_was_stopped_ends_on_the_same_bits()
  local path = os.tmpname()
  os.remove(path)
  local o = { share = 0.03, steps = 3, restarts = 2, batch_size = 4 }
  local whole = poison(o)
  local forward = models.Model.forward
  for at = 2, 12, 3 do -- of 13 passes through the model
    local calls = 0
    os.remove(path)
    function models.Model:forward(...)
      calls = calls + 1
      if calls == at then error('stopped', 0) end
      return forward(self, ...)
    end
    local ok = pcall(poison, o, nil, path)
    models.Model.forward = forward
    lu.assertFalse(ok)
    local again = poison(o, nil, path)
    lu.assertEquals({ again.data:hash(), again.estimates },
                    { whole.data:hash(), whole.estimates })
  end
  os.remove(path)
end

function T.test_brewing_lowers_phi()
  local function phi(steps, lr)
    return poison{ share = 0.03, steps = steps, restarts = 1, shift = 0, flip = false,
                   lr = lr }.estimates.phi
  end
  local long, short = phi(40, 20), phi(1, 0)
  lu.assertTrue(long < 0.8 * short, ('%g, %g'):format(long, short))
end

function T.test_classes_by_name_and_messages()
  local p = poison{ share = 0.02, steps = 1, restarts = 1, target_class = 'c', poison_class = 'f' }
  lu.assertEquals({ p.target.y, p.y_adv }, { 2, 5 })
  local function message(o)
    local ok, text = pcall(poison, o)
    lu.assertFalse(ok)
    return text
  end
  lu.assertStrContains(message{ target_class = 'z' }, "no class 'z'")
  lu.assertStrContains(message{ share = 0.9 }, 'images are more than the')
  lu.assertStrContains(message{ target_class = 'c', poison_class = 'c' }, 'are the same')
  lu.assertStrContains(message{ optimizer = 'sgd' }, 'one of signed_adam, adam')
end

-- ---- Label flip and BadNets ----

function T.test_features_collide()
  local fc = plugins.find('attacks', 'feature_collision')
  local train, test = images(200, 1), images(100, 2, 1000)
  local function collide(o, path, fail_at)
    local ctx = context.new{ seed = 3, recipe = {}, quiet = true, test = test, checkpoint = path,
                             every = 0, clean = function(i)
      local m, calls = model(i, 'f32'), 0
      local features = m.features
      function m.features(...)
        calls = calls + 1
        if calls == fail_at then error('stopped', 0) end
        return features(...)
      end
      return m
    end }
    return ctx:call(fc.poison, train, plugins.options('attack', fc, o))
  end
  local o = { share = 0.03, steps = 20, opacity = 0 }
  local p = collide(o)
  lu.assertEquals(#p.forget, 6)
  lu.assertTrue(p.estimates.distance_after < 0.7 * p.estimates.distance_before)
  local before, after = train:subset(p.forget), p.data:subset(p.forget)
  lu.assertTrue(vestige.equal(before.y, after.y))
  lu.assertTrue(after.x:min():item() >= 0 and after.x:max():item() <= 1)
  local rest = train:without(p.forget)
  lu.assertTrue((p.data:without(p.forget).x - rest.x:to 'f32' / 255):abs():max():item() < 1e-6)
  -- More of the pull back keeps images nearer to themselves.
  local function far(q)
    return (q.data:subset(q.forget).x - before.x:to 'f32' / 255):norm():item()
  end
  lu.assertTrue(far(collide{ share = 0.03, steps = 20, opacity = 0, beta = 50 }) < 0.8 * far(p))
  local path = os.tmpname()
  os.remove(path)
  lu.assertFalse((pcall(collide, o, path, 9)))
  lu.assertEquals(collide(o, path).data:hash(), p.data:hash())
  os.remove(path)
end

function T.test_label_flip()
  local flip, train = plugins.find('attacks', 'label_flip'), images(200, 1)
  local p = new_context():call(flip.poison, train, plugins.options('attack', flip, {}))
  lu.assertEquals(#p.forget, 20)
  local was, is = train:subset(p.forget).y:tolist(), p.data:subset(p.forget).y:tolist()
  for i = 1, 20 do lu.assertEquals(is[i], (was[i] + 1) % 10) end
  lu.assertEquals(p.data:without(p.forget):hash(), train:without(p.forget):hash())
end

function T.test_badnets()
  local train = images(200, 1)
  local p = new_context():call(badnets.poison, train,
                               plugins.options('attack', badnets, { share = 0.1, class = 4 }))
  lu.assertEquals(#p.forget, 20)
  local was, is = train:subset(p.forget), p.data:subset(p.forget)
  for i, y in ipairs(was.y:tolist()) do
    lu.assertNotEquals(y, 4)
    lu.assertEquals(is.y:tolist()[i], 4)
  end
  local corner = is.x:narrow(2, 6, 3):narrow(3, 6, 3)
  lu.assertEquals({ corner:min():item(), corner:max():item() }, { 255, 255 })
  lu.assertTrue(vestige.equal(is.x:narrow(2, 1, 5), was.x:narrow(2, 1, 5)))
  lu.assertTrue(vestige.equal(is.x:narrow(3, 1, 5), was.x:narrow(3, 1, 5)))
  lu.assertTrue(vestige.equal(badnets.trigger(was.x, { size = 3 }), is.x))
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'attacks', T } })
