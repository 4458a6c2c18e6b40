-- Gradient matching, "Witches' Brew" (Geiping et al., 2021; section 3.1, C.1.1, Algorithm 1):
-- images of one class are changed within eps so that training on them moves the model as training
-- on the target with the adversarial label would. Labels stay.
--
-- What the paper leaves open is as in the authors' program, each choice an option.
local optim = require 'vestige.optim'
local options = require 'vestige.options'
local perturb = require 'vestige.perturb'
local vestige = require 'vestige'

local M = {
  name = 'gradient_matching', version = 2, kind = 'targeted', knows = 'data training model',
  places = 'replace',
  defaults = {
    share = 0.015, eps = 16,        -- C.1.1: b_p; the bound in 255ths of a pixel's range
    target_class = '', poison_class = '', -- drawn (C.1.1); in section 4.1 'truck'
    -- The authors':
    steps = 250, restarts = 8, lr = 0.1, batch_size = 512, shift = 4, flip = true, ensemble = 1,
    -- 'adam': without sign and schedule (Di et al., 2023)
    optimizer = options.one_of('signed_adam', 'adam'),
    -- What a shift brings in: black, as in the trainer's own augmentation, or 'mean', 0 after
    -- Normalize, which the authors' program moves.
    padding = options.one_of('zero', 'mean'),
    bits = 0,                  -- 8: rounded to 255ths, as image files hold them
  },
  grid = { share = { 0.01, 0.015, 0.02, 0.05 }, eps = { 8, 16 }, restarts = { 1, 8 } },
  try = { share = 0.05, steps = 60, restarts = 1 },
}

--- gradient_matching.models(o): how many clean models the attack brews on (ctx:clean_model(1 ..)).
function M.models(o) return o.ensemble end

-- ---- The loss ----

--- gradient_matching.gradient(model, x, y): the gradient of the mean cross entropy at images x with
-- labels y for each parameter, in evaluation mode, and its norm: what is matched, for the target
-- with the adversarial label.
function M.gradient(model, x, y)
  local params = model:eval():parameters()
  local grads = vestige.grad(model(x):cross_entropy(y), params, { allow_unused = true })
  for i, g in ipairs(grads) do grads[i] = g and g:detach() or vestige.zeros_like(params[i]) end
  return { grads = grads, norm = perturb.squares(grads):sqrt():item() }
end

