-- Gradient descent on the retained samples (Neel et al., 2021; section 2, C.2.1).
local M = {
  name = 'gd', needs = 'retain',
  defaults = { lr = 1e-3, momentum = 0.9, weight_decay = 5e-4 }, -- C.2.1
  grid = { lr = { 1e-3, 5e-5, 1e-5, 5e-6, 1e-6 } }, -- C.2.1, and the search of Table 2
}

--- unlearn gd: theta <- theta - eta g(theta), g a mini-batch gradient of the loss on the retained
-- samples, from the trained model on.
function M.unlearn(model, retain, _, o, ctx)
  ctx:train(model, { parts = { retain = retain },
                     optim = { name = 'sgd', lr = o.lr, momentum = o.momentum,
                               weight_decay = o.weight_decay } })
  return model
end

return M
