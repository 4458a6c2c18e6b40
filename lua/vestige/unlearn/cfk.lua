-- Catastrophic forgetting of the last K layers (Goel et al., 2022; section 2, C.2.5).
local last_layers = require 'vestige.last_layers'

local M = {
  name = 'cfk', needs = 'retain',
  defaults = { k = 3, lr = 1e-3, -- C.2.5
               counts = last_layers.counts }, -- see vestige.last_layers
  grid = { lr = { 1e-3, 1e-4, 1e-5 }, k = { 3 } },
}

--- unlearn cfk: the last K layers are trained on, from where they are, on the retained samples; all
-- others keep their weights.
function M.unlearn(model, retain, _, o, ctx)
  return last_layers.train(model, last_layers.choose(model, o), retain, o, ctx)
end

return M
