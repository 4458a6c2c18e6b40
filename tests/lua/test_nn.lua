-- Modules: names, state, modes, sharing; layers against the operators; accumulated gradients.
local lu = require 'luaunit'
local models = require 'vestige.models'
local nn = require 'vestige.nn'
local optim = require 'vestige.optim'
local vestige = require 'vestige'

local T = {}

local function message_of(f, ...)
  local ok, text = pcall(f, ...)
  lu.assertFalse(ok)
  return text
end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return list
end

function T.test_names_in_order()
  local m = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                          nn.Linear(16, 2, { bias = false }))
  lu.assertEquals(names(m:named_parameters()), { '0.weight', '0.bias', '1.weight', '1.bias',
                                                 '4.weight' })
  lu.assertEquals(names(m:named_buffers()), { '1.running_mean', '1.running_var',
                                              '1.num_batches_tracked' })
  local state = m:state_dict()
  lu.assertEquals(state['1.num_batches_tracked']:dtype(), 'i64')
  lu.assertEquals(m:numel(), 4 * 27 + 4 + 4 + 4 + 32)
  lu.assertEquals(m(vestige.rand{ 5, 4, 4, 3 }):shape(), { 5, 2 })
  lu.assertStrContains(tostring(m), '(4): Linear(16, 2)')
  lu.assertStrContains(tostring(m:summary()), '152 numbers, 152 of them trained')
end

function T.test_resnet18_has_torchvisions_names_and_size()
  local m = models.resnet18{ width = 64 }
  lu.assertEquals(m:numel(), 11173962) -- the CIFAR form: 3x3 stem, 10 classes
  local state = m:state_dict()
  for _, name in ipairs { 'conv1.weight', 'bn1.running_var', 'layer1.0.conv1.weight',
                          'layer2.0.downsample.0.weight', 'layer4.1.bn2.bias', 'fc.bias' } do
    lu.assertNotNil(state[name], name)
  end
  lu.assertNil(state['layer1.0.downsample.0.weight'])
end

function T.test_modes()
  local m = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm2d(4))
  local x = vestige.rand{ 6, 4 }
  m:eval()
  lu.assertTrue(vestige.equal(m(x), m(x)))
  lu.assertEquals(m:state_dict()['2.num_batches_tracked']:item(), 0)
  m:train()
  lu.assertFalse(vestige.equal(m(x), m(x)))
  lu.assertEquals(m:state_dict()['2.num_batches_tracked']:item(), 2)
end

