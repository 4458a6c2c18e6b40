-- SCRUB (Kurmanji et al., 2024; section 2, C.2.6): the model as it was teaches what it knows about
-- the retained samples, and the opposite of what it says about the forgotten ones.
local optim = require 'vestige.optim'
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = {
  name = 'scrub', needs = 'retain forget',
  defaults = {
    beta = 0.001, gamma = 0.99, -- C.2.6: see form; on the cross entropy
    alpha = options.maybe 'number', -- on KL; none: 0.999 (C.2.6), or the variant's
    -- 'authors': alpha 0.001, as in their program for large models
    variant = options.one_of('paper', 'authors'),
    form = options.one_of('alternate', 'joint'), -- 'joint': the objective of section 2 as it stands
    -- The authors':
    temperature = 4, lr = 5e-4, momentum = 0.9, weight_decay = 5e-4, forget_batch = 32,
    decay_epochs = { 3, 5, 9 }, decay = 0.1,
    max_epochs = 0,        -- passes over the forget set; 0: two thirds of the epochs
    epochs = 3,            -- without a budget
  },
  grid = { variant = { 'paper', 'authors' }, lr = { 5e-4, 5e-5 } },
}

local function logits(model, b) return model(b.x, b.noise) end

-- T^2 KL(teacher || student) of softmax(z / T), the mean over a batch.
local function divergence(teacher, model, b, T, z)
  local old = vestige.no_grad(function() return (logits(teacher, b) / T):log_softmax(2) end)
  local new = ((z or logits(model, b)) / T):log_softmax(2)
  return (old:exp() * (old - new)):sum() * (T * T / b.n)
end

-- Epoch e's rate.
local function rate(o, e)
  local lr = o.lr
  for _, last in ipairs(o.decay_epochs) do
    if e > last then lr = lr * o.decay end
  end
  return lr
end

local function alternate(model, teacher, retain, forget, o, ctx, alpha)
  local down = math.ceil(retain:size() / ctx.recipe.batch_size)
  local up = math.ceil(forget:size() / o.forget_batch)
  local epochs = ctx.budget and math.max(1, math.floor(ctx.budget / (down + up) + 0.5)) or o.epochs
  local most = o.max_epochs > 0 and o.max_epochs or math.ceil(2 * epochs / 3)
  local opt = optim.make(model, { name = 'sgd', lr = o.lr, momentum = o.momentum,
                                  weight_decay = o.weight_decay })
  local function pass(e, parts, steps, objective)
    opt:set_lr(rate(o, e))
    ctx:train(model, { parts = parts, steps = steps, objective = objective, optim = opt,
                       seed = ctx.seed + e })
  end
  for e = 1, epochs do
    if e <= most then
      pass(e, { forget = { data = forget, batch_size = o.forget_batch } }, up,
           function(net, batches)
        return -divergence(teacher, net, batches.forget, o.temperature)
      end)
    end
    -- What the budget leaves over goes to the last pass.
    pass(e, { retain = retain }, (not ctx.budget or e < epochs) and down or nil,
         function(net, batches)
      local b = batches.retain
      local z = logits(net, b)
      return z:cross_entropy(b.y) * o.gamma
             + divergence(teacher, net, b, o.temperature, z) * alpha, z, b.y
    end)
  end
end

local function joint(model, teacher, retain, forget, o, ctx, alpha)
  ctx:train(model, {
    parts = { retain = retain, forget = { data = forget, batch_size = o.forget_batch } },
    optim = { name = 'sgd', lr = o.lr, momentum = o.momentum, weight_decay = o.weight_decay },
    objective = function(net, batches)
      local b = batches.retain
      local z = logits(net, b)
      return z:cross_entropy(b.y) * o.gamma
             + divergence(teacher, net, b, o.temperature, z) * alpha
             - divergence(teacher, net, batches.forget, o.temperature) * o.beta, z, b.y
    end })
end

--- unlearn scrub: form 'alternate' (the authors'): in the first epochs a whole pass over the forget
-- set that ascends on the divergence from the teacher, and in every epoch then a whole pass over
-- the retain set that descends on gamma CE + alpha T^2 KL(teacher || student); one optimiser, whose
-- momentum goes on. There beta weighs a term that their program leaves at zero. form 'joint': each
-- step descends on alpha KL_retain + gamma CE_retain - beta KL_forget.
-- The paper's alpha and beta look exchanged against the authors' (alpha 0.001):
-- variant = 'authors'.
function M.unlearn(model, retain, forget, o, ctx)
  local alpha = o.alpha or (o.variant == 'authors' and 0.001 or 0.999)
  local run = o.form == 'joint' and joint or alternate
  run(model, ctx.original:clone():eval(), retain, forget, o, ctx, alpha)
  return model
end

return M
