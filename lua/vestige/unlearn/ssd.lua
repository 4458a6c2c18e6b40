-- Selective synaptic dampening (Foster et al., 2024; in the paper's later version).
local vestige = require 'vestige'

local M = {
  name = 'ssd', needs = 'forget full',
  defaults = { alpha = 10, lambda = 1, batch_size = 128 }, -- the authors', ResNet-18 on CIFAR
  grid = { alpha = { 1, 10, 50, 100 }, lambda = { 0.5, 1, 5 } },
}

-- Sums of squared gradients by part and parameter, as a state that a checkpoint can hold.
local function new_sums(model)
  local state = {}
  for _, part in ipairs { 'forget', 'full' } do
    for name, p in model:named_parameters() do
      state[part .. '.' .. name] = vestige.zeros(p:shape(), { dtype = p:dtype() }):keep()
    end
    state[part .. '.batches'] = vestige.zeros({}, { dtype = 'i64' }):keep()
  end
  return { state = state, state_dict = function(self) return self.state end,
           load_state_dict = function(self, given)
    for key, t in pairs(self.state) do t:copy_(given[key]) end
  end }
end

-- The mean over batches of the square of a batch's mean gradient, in evaluation mode: the diagonal
-- of the Fisher information as the authors estimate it, which depends on the batch size.
local function importances(model, forget, full, o, ctx)
  local sums, params, names = new_sums(model), {}, {}
  for name, p in model:named_parameters() do
    params[#params + 1], names[#names + 1] = p, name
  end
  local parts = { { 'forget', forget:batches(o.batch_size) },
                  { 'full', full:batches(o.batch_size) } }
  local counts = { math.ceil(forget:size() / o.batch_size), math.ceil(full:size() / o.batch_size) }
  model:eval()
  local at = 0 -- batches drawn so far: a run that goes on draws those before once more
  local function draw(step)
    local b, part
    while at < step do
      at = at + 1
      part = parts[at <= counts[1] and 1 or 2]
      b = part[2]()
    end
    return b, part[1]
  end
  for step in ctx:steps(counts[1] + counts[2], { states = { sums = sums } }) do
    local b, part = draw(step)
    local grads = vestige.grad(model(b.x, b.noise):cross_entropy(b.y), params,
                               { allow_unused = true })
    vestige.no_grad(function()
      for i, g in ipairs(grads) do
        if g then sums.state[part .. '.' .. names[i]]:add_(g:square()) end
      end
      sums.state[part .. '.batches']:add_(1)
    end)
  end
  for _, part in ipairs(parts) do part[2]:close() end
  return sums.state
end

--- unlearn ssd: without training, weights that matter alpha times as much to the forgotten samples
-- as to all samples are multiplied by min(1, lambda I_full / I_forget), I the mean squared
-- gradient. A budget that ends before every batch was seen leaves the importances of those seen;
-- one that ends before any of all samples was leaves the model as it is.
function M.unlearn(model, _, forget, o, ctx)
  local was_training = model.training
  local sums = importances(model, forget, ctx.full, o, ctx)
  model:train(was_training)
  local n, m = sums['forget.batches']:item(), sums['full.batches']:item()
  if n == 0 or m == 0 then return model end
  vestige.scope(vestige.no_grad, function()
    for name, p in model:named_parameters() do
      local own, all = sums['forget.' .. name] / n, sums['full.' .. name] / m
      local dampened = p * (all * o.lambda / own):clamp{ max = 1 }
      p:copy_(vestige.where(own:gt(all * o.alpha), dampened, p))
    end
  end)
  return model
end

return M
