-- Retraining from scratch (section 2): the gold standard, at the cost of a whole training.
local M = { name = 'retrain', needs = 'retain', whole = true, defaults = {}, grid = {} }

--- unlearn retrain: the recipe on the retained samples, from the same initial weights. It spends
-- what the recipe takes, not the budget.
function M.unlearn(_, retain, _, _, ctx)
  local model = ctx:fresh()
  ctx:train(model, { parts = { retain = retain }, budget = false })
  return model
end

return M
