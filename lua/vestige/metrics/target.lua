-- What a targeted attack is after (section 3.1): is the target taken for the adversarial class? And
-- a backdoor: are images with the trigger?
local accuracy = require 'vestige.metrics.accuracy'
local stats = require 'vestige.stats'
local vestige = require 'vestige'

local M = { name = 'target' }

--- target.of(test, p): {x, y, y_adv} from the test set and what the attack returned: target =
-- {id, y} and y_adv.
function M.of(test, p)
  return { x = test:subset{ p.target.id }.x, y = p.target.y, y_adv = p.y_adv }
end

--- target.backdoor(model, test, trigger, y_adv): the share of the test images of other classes that
-- are taken for y_adv once trigger(x) has marked them: {estimate, lo, hi (Wilson), n, unit, null}.
function M.backdoor(model, test, trigger, y_adv)
  local others = {}
  for row, y in ipairs(test.y:tolist()) do
    if y ~= y_adv then others[#others + 1] = row end
  end
  local marked, hits = test:subset{ rows = others }, 0
  marked = marked:replace(marked:ids(), { x = trigger(marked.x) })
  for _, row in ipairs((accuracy.confusion(model, marked))) do hits = hits + row[y_adv + 1] end
  local t = stats.wilson(hits, #others)
  return { estimate = hits / #others, lo = t.lo, hi = t.hi, n = #others, unit = 'test images',
           null = 'a clean model' }
end

--- target.measure(model, ctx) with ctx.target = {x (1,h,w,c), y, y_adv}: {estimate, n, unit, null,
-- hit, misclassified}: the margin log p(y_adv) - log p(y), above 0 where the adversarial class is
-- likelier than the true one; hit: y_adv is predicted; misclassified: y is not.
function M.measure(model, ctx)
  local t, was_training = ctx.target, model.training
  model:eval()
  local out = vestige.scope(vestige.no_grad, function()
    local x = t.x:dtype() == 'u8' and t.x:to 'f32' / 255 or t.x
    local logp = model(x):to 'f64':log_softmax(2):tolist()
    local best = 1
    for i, v in ipairs(logp) do
      if v > logp[best] then best = i end
    end
    return { estimate = logp[t.y_adv + 1] - logp[t.y + 1], n = 1, unit = 'targets',
             null = 'a clean model', hit = best == t.y_adv + 1, misclassified = best ~= t.y + 1 }
  end)
  model:train(was_training)
  return out
end

return M