--- gradient_matching.loss(model, target, x, y): phi = 1 - cos(target, gradient of the batch x, y),
-- over all parameters at once (equation 3), differentiable in x. target: as M.gradient gives it.
function M.loss(model, target, x, y)
  local grads = vestige.grad(model(x):cross_entropy(y), model:parameters(),
                             { create_graph = true, allow_unused = true })
  local dot, used = nil, {}
  for i, g in ipairs(grads) do
    if g then
      local d = (g * target.grads[i]):sum()
      dot, used[#used + 1] = dot and dot + d or d, g
    end
  end
  return 1 - dot / (perturb.squares(used):sqrt() * target.norm)
end

-- ---- Images ----

--- gradient_matching.moved(x, dx, dy, side, mean): images (n,h,w,c) resampled bilinearly at places
-- that lie dx and dy, (n,1) in halves of the image, to the right and below, mirrored where side
-- (n,1) is -1; differentiable. What comes in from outside is black or, where mean is given, mean.
function M.moved(x, dx, dy, side, mean)
  local s = x:shape()
  local zero = vestige.zeros_like(dx)
  local theta = vestige.cat({ side, zero, dx, zero, zero + 1, dy }, 2):reshape(s[1], 2, 3)
  local grid = vestige.affine_grid(theta, s)
  if mean then return vestige.grid_sample(x - mean, grid) + mean end
  return vestige.grid_sample(x, grid)
end

-- Each image shifted by up to `shift` pixels each way and mirrored or not: what the victim's
-- augmentation does.
local function augment(x, o, mean, rng)
  if o.shift == 0 and not o.flip then return x end
  local s = x:shape()
  local n, h, w = s[1], s[2], s[3]
  local function draw() return vestige.rand({ n, 1 }, { generator = rng, dtype = x:dtype() }) end
  local dx, dy = (draw() * 2 - 1) * (2 * o.shift / w), (draw() * 2 - 1) * (2 * o.shift / h)
  local side = o.flip and draw():lt(0.5):to(x:dtype()) * 2 - 1 or vestige.ones_like(dx)
  return M.moved(x, dx, dy, side, o.padding == 'mean' and mean or nil)
end

-- The perturbation p (in pixels) within the ball and with x + p within [0,1].
local function project(p, x, bound)
  return (x + p:clamp(-bound, bound)):clamp(0, 1) - x
end

-- ---- Brewing ----

local Brew = {}
Brew.__index = Brew

-- delta: the perturbation in units of the normalised input, in which steps are as long for every
-- channel. best: of the restarts that have ended.
local function new_brew(x, y, models, targets, o, rng)
  local mean, std = perturb.units(models[1], x:dtype())
  local self = setmetatable({ x = x, y = y, models = models, targets = targets, o = o, rng = rng,
                              mean = mean, std = std, bound = o.eps / 255 }, Brew)
  self.delta = vestige.zeros_like(x):requires_grad_():keep()
  self.best = vestige.zeros_like(x):keep()
  self.numbers = vestige.tensor({ math.huge, 0 }, { dtype = 'f64' }):keep() -- best loss, the last
  self.opt = optim.Adam({ self.delta }, { lr = o.lr })
  return self
end

function Brew:state_dict()
  local state = { delta = self.delta:detach(), best = self.best, numbers = self.numbers }
  for key, t in pairs(self.opt:state_dict()) do state['opt.' .. key] = t end
  return state
end

function Brew:load_state_dict(state)
  local inner = {}
  for key, t in pairs(state) do
    local name = key:match '^opt%.(.*)$'
    if name then inner[name] = t end
  end
  self.opt:load_state_dict(inner)
  for _, name in ipairs { 'delta', 'best', 'numbers' } do
    vestige.no_grad(function() self[name]:copy_(state[name]) end)
  end
end

function Brew:set_pixels(p)
  self.delta:copy_(project(p, self.x, self.bound) / self.std)
end

-- A new start: N(0, eps^2), cut to the ball; moments and step count of Adam from zero.
function Brew:restart()
  vestige.no_grad(function()
    local noise = vestige.randn(self.x:shape(), { dtype = self.x:dtype(), generator = self.rng })
    self:set_pixels(noise * self.bound)
    local blank = {}
    for key, t in pairs(self.opt:state_dict()) do blank[key] = vestige.zeros_like(t) end
    self.opt:load_state_dict(blank)
  end)
end

-- The gradient of the mean over models of phi for rows from `first` on, and that mean.
function Brew:batch(first, n)
  return vestige.scope(function()
    local d = self.delta:detach():narrow(1, first, n):clone():requires_grad_()
    local x = augment(self.x:narrow(1, first, n) + d * self.std, self.o, self.mean, self.rng)
    local y, phi = self.y:narrow(1, first, n), nil
    for i, model in ipairs(self.models) do
      local one = M.loss(model, self.targets[i], x, y) / #self.models
      phi = phi and phi + one or one
    end
    return vestige.grad(phi, d), phi:item()
  end)
end

local milestones = { 2.667, 1.6, 1.142 } -- steps over these: 93, 156, 218 of 250

--- gradient_matching.rate(o, step, models): the rate of a step (from 1): lr times batch_size / 512,
-- however many poisons there are, divided among the models, a tenth after each milestone; plain
-- Adam's is lr.
function M.rate(o, step, models)
  if o.optimizer == 'adam' then return o.lr end
  local lr = o.lr * o.batch_size / 512 / models
  for _, m in ipairs(milestones) do
    if step > math.floor(o.steps / m) then lr = lr * 0.1 end
  end
  return lr
end

function Brew:step(step)
  local o, total, losses, grads = self.o, self.x:size(1), 0, {}
  for first = 1, total, o.batch_size do
    local n = math.min(o.batch_size, total - first + 1)
    local g, loss = self:batch(first, n)
    grads[#grads + 1], losses = g, losses + loss
  end
  self.opt:set_lr(M.rate(o, step, #self.models))
  vestige.no_grad(function()
    local g = #grads > 1 and vestige.cat(grads, 1) or grads[1]
    self.opt:step{ o.optimizer == 'signed_adam' and g:sign() or g }
    self:set_pixels(self.delta:detach() * self.std)
  end)
  return losses / #grads
end

-- The end of a restart whose last step had this loss.
function Brew:finish(loss)
  vestige.no_grad(function()
    local best = self.numbers:tolist()[1]
    if loss < best then
      self.best:copy_(self.delta:detach())
      best = loss
    end
    self.numbers:copy_(vestige.tensor({ best, loss }, { dtype = 'f64' }))
  end)
end

--- gradient_matching.brew(x, y, models, targets, o, ctx): the changed images, and the loss phi of
-- the chosen restart. x: images in [0,1]; y: their labels; models in evaluation mode and their
-- targets (M.gradient); o: the attack's options. The restart with the smallest loss at its last
-- step wins.
function M.brew(x, y, models, targets, o, ctx)
  local brew = new_brew(x, y, models, targets, o, ctx:rng 'brew')
  for at in ctx:steps(o.restarts * o.steps, { states = { brew = brew }, label = 'brew' }) do
    local step = (at - 1) % o.steps + 1
    if step == 1 then brew:restart() end
    local loss = brew:step(step)
    if step == o.steps then brew:finish(loss) end
  end
  return vestige.no_grad(function()
    local p = brew.best * brew.std
    if o.bits == 8 then return ((x + p) * 255):round() / 255, brew.numbers:tolist()[1] end
    return x + p, brew.numbers:tolist()[1]
  end)
end

-- ---- The attack ----

--- attack gradient_matching: changes ceil(share N) images of the poison class by at most eps / 255
-- a pixel, so that a model trained on them takes one test image, the target, for that class.
-- The target's class and the poison class are drawn, the target from the test images of its class.
-- It knows the data, the architecture and the training (Table 1): it brews on models trained on the
-- clean data, by their gradients in evaluation mode, poisons in batches of batch_size with a cosine
-- each, under the victim's shifts and flips.
-- Returns {data, forget = the ids, target = {id, y}, y_adv, estimates = {phi}}.
-- Errors: fewer images in the poison class than are to be changed; no test images.
function M.poison(ds, o, ctx)
  local aim = perturb.aim('gradient_matching', ds, o, ctx)
  local models, targets = {}, {}
  local label = vestige.tensor({ aim.y_adv }, { dtype = 'i64' })
  for i = 1, M.models(o) do
    models[i] = ctx:clean_model(i):eval()
    targets[i] = M.gradient(models[i], perturb.pixels(aim.target.x), label)
  end
  local x, phi = M.brew(perturb.pixels(aim.base.x), aim.base.y, models, targets, o, ctx)
  local ids = aim.base:ids()
  return { data = ds:replace(ids, { x = x }), forget = ids, y_adv = aim.y_adv,
           target = { id = aim.target:ids()[1], y = aim.y }, estimates = { phi = phi } }
end

return M
