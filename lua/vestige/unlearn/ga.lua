-- Gradient ascent on the forgotten samples (Graves et al., 2021; Jang et al., 2022; section 2,
-- C.2.3).
local fail = require 'vestige.fail'
local vestige = require 'vestige'

local M = {
  name = 'ga', needs = 'forget',
  defaults = { lr = 5e-6, momentum = 0.9, weight_decay = 5e-4, -- C.2.3, the rest "similar to GD"
               form = 'jang', epochs = 0 },
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
  local gone, again, sums, before = {}, ctx:fresh(), {}, nil
  for _, id in ipairs(forget:ids()) do gone[id] = true end
  for name, p in again:named_parameters() do
    sums[name] = vestige.zeros(p:shape(), { dtype = p:dtype() }):keep()
  end
  local function end_step()
    if not before then return end
    vestige.scope(vestige.no_grad, function()
      for name, p in again:named_parameters() do
        sums[name]:add_(p - before[name])
        before[name]:release()
      end
    end)
    before = nil
  end
  local function begin_step(ids)
    for _, id in ipairs(ids) do
      if gone[id] then
        before = {}
        for name, p in again:named_parameters() do before[name] = p:detach():clone():keep() end
        return
      end
    end
  end
  ctx:train(again, { data = ctx.full, budget = false,
                     objective = function(net, batches)
    end_step()
    local b = batches.data
    begin_step(b.id:tolist())
    local z = net(b.x, b.noise)
    return z:cross_entropy(b.y), z, b.y
  end })
  end_step()
  vestige.no_grad(function()
    for name, p in model:named_parameters() do p:sub_(sums[name]) end
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
  elseif o.form == 'graves' then
    if ctx.budget ~= 0 then stored(model, forget, ctx) end
  else
    fail("ga: form: expected 'jang' or 'graves', got '%s'", tostring(o.form))
  end
  return model
end

return M
