-- Retraining from scratch within the budget: what the same compute buys without the old model. The
-- argument of Table 2 rests on it.
local M = { name = 'retrain_budget', needs = 'retain', defaults = {}, grid = {} }

--- unlearn retrain_budget: the recipe's optimiser and schedule, squeezed into the budget's steps,
-- on the retained samples, from the same initial weights.
function M.unlearn(original, retain, _, _, ctx)
  if ctx.budget == 0 then return original end
  local model = ctx:fresh()
  ctx:train(model, { parts = { retain = retain }, schedule = 'recipe' })
  return model
end

return M
