-- vestige.models: the networks of the experiments. Images are N,H,W,C with pixels in [0,1]; the
-- option normalize = {mean=, std=} makes Normalize the first layer. Every model has features(x),
-- what stands before the last linear layer. Parameters are named as PyTorch names them.
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local nn = require 'vestige.nn'
local vestige = require 'vestige'

local M = {}

--- models.statistics: mean and standard deviation of each channel of known data sets.
M.statistics = {
  cifar10 = { mean = { 0.4914, 0.4822, 0.4465 }, std = { 0.2470, 0.2435, 0.2616 } },
  fashion_mnist = { mean = { 0.2860 }, std = { 0.3530 } },
}

--- models.statistics_of(ds, kind): {mean, std} of each channel for a data set of images: the
-- published ones of that kind (see data.open), or else those of the images, in [0,1].
function M.statistics_of(ds, kind)
  local known = M.statistics[kind]
  if known and #known.mean == ds.x:size(4) then return known end
  return vestige.scope(function()
    local x = ds.x:dtype() == 'u8' and ds.x:to 'f32' / 255 or ds.x
    return { mean = x:mean{ 1, 2, 3 }:tolist(), std = x:std{ dim = { 1, 2, 3 } }:tolist() }
  end)
end

local function options(name, given, defaults)
  local o = {}
  for k, v in pairs(defaults) do o[k] = v end
  for k, v in pairs(given or {}) do
    if defaults[k] == nil then
      fail("models.%s: unknown option '%s'%s", name, tostring(k),
           nearest.hint(tostring(k), defaults))
    end
    o[k] = v
  end
  return o
end

-- ---- What all models share: normalize, features, fc ----
local Model = nn.class 'Model'

function Model:setup(o)
  if o.normalize then self.normalize = nn.Normalize(o.normalize.mean, o.normalize.std) end
end

-- x as the layers see it; noise, in these units, is added here: Gaussian poisoning.
function Model:input(x, noise)
  if self.normalize then x = self.normalize(x) end
  if noise then x = x + noise end
  return x
end

--- model:forward(x, noise): the logits. noise: a tensor of x's shape that is added to the
-- normalised input, nil for none.
function Model:forward(x, noise)
  return self.fc(self:features(x, noise))
end

local function conv3(c, k, stride)
  return nn.Conv2d(c, k, 3, { stride = stride or 1, padding = 1, bias = false })
end

-- ---- ResNet ----
local ResNet18 = nn.class('ResNet18', Model)

function ResNet18:init(o)
  o = options('resnet18', o, { width = 64, channels = 3, classes = 10, normalize = false })
  local w = o.width
  self:setup(o)
  self.conv1 = conv3(o.channels, w)
  self.bn1 = nn.BatchNorm2d(w)
  for i, k in ipairs { w, 2 * w, 4 * w, 8 * w } do
    local c, stride = i == 1 and w or k / 2, i == 1 and 1 or 2
    self['layer' .. i] = nn.Sequential(nn.BasicBlock(c, k, stride), nn.BasicBlock(k, k, 1))
  end
  self.fc = nn.Linear(8 * w, o.classes)
end

--- model:maps(x, noise): what the last block gives, (N, h / 8, w / 8, 8 width).
function ResNet18:maps(x, noise)
  x = nn.consume(self.conv1(self:input(x, noise)), nn.norm_relu, self.bn1)
  for i = 1, 4 do x = nn.consume(x, nn.through, self['layer' .. i]) end
  return x
end

--- model:features(x, noise): the pooled features (N, 8 width).
function ResNet18:features(x, noise)
  return nn.consume(self:maps(x, noise), vestige.mean, { 2, 3 })
end

