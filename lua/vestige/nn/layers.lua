-- The layers: PyTorch's names, arguments and defaults; images are N,H,W,C.
local vestige = require 'vestige'
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local init = require 'vestige.nn.initialise'
local class = require('vestige.nn.module').class

local M = {}

-- Checks the option table of a layer against its defaults.
local function options(name, given, defaults)
  local o = {}
  for k, v in pairs(defaults) do o[k] = v end
  for k, v in pairs(given or {}) do
    if defaults[k] == nil then
      fail("%s: unknown option '%s'%s", name, tostring(k), nearest.hint(tostring(k), defaults))
    end
    o[k] = v
  end
  return o
end

local function pair(v)
  if type(v) == 'table' then return v[1], v[2] end
  return v, v
end

--- nn.consume(x, f, ...): f(x, ...), and x's own handle is released: what the tape has not saved of
-- x is free at once instead of at the scope's end. For a module's own intermediates, which nobody
-- else holds. What f hands back as it is (an Identity, an operator in place) stays.
function M.consume(x, f, ...)
  local y = f(x, ...)
  if not rawequal(x, y) then vestige.release(x) end
  return y
end
local consume = M.consume

--- nn.parameter(tensor): a leaf that requires grad and outlives scopes.
function M.parameter(tensor)
  return tensor:detach():requires_grad_():keep()
end

--- nn.Linear(in_features, out_features, {bias=true}): y = x W' + b, W (out, in).
-- Initialised as PyTorch: uniform in +-1/sqrt(in_features).
-- Example:
-- > local nn = require 'vestige.nn'
-- > assert(nn.Linear(3, 2)(vestige.ones{5, 3}):size(2) == 2)
local Linear = class 'Linear'
M.Linear = Linear

function Linear:init(in_features, out_features, o)
  o = options('Linear', o, { bias = true })
  self.in_features, self.out_features = in_features, out_features
  self.weight = M.parameter(vestige.zeros{ out_features, in_features })
  init.kaiming_uniform_(self.weight, { a = math.sqrt(5) })
  if o.bias then
    self.bias = M.parameter(vestige.zeros{ out_features })
    init.uniform_(self.bias, 1 / math.sqrt(in_features))
  end
end

function Linear:forward(x)
  return vestige.linear(x, self.weight, self.bias)
end

function Linear:extra() return ('%d, %d'):format(self.in_features, self.out_features) end

--- nn.Conv2d(in_channels, out_channels, kernel_size, {stride=1, padding=0, dilation=1, groups=1,
-- bias=true}): x (N,H,W,C) to (N,H',W',out); weight (out, kh, kw, in/groups), in files
-- (out, in/groups, kh, kw).
local Conv2d = class 'Conv2d'
M.Conv2d = Conv2d
Conv2d.parameter_layout = { weight = 'nchw' }

function Conv2d:init(in_channels, out_channels, kernel_size, o)
  o = options('Conv2d', o, { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true })
  if in_channels % o.groups ~= 0 or out_channels % o.groups ~= 0 then
    fail('Conv2d: groups %d does not divide %d and %d channels', o.groups, in_channels,
         out_channels)
  end
  local kh, kw = pair(kernel_size)
  self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, { kh, kw }
  self.options = { stride = o.stride, padding = o.padding, dilation = o.dilation,
                   groups = o.groups }
  self.weight = M.parameter(vestige.zeros{ out_channels, kh, kw, in_channels / o.groups })
  init.kaiming_uniform_(self.weight, { a = math.sqrt(5) })
  if o.bias then
    self.bias = M.parameter(vestige.zeros{ out_channels })
    init.uniform_(self.bias, 1 / math.sqrt(in_channels / o.groups * kh * kw))
  end
end

function Conv2d:forward(x)
  return vestige.conv2d(x, self.weight, self.bias, self.options)
end

function Conv2d:extra()
  return ('%d, %d, kernel %dx%d'):format(self.in_channels, self.out_channels,
                                         self.kernel_size[1], self.kernel_size[2])
end

--- nn.BatchNorm2d(num_features, {eps=1e-5, momentum=0.1, affine=true}): normalises each channel of
-- x (..., C) over all others; running statistics in training mode as PyTorch.
local BatchNorm2d = class 'BatchNorm2d'
M.BatchNorm2d = BatchNorm2d

function BatchNorm2d:init(num_features, o)
  o = options('BatchNorm2d', o, { eps = 1e-5, momentum = 0.1, affine = true })
  self.num_features, self.eps, self.momentum = num_features, o.eps, o.momentum
  if o.affine then
    self.weight = M.parameter(vestige.ones{ num_features })
    self.bias = M.parameter(vestige.zeros{ num_features })
  end
  self:register_buffer('running_mean', vestige.zeros{ num_features })
  self:register_buffer('running_var', vestige.ones{ num_features })
  self:register_buffer('num_batches_tracked', vestige.zeros({}, { dtype = 'i64' }))
end

