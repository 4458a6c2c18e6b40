-- How near an unlearned model is to the retrained one, the gold standard (section 2): in its
-- parameters, and in what it says.
local stats = require 'vestige.stats'
local train = require 'vestige.train'
local vestige = require 'vestige'

local M = { name = 'similarity' }

local function parameters(model)
  local list = {}
  for name, p in model:named_parameters() do list[name] = p end
  return list
end

--- similarity.distance(a, b): the l2 distance of two models' parameters.
function M.distance(a, b)
  local other = parameters(b)
  return vestige.scope(vestige.no_grad, function()
    local total = 0
    for name, p in a:named_parameters() do
      local d = (p - other[name]):norm():item()
      total = total + d * d
    end
    return math.sqrt(total)
  end)
end

--- similarity.cosine(model, retrained, original): the cosine of the parameter displacements,
-- theta - theta_original with theta_retrained - theta_original (Figure 5's v): 1 where unlearning
-- went the way of retraining. nil where either did not move.
function M.cosine(model, retrained, original)
  local other, from = parameters(retrained), parameters(original)
  return vestige.scope(vestige.no_grad, function()
    local ab, aa, bb = 0, 0, 0
    for name, p in model:named_parameters() do
      local a = p:to 'f64' - from[name]:to 'f64'
      local b = other[name]:to 'f64' - from[name]:to 'f64'
      ab, aa, bb = ab + (a * b):sum():item(), aa + a:square():sum():item(),
                   bb + b:square():sum():item()
    end
    return aa > 0 and bb > 0 and ab / math.sqrt(aa * bb) or nil
  end)
end

--- similarity.outputs(model, retrained, ds): what both say about the samples of a data set.
-- agreement: the share for which both predict the same class, {estimate, lo, hi (Wilson), n}; kl:
-- the mean of KL(retrained || model) in nats, {estimate, lo, hi (t, 95 %), se, n}.
function M.outputs(model, retrained, ds)
  local o = { noise = true, batch_size = 128 }
  local kl, same, n = vestige.scope(vestige.no_grad, function()
    local new = train.predict(model, ds, o):to 'f64':log_softmax(2)
    local gold = train.predict(retrained, ds, o):to 'f64':log_softmax(2)
    return (gold:exp() * (gold - new)):sum(2):tolist(),
           gold:argmax(2):eq(new:argmax(2)):to 'i64':sum():item(), gold:size(1)
  end)
  local w = stats.wilson(same, n)
  return { agreement = { estimate = same / n, lo = w.lo, hi = w.hi, n = n },
           kl = stats.t_interval(kl) }
end

--- metric similarity: measure(model, ctx) with ctx.retrained, ctx.original (the model before
-- unlearning), ctx.test and, where there are, ctx.canaries = {planted = the forgotten samples}.
-- Returns {estimate = agreement on the test samples, lo, hi, n, unit, null, kl, forgotten =
-- {agreement, kl}, distance (l2, to the retrained), distance_before (the original's), cosine}.
-- Two retrainings differ too, by seed: only beside that do distances mean something.
function M.measure(model, ctx)
  local on_test = M.outputs(model, ctx.retrained, ctx.test)
  local out = on_test.agreement
  out.unit, out.null, out.kl = 'test samples', 'another retraining', on_test.kl
  if ctx.canaries and ctx.canaries.planted then
    out.forgotten = M.outputs(model, ctx.retrained, ctx.canaries.planted)
  end
  out.distance = M.distance(model, ctx.retrained)
  out.distance_before = M.distance(ctx.original, ctx.retrained)
  out.cosine = M.cosine(model, ctx.retrained, ctx.original)
  return out
end

return M
