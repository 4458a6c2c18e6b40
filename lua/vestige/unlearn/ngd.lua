-- Noisy gradient descent on the retained samples (Chien et al., 2024; section 2, C.2.2).
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = {
  name = 'ngd', needs = 'retain',
  defaults = { lr = 1e-3, momentum = 0.9, weight_decay = 5e-4, sigma2 = 1e-7, -- C.2.2
               form = options.one_of('gradient', 'langevin') },
  grid = { sigma2 = { 1e-7, 1e-6 }, lr = { 1e-3, 5e-5, 1e-5, 5e-6, 1e-6 } },
}

--- unlearn ngd: theta <- theta - eta (g(theta) + xi), xi ~ N(0, sigma2) for each coordinate and
-- step: the noise is added to the gradient, so it passes through the momentum and is scaled by eta.
-- form = 'langevin' (Chien et al.'s program, without its clipping of each sample's gradient) adds
-- sqrt(2 eta sigma2) N(0, I) to the weights after each step instead, and has no momentum.
function M.unlearn(model, retain, _, o, ctx)
  local rng = ctx:rng 'unlearn'
  local langevin = o.form == 'langevin'
  -- Without momentum a step takes eta times the gradient from the weights.
  local sigma = math.sqrt(langevin and 2 * o.sigma2 / o.lr or o.sigma2)
  local function add_noise(grads)
    local noisy = {}
    for i, g in ipairs(grads) do
      noisy[i] = g and g + vestige.randn(g:shape(), { dtype = g:dtype(), generator = rng }) * sigma
    end
    return noisy
  end
  ctx:train(model, { parts = { retain = retain }, on_gradients = add_noise,
                     streams = { unlearn = rng },
                     optim = { name = 'sgd', lr = o.lr, momentum = langevin and 0 or o.momentum,
                               weight_decay = o.weight_decay } })
  return model
end

return M
