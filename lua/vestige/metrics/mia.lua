-- The loss-threshold membership attack (Yeom et al., 2018): is a sample's loss lower when it was
-- trained on? Members are the poisons as they were trained, non-members test samples with fresh
-- noise of the same law: otherwise the attack would detect noise, not membership.
local stats = require 'vestige.stats'
local gus = require 'vestige.metrics.gus'
local vestige = require 'vestige'

local M = { name = 'mia' }

--- mia.losses(model, ds, batch_size): the margin log sum_{j != y} exp z_j - z_y of every sample, in
-- evaluation mode. The cross entropy is softplus of it: both order the samples alike, and the
-- margin does not round to 0 for samples that are certain.
function M.losses(model, ds, batch_size)
  local was_training = model.training
  model:eval()
  local list = {}
  for b in ds:batches(batch_size or 128) do
    local values = vestige.scope(vestige.no_grad, function()
      return gus.margin(model(b.x, b.noise), b.y):tolist()
    end)
    for _, v in ipairs(values) do list[#list + 1] = v end
  end
  model:train(was_training)
  return list
end

--- mia.attack(members, others): the attack from the losses of both groups.
-- Returns {estimate = AUC, se, lo, hi (95 %), p, n, unit, null = 0.5, clears: the interval holds
-- 0.5, tpr: TPR at FPR 0.01}.
function M.attack(members, others)
  local positive, negative = {}, {}
  for i, v in ipairs(members) do positive[i] = -v end
  for i, v in ipairs(others) do negative[i] = -v end
  local auc = stats.auc(positive, negative)
  return { estimate = auc.estimate, se = auc.se, lo = auc.lo, hi = auc.hi, p = auc.p, null = 0.5,
           n = #members + #others, unit = 'samples',
           clears = auc.lo <= 0.5 and auc.hi >= 0.5,
           tpr = stats.tpr_at_fpr(positive, negative, 0.01) }
end

--- metric mia: measure(model, ctx) with ctx.canaries = {planted=, fresh=}: data sets of the poisons
-- as trained and of as many test samples with fresh noise.
function M.measure(model, ctx)
  return M.attack(M.losses(model, ctx.canaries.planted), M.losses(model, ctx.canaries.fresh))
end

return M
