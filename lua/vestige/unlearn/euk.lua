-- Exact unlearning of the last K layers (Goel et al., 2022; section 2, C.2.4).
local last_layers = require 'vestige.last_layers'

local M = {
  name = 'euk', needs = 'retain',
  defaults = { k = 3, lr = 1e-3, -- C.2.4
               counts = last_layers.counts }, -- see vestige.last_layers
  grid = { lr = { 1e-3, 1e-4, 1e-5 }, k = { 3 } },
}

--- unlearn euk: the last K layers are trained from scratch on the retained samples, by the recipe's
-- optimiser; all others keep their weights. counts says what the last K layers are.
function M.unlearn(model, retain, _, o, ctx)
  local layers = last_layers.choose(model, o)
  if ctx.budget ~= 0 then last_layers.reset(layers, o, ctx) end
  return last_layers.train(model, layers, retain, o, ctx)
end

return M
