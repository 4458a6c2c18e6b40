-- Training against PyTorch, from tests/golden/models.safetensors (made by make_models.py): one step
-- and 20 steps in f64 within 1e-9, and in f32 an error against f64 of at most 4 times PyTorch's
-- own.
local lu = require 'luaunit'
local vestige = require 'vestige'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local start = require 'tests.golden.start'

local STEPS = 20
local golden = vestige.load 'tests/golden/models.safetensors'

local sgd = { lr = 0.002, momentum = 0.9, weight_decay = 5e-4, nesterov = true }
local runs = {
  resnet18 = { size = 16, net = function() return models.resnet18{ width = 4 } end,
               optim = function(m) return optim.SGD(m, sgd) end },
  vgg = { size = 16, net = function() return models.vgg{ width = 4, hidden = 32, size = 16 } end,
          optim = function(m) return optim.SGD(m, sgd) end },
  mlp_adam = { size = 4, net = function() return models.mlp{ inputs = 48, hidden = { 32, 16 } } end,
               optim = function(m) return optim.Adam(m, { lr = 1e-3, weight_decay = 1e-2 }) end },
  mlp_adamw = { size = 4,
                net = function() return models.mlp{ inputs = 48, hidden = { 32, 16 } } end,
                optim = function(m) return optim.AdamW(m, { lr = 1e-3 }) end },
}

local function in_f64(t)
  return t:detach():to 'f64'
end

-- The loss and gradients of the first step and the parameters after STEPS, as f64 tensors.
local function train(run, seed, dtype)
  local model = run.net():to(dtype)
  for name, p in model:named_parameters() do
    vestige.no_grad(p.copy_, p, start.initial(name, p:shape(), seed, dtype))
  end
  local opt = run.optim(model)
  local out = { grad = {}, param = {} }
  for step = 0, STEPS - 1 do
    vestige.scope(function()
      local x, y = start.batch(step, run.size, seed, dtype)
      local loss = model(x):cross_entropy(y)
      model:zero_grad()
      loss:backward()
      if step == 0 then
        out.loss = vestige.keep(in_f64(loss):reshape{ 1 })
        for name, p in model:named_parameters() do
          out.grad[name] = vestige.keep(in_f64(p.grad):clone())
        end
      end
      opt:step()
    end)
  end
  for name, p in model:named_parameters() do out.param[name] = in_f64(p):clone() end
  return out
end

-- |a - b| / |b|
local function error_of(a, b)
  return vestige.scope(function()
    local norm = b:norm():item()
    return (a - b):norm():item() / math.max(norm, 1e-300)
  end)
end

for name, run in pairs(runs) do
  _G['Test_' .. name] = {
    test_f64_equals_pytorch = function()
      vestige.scope(function()
        local out = train(run, golden[name .. '/seeds']:tolist()[1], 'f64')
        lu.assertTrue(error_of(out.loss, golden[name .. '/loss']) < 1e-9)
        local count = 0
        for _, kind in ipairs { 'grad', 'param' } do
          for key, t in pairs(out[kind]) do
            local expected = start.from_file(golden[('%s/%s/%s'):format(name, kind, key)])
            local off = error_of(t, expected)
            lu.assertTrue(off < 1e-9, ('%s %s: off by %.3g'):format(kind, key, off))
            count = count + 1
          end
        end
        lu.assertTrue(count >= 12)
      end)
    end,
    test_f32_errs_at_most_four_times_pytorch = function()
      local logs, seeds = {}, golden[name .. '/seeds']:tolist()
      for i, seed in ipairs(seeds) do
        vestige.scope(function()
          local exact, got = train(run, seed, 'f64'), train(run, seed, 'f32')
          local function note(key, a, b)
            local theirs = golden[('%s/f32/%s'):format(name, key)]:tolist()[i]
            logs[key] = (logs[key] or 0)
                        + math.log(math.max(error_of(a, b), 1e-12) / math.max(theirs, 1e-12))
          end
          note('loss', got.loss, exact.loss)
          for _, kind in ipairs { 'grad', 'param' } do
            for key in pairs(exact[kind]) do
              note(kind .. '/' .. key, got[kind][key], exact[kind][key])
            end
          end
        end)
      end
      for key, sum in pairs(logs) do
        local ratio = math.exp(sum / #seeds)
        lu.assertTrue(ratio <= 4, ('%s: %.2f times the error of PyTorch'):format(key, ratio))
      end
    end,
  }
end

os.exit(lu.LuaUnit.run())
