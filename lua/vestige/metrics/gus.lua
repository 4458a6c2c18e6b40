-- The Gaussian Unlearning Score (Algorithm 3; C.1.4): how much a model still depends on the noise
-- planted in its training samples.
local data = require 'vestige.data'
local stats = require 'vestige.stats'
local vestige = require 'vestige'

local M = { name = 'gus' }

-- log sum_{j != y} exp z_j - z_y, for each sample of logits z (n,C) and labels y (n): the loss is
-- softplus of it, so its gradient for the input has the loss gradient's direction, without the
-- cancellation of 1 - p_y when p_y is near 1.
local function margin(z, y)
  local own = vestige.one_hot(y, z:size(2)):to 'bool'
  local others = z:masked_fill(own, -math.huge):logsumexp{ dim = 2 }
  return others - z:gather(2, y:reshape{ -1, 1 }):reshape{ -1 }
end
M.margin = margin

-- The gradient of each sample's margin at the place where the noise was added, for a batch of clean
-- samples: at the normalised input, or at the pixels. The sum over the batch gives every sample its
-- own gradient because evaluation mode ties no samples together.
local function gradient_at(model, b, unit)
  if unit == 'pixel' then
    local x = b.x:detach():requires_grad_()
    return vestige.grad(margin(model(x), b.y):sum(), x)
  end
  local noise = vestige.zeros_like(b.x):requires_grad_()
  return vestige.grad(margin(model(b.x, noise), b.y):sum(), noise)
end

--- gus.scores(model, base, noise, options): I_z for every sample z of base.
-- base: a data set of the clean samples x_base; noise: {seed=, variance=, unit='normalised'|
-- 'pixel'} as it was planted. I_z = <g_z, xi_z> / (eps ||g_z||) with the planted, unclipped draw
-- xi_z and g_z the gradient of the loss for the input at x_base, in evaluation mode; it is N(0,1)
-- for a model that is independent of xi, and negative for one that learned it: the loss falls
-- along xi.
-- options: batch_size (128); fresh: a number that draws other noise instead, as a control.
-- Returns the list of I in base's order, false for a sample whose gradient is zero or not finite,
-- and how many those are.
-- Source: section 3.3, Algorithm 3, C.1.4. The paper prints the other sign, and leaves open that
-- the gradient is taken at the clean sample.
function M.scores(model, base, noise, options)
  local o = options or {}
  local was_training = model.training
  model:eval()
  local list, zero = {}, 0
  for b in base:without_noise():batches(o.batch_size or 128) do
    local I = vestige.scope(function()
      local shape = b.x:shape()
      table.remove(shape, 1)
      -- eps cancels: xi = eps times the N(0,1) draw.
      local xi = data.noise(o.fresh or noise.seed, b.id:tolist(), shape):to 'f64'
      local g = gradient_at(model, b, noise.unit):to 'f64'
      local n = b.x:size(1)
      g, xi = g:reshape{ n, -1 }, xi:reshape{ n, -1 }
      local dot, norm = (g * xi):sum(2):tolist(), g:norm{ dim = 2 }:tolist()
      local scores = {}
      for i = 1, n do
        scores[i] = norm[i] > 0 and norm[i] < math.huge and dot[i] / norm[i] or false
      end
      return scores
    end)
    for _, v in ipairs(I) do
      list[#list + 1] = v
      if not v then zero = zero + 1 end
    end
  end
  model:train(was_training)
  return list, zero
end

--- gus.nonzero(I): the scores that are there.
function M.nonzero(I)
  local list = {}
  for _, v in ipairs(I) do
    if v then list[#list + 1] = v end
  end
  return list
end

--- gus.summary(I, zero): GUS with its tests and TPR at FPR 0.01, from the scores.
-- Returns {estimate, se, z, p, n, unit, null, tpr_abs, tpr_signed (each {estimate, lo, hi}), zero}.
function M.summary(I, zero)
  I = M.nonzero(I)
  local test = require('vestige.verdict').primary(I)
  return { estimate = test.gus, se = test.se, z = test.z, p = test.p_z, n = #I, unit = 'canaries',
           null = 'N(0,1), independent of the noise', sum_squares = test.sum_squares,
           p_sum_squares = test.p_sum_squares, rejects = test.rejects, zero = zero,
           tpr_abs = stats.gus_tpr(I, 0.01),
           tpr_signed = stats.gus_tpr(I, 0.01, { side = 'signed' }) }
end

--- gus.curve(I, side): the whole trade-off of finding the canaries, at 99 false positive rates that
-- are dense near 0: {fpr, tpr, gaussian}, lists; tpr at the exact thresholds of N(0,1), and that of
-- N(mean, 1), Figure 7's curve. side: 'signed' (-I, the default) or 'abs' (|I|).
function M.curve(I, side)
  I = M.nonzero(I)
  local curve, o = { fpr = {}, tpr = {}, gaussian = {} }, { side = side or 'signed' }
  for i = 1, 99 do
    local fpr = math.min((i / 99) ^ 3, 0.999999)
    curve.fpr[i], curve.tpr[i] = fpr, stats.gus_tpr(I, fpr, o).estimate
    curve.gaussian[i] = stats.tpr_curve(-stats.mean(I), fpr, o)
  end
  return curve
end

--- metric gus: measure(model, ctx) with ctx.canaries = {base=, noise=}.
function M.measure(model, ctx)
  local I, zero = M.scores(model, ctx.canaries.base, ctx.canaries.noise)
  local summary = M.summary(I, zero)
  summary.scores = I
  return summary
end

return M
