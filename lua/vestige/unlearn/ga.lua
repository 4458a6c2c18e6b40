-- Gradient ascent on the forgotten samples (Graves et al., 2021; Jang et al., 2022; section 2,
-- C.2.3).
local fail = require 'vestige.fail'
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = {
  name = 'ga', needs = 'forget',
  defaults = { lr = 5e-6, momentum = 0.9, weight_decay = 5e-4, -- C.2.3, the rest "similar to GD"
               form = options.one_of('jang', 'graves'), epochs = 0 },
  grid = { lr = { 5e-6, 1e-5 } },
}

local function ascend(model, forget, o, ctx)
  ctx:train(model, { parts = { forget = { data = forget, weight = -1 } },
                     steps = o.epochs > 0
                             and o.epochs * math.ceil(forget:size() / ctx.recipe.batch_size) or nil,
                     optim = { name = 'sgd', lr = o.lr, momentum = o.momentum,
                               weight_decay = o.weight_decay } })
end

-- The model's training once more, noting by how much the steps moved it whose batches held
-- forgotten samples. Only parameters count: batch norm's statistics stay as they are.
local function stored(model, forget, ctx)
  if not ctx.full then fail "ga: form = 'graves': needs ctx.full, the training data as it was" end
  local gone, again, moved, before = {}, ctx:fresh(), {}, nil
  for _, id in ipairs(forget:ids()) do gone[id] = true end
  for name, p in again:named_parameters() do
    moved[name] = vestige.zeros(p:shape(), { dtype = p:dtype() }):keep()
  end
  local function holds_forgotten(ids)
    for _, id in ipairs(ids) do
      if gone[id] then return true end
    end
    return false
  end
  ctx:train(again, {
    data = ctx.full, budget = false,
    objective = function(net, batches)
      local b = batches.data
      before = holds_forgotten(b.id:tolist()) and {}
      for name, p in again:named_parameters() do
        if before then before[name] = p:detach():clone() end
      end
      local z = net(b.x, b.noise)
      return z:cross_entropy(b.y), z, b.y
    end,
    on_step = function()
      if not before then return end
      vestige.no_grad(function()
        for name, p in again:named_parameters() do moved[name]:add_(p - before[name]) end
      end)
    end,
    states = { moved = {
      state_dict = function() return moved end,
      load_state_dict = function(_, state)
        for name, t in pairs(moved) do t:copy_(state[name]) end
      end,
    } },
  })
  vestige.no_grad(function()
    for name, p in model:named_parameters() do p:sub_(moved[name]) end
  end)
end

--- unlearn ga: theta <- theta + eta g(theta), g a mini-batch gradient of the loss on the forgotten
-- samples (Jang et al.), for as many steps as the budget has, or epochs passes over the forget set.
-- form = 'graves': all updates of the training in whose batch there was a forgotten sample are
-- taken back at once. They are found by training once more, which costs a whole training; the
-- paper calls storing them infeasible for large models.
function M.unlearn(model, _, forget, o, ctx)
  if o.form == 'jang' then
    ascend(model, forget, o, ctx)
  elseif ctx.budget ~= 0 then
    stored(model, forget, ctx)
  end
  return model
end

return M
