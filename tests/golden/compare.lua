-- One step of a full-size network against PyTorch's, from the file of compare.py:
-- vestige tests/golden/compare.lua resnet18|gpt2-124m|gpt2-355m FILE.
-- Errors are |ours - f64| / |f64|, a tensor at a time. Fails when one in f64 is over 1e-9. Those in
-- f32 are told: where an input of a relu is within rounding of 0, the side it falls on moves
-- gradients by up to 1e-2, in PyTorch as in ours.
local models = require 'vestige.models'
local vestige = require 'vestige'

local name, path = arg[1], arg[2]
local function new()
  if name == 'resnet18' then return models.resnet18{ width = 64 } end
  return models.gpt2{ size = name:match '%-(.*)', dropout = 0 }
end

local layout = { x = name == 'resnet18' and 'nchw' or nil }
for key in pairs(new():layouts()) do
  layout['param/' .. key], layout['f64/' .. key] = 'nchw', 'nchw'
end
local golden = vestige.load(path, { layout = layout })

local function error_of(ours, exact)
  return ((ours:to 'f64' - exact):norm() / exact:norm()):item()
end

-- name -> error, of the loss and every gradient.
local function step(dtype)
  local errors, m = {}, new():to(dtype)
  for key, p in m:named_parameters() do
    vestige.no_grad(p.copy_, p, golden['param/' .. key]:to(dtype))
  end
  vestige.scope(function()
    local loss
    if golden.ids then
      loss = m:loss(golden.ids)
    else
      loss = m(golden.x:to(dtype)):cross_entropy(golden.y)
    end
    loss:backward()
    errors.loss = error_of(loss:detach():reshape{ 1 }, golden['f64/loss'])
    for key, p in m:named_parameters() do errors[key] = error_of(p.grad, golden['f64/' .. key]) end
  end)
  return errors
end

local f64, f32 = step 'f64', step 'f32'
local worst, ratio, sum, n = { '', 0 }, { '', 0 }, 0, 0
for key, e in pairs(f64) do
  if e > worst[2] then worst = { key, e } end
  if key ~= 'loss' then
    local r = f32[key] / math.max(golden['f32/' .. key]:item(), 1e-12)
    if r > ratio[2] then ratio = { key, r } end
    sum, n = sum + math.log(r), n + 1
  end
end
print(('f64: loss %.1e, largest error of a gradient %.1e (%s)'):format(f64.loss, worst[2],
                                                                       worst[1]))
print(('f32: loss %.1e; our error of a gradient over PyTorch\'s: geometric mean %.2f, largest %.2f '
       .. '(%s)'):format(f32.loss, math.exp(sum / n), ratio[2], ratio[1]))
if worst[2] > 1e-9 then os.exit(1) end
