-- One step of full-width ResNet-18 against PyTorch's, from the file of compare.py:
-- vestige tests/golden/compare.lua WIDTH FILE. Errors are |ours - f64| / |f64|, a tensor at a time.
-- Fails when one in f64 is over 1e-9. Those in f32 are told: where an input of a relu is within
-- rounding of 0, the side it falls on moves gradients by up to 1e-2, in PyTorch as in ours.
local models = require 'vestige.models'
local vestige = require 'vestige'

local width, path = tonumber(arg[1]), arg[2]
local model = models.resnet18{ width = width }
local layout = {}
for name in pairs(model:layouts()) do
  for _, kind in ipairs { 'param/', 'f32/grad/', 'f64/grad/' } do layout[kind .. name] = 'nchw' end
end
layout.x = 'nchw'
local golden = vestige.load(path, { layout = layout })

local function error_of(ours, exact)
  return ((ours:to 'f64' - exact):norm() / exact:norm()):item()
end

-- name -> error, of the loss and every gradient.
local function step(dtype)
  local errors = {}
  local m = models.resnet18{ width = width }:to(dtype)
  for name, p in m:named_parameters() do
    vestige.no_grad(p.copy_, p, golden['param/' .. name]:to(dtype))
  end
  vestige.scope(function()
    local loss = m(golden.x:to(dtype)):cross_entropy(golden.y)
    loss:backward()
    errors.loss = error_of(loss:detach():reshape{ 1 }, golden['f64/loss'])
    for name, p in m:named_parameters() do
      errors[name] = error_of(p.grad, golden['f64/grad/' .. name])
    end
  end)
  return errors
end

local f64, f32 = step 'f64', step 'f32'
local worst, ratio, sum, n = { '', 0 }, { '', 0 }, 0, 0
for name, e in pairs(f64) do
  if e > worst[2] then worst = { name, e } end
  local key = name == 'loss' and 'loss' or 'grad/' .. name
  local theirs = error_of(golden['f32/' .. key], golden['f64/' .. key])
  local r = f32[name] / math.max(theirs, 1e-12)
  if name ~= 'loss' and r > ratio[2] then ratio = { name, r } end
  if name ~= 'loss' then sum, n = sum + math.log(r), n + 1 end
end
print(('f64: loss %.1e, largest error of a gradient %.1e (%s)'):format(f64.loss, worst[2],
                                                                       worst[1]))
print(('f32: loss %.1e; our error of a gradient over PyTorch\'s: geometric mean %.2f, largest %.2f '
       .. '(%s)'):format(f32.loss, math.exp(sum / n), ratio[2], ratio[1]))
if worst[2] > 1e-9 or f64.loss > 1e-9 then os.exit(1) end
