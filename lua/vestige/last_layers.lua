-- The last K layers of a network, for EUk and CFk (Goel et al., 2022). Three published programs
-- mean three things by them:
--   modules  the last K convolutions and linear layers; batch norms met on the way move too, but
--            are not counted and not made anew. What is frozen keeps its weights, while its batch
--            norms go on counting (the method's authors)
--   split    the same layers, of which all parts are made anew, batch norms too; what comes before
--            runs in evaluation mode, so nothing in it moves (corrective-unlearning-bench)
--   stage    the last stage before the head, put back to its initial weights; the head stays as it
--            is (SCRUB's authors, layer4 of a ResNet)
local fail = require 'vestige.fail'
local init = require 'vestige.nn.initialise'
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = {}

--- last_layers.counts: the option, with the three meanings.
M.counts = options.one_of('modules', 'split', 'stage')

local counted = { Conv2d = true, Linear = true }

-- The layers from the K-th last that counts to the end.
local function tail(model, k)
  local layers, n = model:layers(), 0
  for i = #layers, 1, -1 do
    if counted[layers[i].module.class_name] then n = n + 1 end
    if n == k then
      local list = {}
      for j = i, #layers do list[#list + 1] = layers[j] end
      return list
    end
  end
  fail('last_layers: k: expected 1 to %d for this model, got %s', n, tostring(k))
end

-- The layers below the last child that has children of its own.
local function last_stage(model)
  local stage
  for name, m in model:named_modules() do
    if not name:find('.', 1, true) and #m:layers() > 0 then stage = name end
  end
  if not stage then fail "last_layers: counts = 'stage': the model has no stages" end
  local list = {}
  for _, layer in ipairs(model:layers()) do
    if layer.name:sub(1, #stage + 1) == stage .. '.' then list[#list + 1] = layer end
  end
  return list
end

--- last_layers.choose(model, o): the layers that move, a list of {name, module} in the model's
-- order. o: k, counts ('modules', 'split' or 'stage').
-- Errors: fewer layers than k.
function M.choose(model, o)
  if o.counts == 'stage' then return last_stage(model) end
  return tail(model, o.k)
end

-- ---- Made anew ----

-- As the method's authors do: He et al.'s normal weights, zero biases.
local function kaiming(module)
  if not counted[module.class_name] then return end
  init.kaiming_normal_(module.weight)
  if module.bias then init.constant_(module.bias, 0) end
end

-- As another model has them.
local function copy_from(model)
  local state = model:state_dict()
  return function(module, name)
    for key, t in pairs(module:state_dict()) do t:copy_(state[name .. '.' .. key]) end
  end
end

--- last_layers.reset(layers, o, ctx): makes the layers anew, in place: 'modules' draws He et al.'s
-- normal weights (2015) from ctx:rng 'unlearn'; 'split' and 'stage' take those of ctx:fresh().
function M.reset(layers, o, ctx)
  local again = o.counts == 'modules' and kaiming or copy_from(ctx:fresh())
  vestige.no_grad(vestige.with_generator, ctx:rng 'unlearn', function()
    for _, layer in ipairs(layers) do again(layer.module, layer.name) end
  end)
end

--- last_layers.train(model, layers, retain, o, ctx): trains these layers alone on the retained
-- samples, by the recipe's optimiser at the rate o.lr.
function M.train(model, layers, retain, o, ctx)
  local moves = {}
  for _, layer in ipairs(layers) do moves[layer.name] = true end
  local still = {}
  for _, layer in ipairs(model:layers()) do
    if not moves[layer.name] then still[#still + 1] = layer.module end
  end
  local was = {}
  for _, m in ipairs(still) do
    for _, p in m:named_parameters() do
      if p:requires_grad() then was[#was + 1] = p:requires_grad_(false) end
    end
  end
  local optim = {}
  for key, v in pairs(ctx.recipe.optim) do optim[key] = v end
  optim.lr = o.lr
  local function objective(net, batches)
    if o.counts == 'split' then
      for _, m in ipairs(still) do m:eval() end
    end
    local b = batches.retain
    local logits = net(b.x, b.noise)
    return logits:cross_entropy(b.y), logits, b.y
  end
  local ok, err = pcall(ctx.train, ctx, model, { parts = { retain = retain }, optim = optim,
                                                 objective = objective })
  for _, p in ipairs(was) do p:requires_grad_(true) end
  if not ok then error(err, 0) end
  return model
end

return M