--- models.resnet18{width=64, channels=3, classes=10, normalize=nil}: ResNet-18 for small images:
-- a 3x3 first convolution of stride 1 and no max pooling (He et al., 2016, section 4.2's stem with
-- section 4.1's blocks). Names as torchvision's.
function M.resnet18(o) return ResNet18(o) end

-- ---- ResNet-9 ----
local ResNet9 = nn.class('ResNet9', Model)

local function conv_block(c, k, pool)
  local list = { conv3(c, k), nn.BatchNorm2d(k), nn.ReLU() }
  if pool then list[#list + 1] = nn.MaxPool2d(2) end
  return nn.Sequential(list)
end

function ResNet9:init(o)
  o = options('resnet9', o, { width = 64, channels = 3, classes = 10, normalize = false })
  local w = o.width
  self:setup(o)
  self.conv1 = conv_block(o.channels, w)
  self.conv2 = conv_block(w, 2 * w, true)
  self.res1 = nn.Sequential(conv_block(2 * w, 2 * w), conv_block(2 * w, 2 * w))
  self.conv3 = conv_block(2 * w, 4 * w, true)
  self.conv4 = conv_block(4 * w, 8 * w, true)
  self.res2 = nn.Sequential(conv_block(8 * w, 8 * w), conv_block(8 * w, 8 * w))
  self.fc = nn.Linear(8 * w, o.classes)
end

function ResNet9:features(x, noise)
  x = self.conv2(self.conv1(self:input(x, noise)))
  x = self.res1(x) + x
  x = self.conv4(self.conv3(x))
  x = self.res2(x) + x
  return x:amax{ 2, 3 }
end

--- models.resnet9{width=64, channels=3, classes=10, normalize=nil}: the nine-layer residual net of
-- fast CIFAR training, with global max pooling.
function M.resnet9(o) return ResNet9(o) end

-- ---- VGG-like, with Flatten ----
local VGG = nn.class('VGG', Model)

function VGG:init(o)
  o = options('vgg', o, { width = 16, channels = 3, classes = 10, size = 32, hidden = 128,
                          normalize = false })
  if o.size % 8 ~= 0 then fail('models.vgg: size: expected a multiple of 8, got %d', o.size) end
  self:setup(o)
  local list, c = {}, o.channels
  for i = 1, 3 do
    local k = o.width * 2 ^ (i - 1)
    for _, layer in ipairs { nn.Conv2d(c, k, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(2) } do
      list[#list + 1] = layer
    end
    c = k
  end
  self.convs = nn.Sequential(list)
  self.flatten = nn.Flatten()
  self.hidden = nn.Linear(c * (o.size / 8) ^ 2, o.hidden)
  self.fc = nn.Linear(o.hidden, o.classes)
end

function VGG:features(x, noise)
  return self.hidden(self.flatten(self.convs(self:input(x, noise)))):relu()
end

--- models.vgg{width=16, channels=3, classes=10, size=32, hidden=128, normalize=nil}: three
-- convolutions with pooling, then Flatten and two linear layers; no batch norm.
function M.vgg(o) return VGG(o) end

-- ---- Fully connected ----
local MLP = nn.class('MLP', Model)

function MLP:init(o)
  o = options('mlp', o, { inputs = 784, hidden = { 128 }, classes = 10, normalize = false })
  self:setup(o)
  self.flatten = nn.Flatten()
  local n = o.inputs
  local hidden = type(o.hidden) == 'table' and o.hidden or { o.hidden }
  self.count = #hidden
  for i, k in ipairs(hidden) do
    self['hidden' .. i] = nn.Linear(n, k)
    n = k
  end
  self.fc = nn.Linear(n, o.classes)
end

function MLP:features(x, noise)
  x = self.flatten(self:input(x, noise))
  for i = 1, self.count do x = self['hidden' .. i](x):relu() end
  return x
end

--- models.mlp{inputs=784, hidden={128}, classes=10, normalize=nil}: linear layers with relu.
function M.mlp(o) return MLP(o) end

--- models.logistic_regression{inputs=784, classes=10, normalize=nil}: one linear layer to logits.
function M.logistic_regression(o)
  o = options('logistic_regression', o, { inputs = 784, classes = 10, normalize = false })
  return MLP{ inputs = o.inputs, hidden = {}, classes = o.classes, normalize = o.normalize }
end

--- models.linear_regression{inputs=, outputs=1}: one linear layer.
function M.linear_regression(o)
  o = options('linear_regression', o, { inputs = 1, outputs = 1 })
  return MLP{ inputs = o.inputs, hidden = {}, classes = o.outputs }
end

--- models.gpt2{size='124m'|'355m', ...}: see vestige.models.gpt2.
function M.gpt2(o) return require('vestige.models.gpt2').new(o) end

--- models.make(name, o): a model by its name; an unknown name suggests the nearest.
function M.make(name, o)
  local f = M[name]
  if type(f) ~= 'function' or name == 'make' then
    fail("models: no model '%s'%s", tostring(name), nearest.hint(tostring(name), M))
  end
  return f(o)
end

local flat = { mlp = true, logistic_regression = true }

--- models.for_images(name, ds, o): the options of a model for the images and classes of a data set:
-- o's width and normalize, and what else it takes of the images' shape. A model of linear layers
-- has no width.
function M.for_images(name, ds, o)
  local h, w, c = ds.x:size(2), ds.x:size(3), ds.x:size(4)
  local t = { classes = #ds.classes, normalize = o.normalize }
  if flat[name] then
    t.inputs = h * w * c
  else
    t.width, t.channels = o.width, c
    if name == 'vgg' then t.size = h end
  end
  return t
end

M.Model = Model
return M
