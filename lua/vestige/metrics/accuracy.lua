-- Test accuracy.
local stats = require 'vestige.stats'
local vestige = require 'vestige'

local M = { name = 'accuracy' }

--- accuracy.of(model, ds, batch_size): the share of samples whose largest logit is their label, in
-- evaluation mode, and the number of samples.
function M.of(model, ds, batch_size)
  local was_training = model.training
  model:eval()
  local right, n = 0, 0
  for b in ds:batches(batch_size or 500) do
    right = right + vestige.scope(vestige.no_grad, function()
      return model(b.x, b.noise):argmax(2):eq(b.y):to 'i64':sum():item()
    end)
    n = n + b.n
  end
  model:train(was_training)
  return right / n, n
end

--- metric accuracy: measure(model, ctx) on ctx.test, with its Wilson interval.
function M.measure(model, ctx)
  local share, n = M.of(model, ctx.test)
  local wilson = stats.wilson(math.floor(share * n + 0.5), n)
  return { estimate = share, lo = wilson.lo, hi = wilson.hi, n = n, unit = 'test samples' }
end

return M
