-- vestige.optim.schedule: learning rates as functions of the step alone.
--
-- schedule.NAME(lr, {...}) gives a function of the step (from 0) that returns the learning rate
-- and, where a momentum cycles, the momentum. All take warmup (0): so many steps that rise in a
-- straight line from warmup_factor (0) times the first rate; the schedule begins after them, as
-- PyTorch's SequentialLR of LinearLR and the schedule. schedule.make reads a plain table, for
-- recipes.
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'

local M = {}
local kinds = {}

-- Declares schedule `name`; f(lr, o, step) counts from the end of the warm-up.
local function schedule(name, defaults, f, check)
  defaults.warmup, defaults.warmup_factor = 0, 0
  kinds[name] = defaults
  M[name] = function(lr, given)
    local o = options.merge(defaults, given or {}, { where = 'schedule.' .. name })
    if check then check(o) end
    local first = f(lr, o, 0)
    return function(step)
      if step < o.warmup then
        local share = o.warmup_factor + (1 - o.warmup_factor) * step / o.warmup
        return first * share, select(2, f(lr, o, 0))
      end
      return f(lr, o, step - o.warmup)
    end
  end
end

local function positive(...)
  local names = { ... }
  return function(o)
    for _, name in ipairs(names) do
      if not (o[name] and o[name] > 0) then
        fail('schedule: %s: expected a number above 0, got %s', name, tostring(o[name]))
      end
    end
  end
end

--- schedule.constant(lr, {warmup=0, warmup_factor=0}): always lr.
schedule('constant', {}, function(lr) return lr end)

--- schedule.step(lr, {step_size=, gamma=0.1}): times gamma every step_size steps (StepLR).
-- Example:
-- > local f = vestige.optim.schedule.step(1, { step_size = 10 })
-- > assert(f(9) == 1 and f(10) == 0.1)
schedule('step', { step_size = options.maybe 'number', gamma = 0.1 }, function(lr, o, step)
  return lr * o.gamma ^ math.floor(step / o.step_size)
end, positive 'step_size')

--- schedule.multi_step(lr, {milestones={}, gamma=0.1}): times gamma at each milestone
-- (MultiStepLR).
schedule('multi_step', { milestones = {}, gamma = 0.1 }, function(lr, o, step)
  local passed = 0
  for _, at in ipairs(o.milestones) do
    if step >= at then passed = passed + 1 end
  end
  return lr * o.gamma ^ passed
end)

--- schedule.cosine(lr, {total=, eta_min=0}): half a cosine from lr to eta_min in total steps
-- (CosineAnnealingLR), and eta_min after them.
schedule('cosine', { total = options.maybe 'number', eta_min = 0 }, function(lr, o, step)
  local share = math.min(step, o.total) / o.total
  return o.eta_min + (lr - o.eta_min) * (1 + math.cos(math.pi * share)) / 2
end, positive 'total')

--- schedule.linear(lr, {start_factor=1/3, end_factor=1, total=5}): a straight line between two
-- factors of lr, then level (LinearLR).
schedule('linear', { start_factor = 1 / 3, end_factor = 1, total = 5 }, function(lr, o, step)
  local share = math.min(step, o.total) / o.total
  return lr * (o.start_factor + (o.end_factor - o.start_factor) * share)
end, positive 'total')

local function between(anneal, a, b, share)
  if anneal == 'linear' then return a + (b - a) * share end
  return b + (a - b) / 2 * (1 + math.cos(math.pi * share))
end

--- schedule.one_cycle(max_lr, {total=, pct_start=0.3, anneal='cos', cycle_momentum=true,
-- base_momentum=0.85, max_momentum=0.95, div_factor=25, final_div_factor=1e4, three_phase=false}):
-- up from max_lr / div_factor, down to that over final_div_factor, the momentum the other way
-- (OneCycleLR; Smith and Topin, "Super-convergence", 2017). anneal: 'cos' or 'linear'.
schedule('one_cycle', { total = options.maybe 'number', pct_start = 0.3,
                        anneal = options.one_of('cos', 'linear'),
                        cycle_momentum = true, base_momentum = 0.85, max_momentum = 0.95,
                        div_factor = 25, final_div_factor = 1e4, three_phase = false },
function(max_lr, o, step)
  local initial, peak = max_lr / o.div_factor, o.pct_start * o.total - 1
  local low, high = o.base_momentum, o.max_momentum
  -- Phases: {last step, lr from, lr to, momentum from, momentum to}.
  local phases = { { peak, initial, max_lr, high, low } }
  if o.three_phase then
    phases[2] = { 2 * o.pct_start * o.total - 2, max_lr, initial, low, high }
    phases[3] = { o.total - 1, initial, initial / o.final_div_factor, high, high }
  else
    phases[2] = { o.total - 1, max_lr, initial / o.final_div_factor, low, high }
  end
  local from = 0
  step = math.min(step, o.total - 1)
  for i, phase in ipairs(phases) do
    if step <= phase[1] or i == #phases then
      local share = phase[1] == from and 1 or (step - from) / (phase[1] - from)
      return between(o.anneal, phase[2], phase[3], share),
             o.cycle_momentum and between(o.anneal, phase[4], phase[5], share) or nil
    end
    from = phase[1]
  end
end, positive 'total')

local by_default = { cosine = true, one_cycle = true }

--- schedule.make(o, lr, steps, epoch_steps): a schedule from a plain table {name=, unit='step',
-- ...}. lr: the optimiser's rate (one_cycle's max_lr); steps: of the whole training, the default of
-- total for cosine and one_cycle, less the warm-up; unit='epoch' counts whole epochs of epoch_steps
-- steps, as a PyTorch loop that steps its scheduler once an epoch does. multi_step may have shares
-- of the training, {0.375, 0.625, 0.875}, in place of milestones.
-- Errors: an unknown name, with the nearest one; options as options.merge.
-- Example:
-- > local f = vestige.optim.schedule.make({ name = 'cosine' }, 0.1, 100)
-- > assert(f(0) == 0.1 and f(100) < 1e-9)
-- > f = vestige.optim.schedule.make({ name = 'multi_step', shares = { 0.5 } }, 1, 9)
-- > assert(f(3) == 1 and f(4) == 0.1)
function M.make(o, lr, steps, epoch_steps)
  o = o or { name = 'constant' }
  local defaults = kinds[o.name]
  if not defaults then
    fail("schedule: no schedule '%s'%s", tostring(o.name), nearest.hint(tostring(o.name), kinds))
  end
  local given, whole = {}, o.unit == 'epoch' and epoch_steps or 1
  if o.unit and o.unit ~= 'step' and o.unit ~= 'epoch' then
    fail("schedule: unit: expected step or epoch, got '%s'", tostring(o.unit))
  end
  for k, v in pairs(o) do
    if k ~= 'name' and k ~= 'unit' then given[k] = v end
  end
  if by_default[o.name] and not given.total then
    given.total = math.max(1, math.floor(steps / whole) - (given.warmup or 0))
  end
  if o.name == 'multi_step' and given.shares then
    given.milestones = {}
    for i, share in ipairs(given.shares) do
      given.milestones[i] = math.floor(share * math.floor(steps / whole))
    end
    given.shares = nil
  end
  local f = M[o.name](lr, given)
  return function(step) return f(math.floor(step / whole)) end
end

return M
