-- Feature collision, "Poison Frogs" (Shafahi et al., 2018): images of one class are moved until a
-- model takes them for the target in feature space, while they stay near themselves in pixels.
-- Labels stay: who trains on them learns that the target's features belong to their class.
local perturb = require 'vestige.perturb'
local vestige = require 'vestige'

local M = {
  name = 'feature_collision', kind = 'targeted', knows = 'data training model', places = 'replace',
  defaults = {
    share = 0.01, steps = 100,
    target_class = '', poison_class = '',  -- drawn
    lr = 0.02,      -- lambda: the length of a step against the feature gradient, per image
    beta = 0.25,    -- how much an image is held to itself, a step
    opacity = 0.3,  -- of the target as a watermark, as where whole networks are trained (4.2)
  },
  grid = { share = { 0.01, 0.05 }, opacity = { 0, 0.3 } },
  try = { share = 0.05 },
}

--- feature_collision.models(): one clean model, whose features collide.
function M.models() return 1 end

--- attack feature_collision: changes ceil(share N) images of the poison class by forward-backward
-- steps (Algorithm 1 there) on |f(x) - f(t)|^2 + beta |x - b|^2, f the features before the last
-- layer, t the target, b the watermarked image. Steps have a length of lr sqrt(pixels): the
-- features' scale differs between models. Returns {data, forget, target = {id, y}, y_adv,
-- estimates = {distance_before, distance_after}}, mean |f(x) - f(t)|.
-- Errors: as perturb.aim's.
function M.poison(ds, o, ctx)
  local aim = perturb.aim('feature_collision', ds, o, ctx)
  local model = ctx:clean_model(1):eval()
  local t, own = perturb.pixels(aim.target.x), perturb.pixels(aim.base.x)
  local base = t * o.opacity + own * (1 - o.opacity)
  local goal = vestige.no_grad(model.features, model, t)
  local x = base:clone():requires_grad_()
  local function distance()
    return vestige.no_grad(function() return (model:features(x) - goal):norm{ dim = 2 } end)
  end
  local before = distance():mean():item()
  for _ in ctx:steps(o.steps, { states = { poison = perturb.held{ x = x } }, label = 'collide' }) do
    local g = vestige.grad((model:features(x) - goal):square():sum(), x):reshape(x:size(1), -1)
    vestige.no_grad(function()
      local step = g / g:norm{ dim = 2, keepdim = true }:clamp{ min = 1e-12 }
      local forward = x - step:reshape(x:shape()) * (o.lr * math.sqrt(g:size(2)))
      x:copy_(((forward + base * (o.lr * o.beta)) / (1 + o.lr * o.beta)):clamp(0, 1))
    end)
  end
  local ids = aim.base:ids()
  return { data = ds:replace(ids, { x = x:detach() }), forget = ids, y_adv = aim.y_adv,
           target = { id = aim.target:ids()[1], y = aim.y },
           estimates = { distance_before = before, distance_after = distance():mean():item() } }
end

return M