-- The operator, batch_norm or batch_norm_relu, on x with what this layer holds.
function BatchNorm2d:run(operator, x, residual)
  if self.training then
    vestige.no_grad(self.num_batches_tracked.add_, self.num_batches_tracked, 1)
  end
  local o = { training = self.training, momentum = self.momentum, eps = self.eps }
  if residual then
    return (operator(x, self.weight, self.bias, self.running_mean, self.running_var, residual, o))
  end
  return (operator(x, self.weight, self.bias, self.running_mean, self.running_var, o))
end

function BatchNorm2d:forward(x) return self:run(vestige.batch_norm, x) end

function BatchNorm2d:extra() return tostring(self.num_features) end

--- nn.norm_relu(x, norm, residual): relu(norm(x) + residual), or relu(norm(x)); where norm is a
-- BatchNorm2d, in one pass. For nn.consume, as it stands.
function M.norm_relu(x, norm, residual)
  if norm.forward == BatchNorm2d.forward then
    return norm:run(vestige.batch_norm_relu, x, residual)
  end
  local y = norm(x)
  if residual then y = y + residual end
  return vestige.relu(y)
end
local norm_relu = M.norm_relu

--- nn.LayerNorm(normalized_shape, {eps=1e-5, elementwise_affine=true, bias=true}): normalises x
-- over its last dimensions, of the size (or sizes) normalized_shape.
-- Example:
-- > local nn = require 'vestige.nn'
-- > assert(nn.LayerNorm(4)(vestige.ones{2, 4}):abs():sum():item() == 0)
local LayerNorm = class 'LayerNorm'
M.LayerNorm = LayerNorm

function LayerNorm:init(normalized_shape, o)
  o = options('LayerNorm', o, { eps = 1e-5, elementwise_affine = true, bias = true })
  if type(normalized_shape) == 'number' then normalized_shape = { normalized_shape } end
  self.normalized_shape, self.eps = normalized_shape, o.eps
  if o.elementwise_affine then
    self.weight = M.parameter(vestige.ones(normalized_shape))
    if o.bias then self.bias = M.parameter(vestige.zeros(normalized_shape)) end
  end
end

function LayerNorm:forward(x)
  return vestige.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
end

function LayerNorm:extra() return table.concat(self.normalized_shape, ', ') end

--- nn.Embedding(num_embeddings, embedding_dim): the rows of weight (num_embeddings, embedding_dim)
-- whose 0-based places a tensor of whole numbers lists. Initialised as PyTorch: N(0, 1).
-- Example:
-- > local nn = require 'vestige.nn'
-- > local ids = vestige.tensor({ { 0, 9 } }, { dtype = 'i64' })
-- > assert(nn.Embedding(10, 3)(ids):size(3) == 3)
local Embedding = class 'Embedding'
M.Embedding = Embedding

function Embedding:init(num_embeddings, embedding_dim)
  self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
  self.weight = M.parameter(vestige.zeros{ num_embeddings, embedding_dim })
  init.normal_(self.weight)
end

function Embedding:forward(ids)
  return vestige.embedding(ids, self.weight)
end

function Embedding:extra() return ('%d, %d'):format(self.num_embeddings, self.embedding_dim) end

--- nn.Dropout(p=0.5): zeroes elements with probability p in training and scales the rest.
local Dropout = class 'Dropout'
M.Dropout = Dropout

function Dropout:init(p)
  self.p = p or 0.5
  if not (self.p >= 0 and self.p <= 1) then
    fail('Dropout: p: expected 0 to 1, got %s', tostring(p))
  end
end

function Dropout:forward(x)
  return vestige.dropout(x, self.p, self.training)
end

function Dropout:extra() return tostring(self.p) end

-- Layers without parameters: a function of x and the options the layer was made with.
local function plain(name, defaults, positional, forward)
  local c = class(name, nil, 3)
  M[name] = c
  function c:init(...)
    local given, n = {}, select('#', ...)
    for i = 1, n do
      local v = select(i, ...)
      if i == n and type(v) == 'table' and v[1] == nil then
        for k, x in pairs(v) do given[k] = x end
      elseif positional[i] then
        given[positional[i]] = v
      else
        fail('%s: too many arguments', name)
      end
    end
    self.o = options(name, given, defaults)
  end
  function c:forward(x) return forward(x, self.o) end
  return c
end

--- nn.MaxPool2d(kernel_size, {stride=kernel_size, padding=0}).
plain('MaxPool2d', { kernel_size = 2, stride = false, padding = 0 }, { 'kernel_size', 'stride' },
      function(x, o)
        return vestige.max_pool2d(x, { kernel_size = o.kernel_size,
                                       stride = o.stride or o.kernel_size, padding = o.padding })
      end)
--- nn.AvgPool2d(kernel_size, {stride=kernel_size, padding=0}).
plain('AvgPool2d', { kernel_size = 2, stride = false, padding = 0 }, { 'kernel_size', 'stride' },
      function(x, o)
        return vestige.avg_pool2d(x, { kernel_size = o.kernel_size,
                                       stride = o.stride or o.kernel_size, padding = o.padding })
      end)
--- nn.AdaptiveAvgPool2d(output_size).
plain('AdaptiveAvgPool2d', { output_size = 1 }, { 'output_size' },
      function(x, o) return vestige.adaptive_avg_pool2d(x, o.output_size) end)
