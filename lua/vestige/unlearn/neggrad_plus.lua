-- NegGrad+ (Kurmanji et al., 2024; section 2, C.2.7).
local M = {
  name = 'neggrad_plus', needs = 'retain forget',
  -- beta: C.2.7; rate, momentum and decay as GD's, as C.2.7 says
  defaults = { beta = 0.999, lr = 1e-3, momentum = 0.9, weight_decay = 5e-4 },
  grid = { beta = { 0.95, 0.999, 0.9999 }, lr = { 1e-3, 1e-5, 5e-6 } },
}

--- unlearn neggrad_plus: descends on beta E_retain[l] - (1 - beta) E_forget[l]. A step takes a
-- batch of each; those of the forget set come again and again, so an epoch is one of the retain
-- set.
function M.unlearn(model, retain, forget, o, ctx)
  ctx:train(model, { parts = { retain = { data = retain, weight = o.beta },
                               forget = { data = forget, weight = o.beta - 1 } },
                     optim = { name = 'sgd', lr = o.lr, momentum = o.momentum,
                               weight_decay = o.weight_decay } })
  return model
end

return M
