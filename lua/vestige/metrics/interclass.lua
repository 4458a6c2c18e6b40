-- The interclass confusion test (Goel et al., 2022; the two errors as Kurmanji et al., 2023, define
-- them): a model was trained with labels swapped between two classes, and asked to forget those
-- samples. Does it still take the classes for each other?
local accuracy = require 'vestige.metrics.accuracy'
local fail = require 'vestige.fail'
local stats = require 'vestige.stats'

local M = { name = 'interclass' }

local function share(k, n)
  local w = stats.wilson(k, n)
  return { estimate = k / n, lo = w.lo, hi = w.hi, n = n, count = k }
end

--- interclass.errors(counts, a, b): both errors from a confusion matrix (accuracy.confusion) for
-- the classes a and b, numbers from 0. ic: IC-ERR, the samples of a or b that are taken for any
-- other class, of all samples of a and b; fgt: FGT-ERR, only those of a taken for b and of b for a;
-- its count is what the authors report. Each {estimate, lo, hi (Wilson, 95 %), n, count}.
-- Errors: a class that is not there, or has no samples.
function M.errors(counts, a, b)
  for _, class in ipairs { a, b } do
    if not counts[class + 1] then
      fail('interclass: class %s: expected 0 to %d', tostring(class), #counts - 1)
    end
  end
  if a == b then fail('interclass: expected two classes, got %d twice', a) end
  local n, wrong = 0, 0
  for _, class in ipairs { a, b } do
    for p, k in ipairs(counts[class + 1]) do
      n = n + k
      if p ~= class + 1 then wrong = wrong + k end
    end
  end
  if n == 0 then fail('interclass: no sample of class %d or %d', a, b) end
  return { ic = share(wrong, n), fgt = share(counts[a + 1][b + 1] + counts[b + 1][a + 1], n) }
end

--- metric interclass: measure(model, ctx) with ctx.test, ctx.classes = {a, b} and, where there are,
-- ctx.canaries = {planted = the forgotten samples with their swapped labels}. Returns {estimate =
-- IC-ERR, lo, hi, n, unit, null, fgt = FGT-ERR, memorised}: on the test samples, whether the model
-- generalises what it was to forget; memorised, on the forgotten ones, the share that still gets
-- the swapped label. A model that forgot is as the retrained one is in all three.
function M.measure(model, ctx)
  local a, b = ctx.classes[1], ctx.classes[2]
  local errors = M.errors(ctx.confusion or (accuracy.confusion(model, ctx.test)), a, b)
  local out = errors.ic
  out.unit, out.null, out.fgt = 'test samples of two classes', 'the retrained model', errors.fgt
  if ctx.canaries and ctx.canaries.planted then
    out.memorised = share(accuracy.count((accuracy.confusion(model, ctx.canaries.planted))))
  end
  return out
end

return M