function T.test_requires_grad_by_pattern()
  local m = models.mlp{ inputs = 4, hidden = { 3 }, classes = 2 }
  m:requires_grad_(false, '^hidden')
  local opt = optim.SGD(m, { lr = 1 })
  lu.assertEquals(#opt:parameters(), 2)
  local before = m.hidden1.weight:clone()
  local loss = m(vestige.rand{ 5, 4 }):cross_entropy(vestige.randint(0, 2, { 5 }))
  opt:step(vestige.grad(loss, opt:parameters()))
  lu.assertTrue(vestige.equal(before, m.hidden1.weight))
  m:requires_grad_()
  lu.assertEquals(#optim.SGD(m, { lr = 1 }):parameters(), 4)
end

function T.test_a_parameter_shared_by_two_modules()
  local Tied = nn.class 'Tied'
  function Tied:init()
    self.a = nn.Linear(3, 3, { bias = false })
    self.b = nn.Linear(3, 3, { bias = false })
    self.b.weight = self.a.weight
  end
  function Tied:forward(x) return self.b(self.a(x):tanh()) end
  local m = Tied()
  lu.assertEquals(names(m:named_parameters()), { 'a.weight' })
  lu.assertEquals(m:numel(), 9)
  -- both uses add to its gradient, and one step moves both
  local x, w = vestige.rand{ 4, 3 }, m.a.weight
  local g = vestige.grad(m(x):sum(), w)
  local one, two = w:detach():clone():requires_grad_(), w:detach():clone():requires_grad_()
  local apart = vestige.grad(vestige.linear(vestige.linear(x, one):tanh(), two):sum(), { one, two })
  lu.assertTrue(vestige.allclose(g, apart[1] + apart[2], { rtol = 1e-6, atol = 1e-6 }))
  optim.SGD(m, { lr = 0.1 }):step{ g }
  lu.assertTrue(vestige.allclose(m.b.weight, one - 0.1 * g))
  -- a state has both names; a copy and a conversion keep them one tensor
  local state = m:state_dict()
  lu.assertTrue(vestige.equal(state['a.weight'], state['b.weight']))
  for _, other in ipairs { m:clone(), Tied():load_state_dict(state):to 'f64' } do
    lu.assertEquals(#other:parameters(), 1)
    vestige.no_grad(function() other.a.weight:zero_() end)
    lu.assertEquals(other.b.weight:abs():sum():item(), 0)
  end
  lu.assertTrue(m.a.weight:abs():sum():item() > 0)
end

function T.test_four_times_32_accumulated_equals_128()
  local m = models.vgg{ width = 4, size = 8, hidden = 8 }:to 'f64'
  local x = vestige.rand({ 128, 8, 8, 3 }, { dtype = 'f64' })
  local y = vestige.randint(0, 10, { 128 })
  m(x):cross_entropy(y):backward()
  local whole = {}
  for name, p in m:named_parameters() do whole[name] = p.grad:clone() end
  m:zero_grad()
  for i = 0, 3 do
    local part, labels = x:narrow(1, 32 * i + 1, 32), y:narrow(1, 32 * i + 1, 32)
    local loss = m(part):cross_entropy(labels) / 4
    loss:backward()
  end
  for name, p in m:named_parameters() do
    lu.assertTrue((p.grad - whole[name]):norm():item() <= 1e-12 * whole[name]:norm():item(), name)
  end
end

function T.test_flatten_is_in_pytorchs_order()
  local x = vestige.arange(0, 24):reshape(1, 2, 3, 4) -- N,H,W,C
  local flat = nn.Flatten()(x):tolist()
  lu.assertEquals({ flat[1], flat[2], flat[7] }, { 0, 4, 1 }) -- C,H,W: the first channel first
end

function T.test_normalize_is_not_saved()
  local m = models.mlp{ inputs = 4, hidden = {}, classes = 2,
                        normalize = { mean = { 0.5 }, std = { 0.25 } } }
  lu.assertEquals(#names(m:named_parameters()), 2)
  lu.assertNil(m:state_dict()['normalize.mean'])
  lu.assertEquals(m.normalize(vestige.tensor{ { 0.5 }, { 1 } }):tolist(), { 0, 2 })
end

function T.test_state_that_does_not_fit_changes_nothing()
  local m = models.mlp{ inputs = 4, hidden = { 3 }, classes = 2 }
  local before = m:clone()
  local state = models.mlp{ inputs = 4, hidden = { 3 }, classes = 2 }:state_dict()
  state['fc.weight'] = vestige.zeros{ 5, 5 }
  lu.assertStrContains(message_of(m.load_state_dict, m, state), 'expected shape (2,3), got (5,5)')
  state['fc.weight'] = nil
  lu.assertStrContains(message_of(m.load_state_dict, m, state), "'fc.weight' is missing")
  state['fc.weight'], state['fc.wieght'] = vestige.zeros{ 2, 3 }, vestige.zeros{ 2, 3 }
  lu.assertStrContains(message_of(m.load_state_dict, m, state), "did you mean 'fc.weight'")
  for name, p in m:named_parameters() do
    lu.assertTrue(vestige.equal(p, before:state_dict()[name]), name)
  end
end

function T.test_initialisers()
  local w = vestige.zeros{ 400, 300 }
  nn.init.kaiming_uniform_(w)
  local bound = math.sqrt(6 / 300)
  lu.assertTrue(w:abs():amax():item() <= bound)
  lu.assertAlmostEquals(w:std():item(), bound / math.sqrt(3), 2e-3)
  nn.init.kaiming_normal_(w)
  lu.assertAlmostEquals(w:std():item(), math.sqrt(2 / 300), 1e-3)
  nn.init.kaiming_normal_(w, { mode = 'fan_out' })
  lu.assertAlmostEquals(w:std():item(), math.sqrt(2 / 400), 1e-3)
  nn.init.xavier_uniform_(w)
  lu.assertAlmostEquals(w:std():item(), math.sqrt(6 / 700 / 3), 1e-3)
  lu.assertAlmostEquals(nn.init.constant_(w, 3):mean():item(), 3, 1e-6)
end

function T.test_intermediates_are_given_back()
  local m = models.resnet18{ width = 8 }:eval()
  local x = vestige.rand{ 64, 32, 32, 3 }
  local function peak(f)
    vestige.scope(f)
    collectgarbage()
    collectgarbage()
    local before = vestige.memory().live
    vestige.reset_peak()
    vestige.scope(f)
    return vestige.memory().peak - before
  end
  local one = 64 * 32 * 32 * 8 * 4 -- bytes of the first layers' images
  lu.assertTrue(peak(function() vestige.no_grad(m, x) end) < 6 * one)
  local y = nn.consume(vestige.ones{ 3 }, vestige.mul, 2)
  lu.assertEquals(y:tolist(), { 2, 2, 2 })
end

function T.test_layers_may_be_replaced_by_identities()
  local m = models.resnet18{ width = 4 }
  m.bn1, m.layer4 = nn.Identity(), nn.Identity()
  m.fc = nn.Linear(16, 10)
  local block = rawget(m.layer2, '0')
  block.bn1, block.bn2 = nn.Identity(), nn.Identity()
  local x, y = vestige.rand{ 2, 16, 16, 3 }, vestige.randint(0, 10, { 2 })
  local g = vestige.grad(m(x):cross_entropy(y), m.conv1.weight)
  lu.assertTrue(g:norm():item() > 0)
  local same = nn.BasicBlock(4, 4)
  same.downsample = nn.Identity() -- hands back the block's input, which is the caller's
  local images = vestige.rand{ 1, 4, 4, 4 }
  lu.assertEquals(same(images):shape(), { 1, 4, 4, 4 })
  lu.assertTrue(images:alive())
end

function T.test_help_of_layers()
  local help = require 'vestige.help'
  lu.assertStrContains(help.text(nn.BasicBlock), 'the residual block of ResNet-18')
  lu.assertStrContains(help.text(nn.MaxPool2d), 'kernel_size')
  lu.assertStrContains(help.text 'vestige.nn', 'nn.Linear')
  lu.assertStrContains(help.text 'gaussian', 'eps2 = 0.32')
end

function T.test_functional_and_messages()
  lu.assertEquals(nn.functional.relu(vestige.tensor{ -1, 2 }):tolist(), { 0, 2 })
  lu.assertStrContains(message_of(nn.Conv2d, 3, 4, 3, { paddding = 1 }), "did you mean 'padding'")
  lu.assertStrContains(message_of(nn.Conv2d, 3, 4, 3, { groups = 2 }), 'groups 2 does not divide')
  lu.assertStrContains(message_of(nn.Dropout, 2), 'expected 0 to 1')
  lu.assertStrContains(message_of(models.make, 'resnet81'), "'resnet18'")
  lu.assertStrContains(message_of(nn.Linear(3, 2), vestige.rand{ 2, 4 }), 'linear: ')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'nn', T } })