plain('Identity', {}, {}, function(x) return x end)
plain('ReLU', {}, {}, function(x) return vestige.relu(x) end)
plain('LeakyReLU', { negative_slope = 0.01 }, { 'negative_slope' },
      function(x, o) return vestige.leaky_relu(x, o.negative_slope) end)
plain('Sigmoid', {}, {}, function(x) return vestige.sigmoid(x) end)
plain('Tanh', {}, {}, function(x) return vestige.tanh(x) end)
plain('SiLU', {}, {}, function(x) return vestige.silu(x) end)
--- nn.GELU(approximate='none'): x times the normal distribution function of x, exactly, or by a
-- tanh with 'tanh'.
plain('GELU', { approximate = 'none' }, { 'approximate' },
      function(x, o) return vestige.gelu(x, o.approximate) end)
plain('Softplus', {}, {}, function(x) return vestige.softplus(x) end)

--- nn.Flatten(): all but the first dimension as one. An image (N,H,W,C) is flattened in the order
-- C,H,W, so that a Linear after it loads PyTorch's weights unchanged.
plain('Flatten', {}, {}, function(x)
  local s = x:shape()
  if #s == 4 and s[2] * s[3] > 1 then x = x:permute{ 1, 4, 2, 3 } end
  return x:reshape{ s[1], -1 }
end)

--- nn.Normalize(mean, std): (x - mean) / std per channel, with constants that are not saved: the
-- first layer of a model whose inputs are pixels in [0,1].
local Normalize = class 'Normalize'
M.Normalize = Normalize

function Normalize:init(mean, std)
  self:register_buffer('mean', vestige.tensor(mean), { persistent = false })
  self:register_buffer('std', vestige.tensor(std), { persistent = false })
end

function Normalize:forward(x) return (x - self.mean) / self.std end

--- nn.Sequential(a, b, ...): the modules one after the other, named 0, 1, ... as PyTorch.
-- A single list is taken as the modules; entries {name, module} give names. A BatchNorm2d that a
-- ReLU follows runs with it in one pass.
local Sequential = class 'Sequential'
M.Sequential = Sequential

function Sequential:init(...)
  local list = { ... }
  if #list == 1 and not list[1].forward then list = list[1] end
  rawset(self, '_order', {})
  for i, m in ipairs(list) do
    local name, child = tostring(i - 1), m
    if not m.forward then name, child = m[1], m[2] end
    self:add_module(name, child)
    self._order[i] = name
  end
end

local function call(x, layer) return layer(x) end

-- Iterates over f, module: the module's step is f(x, module).
function Sequential:steps()
  local i, order = 0, self._order
  return function()
    i = i + 1
    local layer, after = rawget(self, order[i] or ''), rawget(self, order[i + 1] or '')
    if layer and after and layer.forward == BatchNorm2d.forward
       and after.forward == M.ReLU.forward then
      i = i + 1
      return norm_relu, layer
    elseif layer then
      return call, layer
    end
  end
end

function Sequential:forward(x)
  for f, layer in self:steps() do x = f(x, layer) end
  return x
end

--- nn.through(x, sequential): sequential(x), and what lies between its modules is released as by
-- nn.consume: for modules that keep no handle of what they hand on. For nn.consume, as it stands.
function M.through(x, sequential)
  if not sequential.steps then return sequential(x) end -- another module in its place
  local y = x
  for f, layer in sequential:steps() do
    local z = f(y, layer)
    if not rawequal(y, x) and not rawequal(y, z) then vestige.release(y) end
    y = z
  end
  return y
end

--- nn.BasicBlock(in_channels, out_channels, stride): the residual block of ResNet-18 (He et al.,
-- 2016, Figure 2): relu(x + bn2(conv2(relu(bn1(conv1(x)))))), 3x3 convolutions; where the shape
-- changes a 1x1 convolution with batch norm, `downsample`, stands in place of x. Names as
-- torchvision's.
local BasicBlock = class 'BasicBlock'
M.BasicBlock = BasicBlock

function BasicBlock:init(in_channels, out_channels, stride)
  stride = stride or 1
  -- One statement each: Lua assigns a list from the right, and layers are kept in order.
  self.conv1 = Conv2d(in_channels, out_channels, 3, { stride = stride, padding = 1, bias = false })
  self.bn1 = BatchNorm2d(out_channels)
  self.conv2 = Conv2d(out_channels, out_channels, 3, { padding = 1, bias = false })
  self.bn2 = BatchNorm2d(out_channels)
  if stride ~= 1 or in_channels ~= out_channels then
    self.downsample = Sequential(
      Conv2d(in_channels, out_channels, 1, { stride = stride, bias = false }),
      BatchNorm2d(out_channels))
  end
end

function BasicBlock:forward(x)
  local y = consume(self.conv1(x), norm_relu, self.bn1)
  y = consume(y, self.conv2)
  local shortcut = self.downsample and M.through(x, self.downsample) or x
  y = consume(y, norm_relu, self.bn2, shortcut)
  if not rawequal(shortcut, x) then vestige.release(shortcut) end
  return y
end

return M
