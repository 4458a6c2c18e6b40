-- Test accuracy, and the confusion matrix that other metrics read.
local stats = require 'vestige.stats'
local vestige = require 'vestige'

local M = { name = 'accuracy' }

--- accuracy.confusion(model, ds, batch_size): counts[y + 1][p + 1], how many samples of class y
-- have their largest logit at class p, in evaluation mode and with the planted noise; and whether
-- all logits are finite.
function M.confusion(model, ds, batch_size)
  local was_training = model.training
  model:eval()
  local counts, finite, classes = {}, true, nil
  for b in ds:batches(batch_size or 128) do
    local cells, off = vestige.scope(vestige.no_grad, function()
      local z = model(b.x, b.noise)
      classes = z:size(2)
      return (b.y * classes + z:argmax(2)):bincount{ minlength = classes ^ 2 }:tolist(),
             (z * 0):sum():item()
    end)
    finite = finite and off == 0
    for i, n in ipairs(cells) do
      local y, p = math.floor((i - 1) / classes) + 1, (i - 1) % classes + 1
      counts[y] = counts[y] or {}
      counts[y][p] = (counts[y][p] or 0) + n
    end
  end
  model:train(was_training)
  return counts, finite
end

--- accuracy.count(counts): how many samples of a confusion matrix are right, and how many it has.
function M.count(counts)
  local right, n = 0, 0
  for y, row in ipairs(counts) do
    for p, k in ipairs(row) do
      n = n + k
      if p == y then right = right + k end
    end
  end
  return right, n
end

--- accuracy.of(model, ds, batch_size): the share of samples whose largest logit is their label, in
-- evaluation mode, and the number of samples.
function M.of(model, ds, batch_size)
  local right, n = M.count((M.confusion(model, ds, batch_size)))
  return right / n, n
end

--- metric accuracy: measure(model, ctx) on ctx.test, with its Wilson interval. ctx.confusion: the
-- matrix where it is known already.
function M.measure(model, ctx)
  local right, n = M.count(ctx.confusion or (M.confusion(model, ctx.test)))
  local wilson = stats.wilson(right, n)
  return { estimate = right / n, lo = wilson.lo, hi = wilson.hi, n = n, unit = 'test samples' }
end

return M
