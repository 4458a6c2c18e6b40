-- L-BFGS: Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5; the line search is
-- their 3.5 and 3.6 with cubic interpolation. Every decision (first step, curvature test, bracket,
-- tolerances) is that of torch.optim.LBFGS, so that both take the same steps.
local fail = require 'vestige.fail'
local options = require 'vestige.options'
local vestige = require 'vestige'

local LBFGS = {}
LBFGS.__index = LBFGS

local defaults = { lr = 1, max_iter = 20, max_eval = 0, tolerance_grad = 1e-7,
                   tolerance_change = 1e-9, history_size = 100,
                   line_search = options.one_of('strong_wolfe', 'none') }

--- optim.LBFGS(params, {lr=1, max_iter=20, max_eval=1.25*max_iter, tolerance_grad=1e-7,
-- tolerance_change=1e-9, history_size=100, line_search='strong_wolfe'}): limited-memory BFGS as
-- torch.optim.LBFGS, for losses without noise. params: a module or a list of tensors of one type.
-- line_search: 'strong_wolfe', or 'none' for steps of length lr. It ends when the largest gradient
-- is at most tolerance_grad, or step or loss change by less than tolerance_change.
-- Example:
-- > local w = vestige.tensor({ 3, -2 }, { requires_grad = true, dtype = 'f64' })
-- > local opt = vestige.optim.LBFGS{ w }
-- > opt:step(function() return ((w - 1):square() * vestige.tensor{ 1, 10 }):sum() end)
-- > assert((w - 1):abs():max():item() < 1e-6)
local function new(params, o)
  local self = setmetatable({ options = options.merge(defaults, o or {}, { where = 'optim.LBFGS' }),
                              params = {}, sizes = {}, iterations = 0, evaluations = 0 }, LBFGS)
  o = self.options
  if o.max_eval == 0 then o.max_eval = math.floor(o.max_iter * 1.25) end
  for _, name in ipairs { 'lr', 'max_iter', 'history_size' } do
    if not (o[name] > 0) then
      fail('optim.LBFGS: %s: expected above 0, got %s', name, tostring(o[name]))
    end
  end
  local list = params.parameters and params:parameters() or params
  for i, t in ipairs(list) do
    if not vestige.is_tensor(t) then
      fail('optim.LBFGS: parameter %d: expected a tensor, got %s', i, type(t))
    end
    if t:requires_grad() then
      self.params[#self.params + 1], self.sizes[#self.sizes + 1] = t, t:numel()
    end
  end
  if #self.params == 0 then fail 'optim.LBFGS: no parameter requires a gradient' end
  return self
end

--- opt:parameters(): the list of parameters that move.
function LBFGS:parameters() return self.params end

-- All parameters' values, or gradients, one after the other.
local function flat(list)
  local parts = {}
  for i, t in ipairs(list) do parts[i] = t:detach():flatten() end
  return #parts == 1 and parts[1]:clone() or vestige.cat(parts)
end

local function set(self, x)
  local at = 1
  for i, p in ipairs(self.params) do
    p:detach():copy_(x:narrow(1, at, self.sizes[i]):reshape(p:shape()))
    at = at + self.sizes[i]
  end
end

local function dot(a, b) return a:mul(b):sum():item() end
local function largest(t) return t:abs():max():item() end

-- Loss and flat gradient where the parameters are.
local function evaluate(self, closure)
  self.evaluations = self.evaluations + 1
  return vestige.scope(function()
    local loss = closure()
    local grads = vestige.grad(loss, self.params, { allow_unused = true })
    for i, p in ipairs(self.params) do
      if not grads[i] then grads[i] = vestige.zeros_like(p) end
    end
    return loss:item(), vestige.no_grad(flat, grads)
  end)
end

-- ---- The direction ----

-- Takes in the last step's change of place s and of gradient y.
local function remember(self, s, y)
  local h, ys = self.history, dot(y, s)
  if ys <= 1e-10 then return end -- not convex along the step
  if #h == self.options.history_size then
    local oldest = table.remove(h, 1)
    oldest.s:release()
    oldest.y:release()
  end
  h[#h + 1] = { s = s:keep(), y = y:keep(), rho = 1 / ys }
  self.scale = ys / dot(y, y)
end

-- Minus the inverse Hessian's estimate times g: the two-loop recursion.
local function direction(self, g)
  local h, alpha, d = self.history, {}, -g
  for i = #h, 1, -1 do
    alpha[i] = h[i].rho * dot(h[i].s, d)
    d = d - alpha[i] * h[i].y
  end
  d = d * self.scale
  for i = 1, #h do d = d + (alpha[i] - h[i].rho * dot(h[i].y, d)) * h[i].s end
  return d
end

-- ---- The line search ----

-- Where the cubic through two points with slopes is least, inside low .. high.
local function cubic(a, b, low, high)
  low, high = low or math.min(a.t, b.t), high or math.max(a.t, b.t)
  local d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
  local square = d1 * d1 - a.slope * b.slope
  if not (square >= 0) then return (low + high) / 2 end
  if a.t > b.t then a, b = b, a end
  local d2 = math.sqrt(square)
  local t = b.t - (b.t - a.t) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)
  return math.min(math.max(t, low), high)
end

local C1, C2, TRIES, NARROW = 1e-4, 0.9, 25, 1e-9

-- A point with both Wolfe conditions, or the best found. at(t) gives {t, f, g, slope}; from is the
-- point at 0, reach the largest element of the direction.
local function strong_wolfe(at, from, t, reach)
  local function too_high(p) return p.f > from.f + C1 * p.t * from.slope end
  local function flat_enough(p) return math.abs(p.slope) <= -C2 * from.slope end
  local before, now, tries = from, at(t), 0
  local a, b -- the bracket; a is the lower end once it is set
  while true do
    if tries == TRIES then
      a, b = from, now
      break
    end
    local rises = too_high(now) or (tries > 1 and now.f >= before.f)
    if not rises and flat_enough(now) then return now end
    if rises or now.slope >= 0 then
      a, b = before, now
      break
    end
    t = cubic(before, now, now.t + 0.01 * (now.t - before.t), now.t * 10)
    before, now, tries = now, at(t), tries + 1
  end
  if a.f > b.f then a, b = b, a end
  local stuck = false
  while tries < TRIES and math.abs(a.t - b.t) * reach >= NARROW do
    local low, high = math.min(a.t, b.t), math.max(a.t, b.t)
    t = cubic(a, b)
    local edge = 0.1 * (high - low)
    if math.min(high - t, t - low) < edge then -- too near an end: once is allowed
      if stuck or t >= high or t <= low then
        t = math.abs(t - high) < math.abs(t - low) and high - edge or low + edge
        stuck = false
      else
        stuck = true
      end
    else
      stuck = false
    end
    now, tries = at(t), tries + 1
    if too_high(now) or now.f >= a.f then
      b = now
      if a.f > b.f then a, b = b, a end
    else
      if flat_enough(now) then return now end
      if now.slope * (b.t - a.t) >= 0 then b = a end
      a = now
    end
  end
  return a
end

-- ---- A step ----

-- Why it ends here, or nil.
local function ended(o, step, change, g)
  if largest(g) <= o.tolerance_grad then return 'gradient' end
  if step <= o.tolerance_change then return 'step' end
  if change < o.tolerance_change then return 'loss' end
end

-- One iteration from loss f: the new loss, and why it ends. Between iterations self.at holds the
-- place x, its gradient g, the gradient before and the direction d that led here.
local function iterate(self, closure, f)
  local o, at = self.options, self.at
  if self.iterations > 0 then remember(self, at.d * self.length, at.g - at.before) end
  self.iterations = self.iterations + 1
  at.d:copy_(direction(self, at.g))
  at.before:copy_(at.g)
  local slope = dot(at.g, at.d)
  self.length = o.lr * (self.iterations > 1 and 1 or math.min(1, 1 / at.g:abs():sum():item()))
  if slope > -o.tolerance_change then return f, 'slope' end
  local function try(length)
    local place = at.x + length * at.d
    set(self, place)
    local loss, gradient = vestige.enable_grad(evaluate, self, closure)
    return { t = length, f = loss, g = gradient, slope = dot(gradient, at.d), x = place }
  end
  local reach = largest(at.d)
  local found
  if o.line_search == 'strong_wolfe' then
    found = strong_wolfe(try, { t = 0, f = f, g = at.g, slope = slope, x = at.x }, self.length,
                         reach)
    set(self, found.x)
  else
    found = try(self.length)
  end
  self.length = found.t
  if found.t ~= 0 then
    at.x:copy_(found.x)
    at.g:copy_(found.g)
  end
  return found.f, ended(o, reach * math.abs(found.t), math.abs(found.f - f), found.g)
end

-- Places and gradients that live from iteration to iteration.
local function start(self)
  local x = flat(self.params)
  self.history, self.scale, self.at = {}, 1, {}
  for _, name in ipairs { 'x', 'g', 'before', 'd' } do
    self.at[name] = vestige.zeros_like(x):keep()
  end
end

--- opt:step(closure): up to max_iter iterations. closure() returns the loss, a tensor of one
-- element, at the parameters' present values. Returns the loss at the end and why it ended:
-- 'gradient', 'step', 'loss', 'slope' (converged), 'iterations' or 'evaluations' (not yet). An
-- error leaves the parameters where the last iteration ended.
function LBFGS:step(closure)
  local o = self.options
  if type(closure) ~= 'function' then
    fail('optim.LBFGS: step: expected a function, got %s', type(closure))
  end
  return vestige.scope(vestige.no_grad, function()
    if not self.at then start(self) end
    local first = self.evaluations
    local f, g = vestige.enable_grad(evaluate, self, closure)
    self.at.x:copy_(flat(self.params))
    self.at.g:copy_(g)
    if largest(g) <= o.tolerance_grad then return f, 'gradient' end
    for _ = 1, o.max_iter do
      local ok, loss, why = pcall(vestige.scope, iterate, self, closure, f)
      if not ok then -- Ctrl-C, say, in the middle of a search
        set(self, self.at.x)
        error(loss, 0)
      end
      f = loss
      if why then return f, why end
      if self.evaluations - first >= o.max_eval then return f, 'evaluations' end
    end
    return f, 'iterations'
  end)
end

return new
