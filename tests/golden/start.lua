-- Where the golden trainings begin: parameters, images and labels as make_models.py computes
-- them, from the Philox streams.
local ffi = require 'ffi'
local models = require 'vestige.models'
local vestige = require 'vestige'
local cases = require 'tests.ops.cases'

local M = {}

local function tensor(numbers, shape, dtype)
  local n = #numbers
  local data = ffi.new('double[?]', n)
  for i = 1, n do data[i - 1] = numbers[i] end
  return vestige.from_data(data, shape, 'f64'):to 'f32':to(dtype)
end

--- start.initial(name, shape, seed, dtype): a parameter's start as make_models.py computes it in
-- PyTorch's layout, brought to ours.
function M.initial(name, shape, seed, dtype)
  local file = shape
  if #shape == 4 then file = { shape[1], shape[4], shape[2], shape[3] } end
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  local u = cases.uniforms('init/' .. name, n, seed)
  if #shape > 1 then
    local bound = math.sqrt(3 / (n / shape[1]))
    for i = 1, n do u[i] = (u[i] * 2 - 1) * bound end
  else
    local norm = (('.' .. name):find('.bn', 1, true) and name:match 'weight$')
                 or name:find('downsample.1.weight', 1, true)
    for i = 1, n do u[i] = (u[i] * 2 - 1) * 0.1 + (norm and 1 or 0) end
  end
  local t = tensor(u, file, dtype)
  return #shape == 4 and t:permute{ 1, 3, 4, 2 } or t
end

--- start.resnet18(seed, dtype, o): the ResNet-18 of width 1 of make_unlearn.py; dtype: f64.
-- o: the model's other options.
function M.resnet18(seed, dtype, o)
  local given = { width = 1 }
  for k, v in pairs(o or {}) do given[k] = v end
  local m = models.resnet18(given):to(dtype or 'f64')
  for name, p in m:named_parameters() do
    vestige.no_grad(p.copy_, p, M.initial(name, p:shape(), seed, dtype or 'f64'))
  end
  return m
end

--- start.batch(step, size, seed, dtype): eight images and labels, as make_models.py has them.
function M.batch(step, size, seed, dtype)
  local u = cases.uniforms('x/' .. step, 8 * 3 * size * size, seed)
  local x = tensor(u, { 8, 3, size, size }, dtype):permute{ 1, 3, 4, 2 }
  local y = cases.uniforms('y/' .. step, 8, seed)
  for i = 1, 8 do y[i] = math.floor(y[i] * 10) end
  return x, vestige.tensor(y, { dtype = 'i64' })
end

--- start.from_file(t): a tensor as PyTorch wrote it, in our layout.
function M.from_file(t)
  return t:dim() == 4 and t:permute{ 1, 3, 4, 2 } or t
end

return M
