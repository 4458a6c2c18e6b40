-- Has unlearning left a model? A method that destroys a model removes every influence, which says
-- nothing for it: GA and NegGrad+ end at chance in the paper's Table 2.
local accuracy = require 'vestige.metrics.accuracy'
local vestige = require 'vestige'

local M = { name = 'collapse' }

-- Why a model is no model any more, or nil.
local function reason(model, counts, finite, share, chance)
  for name, t in pairs(model:state_dict()) do
    if vestige.scope(vestige.no_grad, function() return (t * 0):sum():item() ~= 0 end) then
      return name .. ' is not finite'
    end
  end
  if not finite then return 'its outputs are not finite' end
  local predicted, last = 0, nil
  for p = 1, #counts do
    for y = 1, #counts do
      if counts[y][p] > 0 and last ~= p then predicted, last = predicted + 1, p end
    end
  end
  if predicted == 1 then return ('every prediction is class %d'):format(last - 1) end
  if share.lo <= chance then
    return ('test accuracy %.3f [%.3f, %.3f] is not above chance, %.3g'):format(share.estimate,
      share.lo, share.hi, chance)
  end
end

--- metric collapse: measure(model, ctx) on ctx.test: the test accuracy against chance,
-- {estimate, lo, hi (Wilson, 95 %), n, unit, null = 1 / classes, collapsed, reason, finite}.
-- collapsed: a weight or an output is not finite, all predictions are of one class, or the interval
-- does not lie above chance. ctx.confusion, ctx.finite: of accuracy.confusion, where known already.
function M.measure(model, ctx)
  local counts, finite = ctx.confusion, ctx.finite
  if not counts then counts, finite = accuracy.confusion(model, ctx.test) end
  local out = accuracy.measure(model, { confusion = counts })
  out.null, out.finite = 1 / #counts, finite
  out.reason = reason(model, counts, finite, out, out.null)
  out.collapsed = out.reason ~= nil
  return out
end

-- The share of the accuracy above chance below which a model counts as lost: a few points above
-- chance can be told from it with enough test samples, and are no use.
local LEAST = 0.2

--- collapse.since(before, after): why the model collapsed between two measures of it, nil where it
-- did not, or was no better before. Beside after.collapsed: of its accuracy above chance less than
-- a fifth is left.
function M.since(before, after)
  if not before or not after or before.collapsed then return nil end
  if after.collapsed then return after.reason end
  if after.estimate - after.null < LEAST * (before.estimate - before.null) then
    return ('test accuracy fell from %.3f to %.3f, where chance is %.3g'):format(before.estimate,
      after.estimate, after.null)
  end
end

return M
