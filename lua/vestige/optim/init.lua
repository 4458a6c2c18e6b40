-- vestige.optim: SGD, Adam, AdamW and LBFGS with PyTorch's defaults, and clipping; optim.schedule
-- has the learning-rate schedules.
--
-- An optimiser holds its parameters by name; its state is keyed by name, allocated when it is built
-- and kept out of scopes. A step is one engine call a group, which checks everything first,
-- allocates nothing and cannot fail half way. As in PyTorch each parameter counts its own steps.
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = { schedule = require 'vestige.optim.schedule', LBFGS = require 'vestige.optim.lbfgs' }

local Optimizer = {}
Optimizer.__index = Optimizer

-- ---- Parameters: a module, an iterator of names and tensors, a list of tensors ----

-- Calls add(name, tensor) for each; tensors of a list are named 0, 1, ... as PyTorch counts them.
local function each(params, add)
  if type(params) == 'table' and params.named_parameters then
    params = params:named_parameters()
  end
  if type(params) == 'function' then
    for name, t in params do add(name, t) end
  elseif type(params) == 'table' then
    for i, t in ipairs(params) do
      if not vestige.is_tensor(t) then
        fail('optim: parameter %d: expected a tensor, got %s', i, type(t))
      end
      add(tostring(i - 1), t)
    end
  else
    fail('optim: params: expected a module, named_parameters() or a list, got %s', type(params))
  end
end

local function is_groups(params)
  return type(params) == 'table' and type(params[1]) == 'table' and params[1].params ~= nil
end

local function state_like(t)
  return vestige.no_grad(function() return vestige.zeros_like(t):keep() end)
end

-- Each parameter as {name, tensor, group}, in order, each tensor once.
local function collect(self, params, o)
  local groups = is_groups(params) and params or { { params = params } }
  local address, seen = require('vestige.nn.module').address, {}
  for i, given in ipairs(groups) do
    local own = {}
    for k, v in pairs(o) do own[k] = v end
    for k, v in pairs(given) do
      if k ~= 'params' and k ~= 'prefix' then own[k] = v end
    end
    own = options.merge(self.kind.defaults, own, { where = ('optim.%s'):format(self.kind.name) })
    local group = { names = {}, tensors = {}, options = own }
    each(given.params, function(name, t)
      name = (given.prefix or '') .. name
      if not t:requires_grad() or seen[address(t)] then return end
      if self.by_name[name] then
        fail("optim: two parameters are called '%s'; give group %d a prefix", name, i)
      end
      seen[address(t)] = true
      self.by_name[name] = t
      group.names[#group.names + 1], group.tensors[#group.tensors + 1] = name, t
    end)
    self.groups[i] = group
  end
  if next(self.by_name) == nil then fail('optim: no parameter requires a gradient') end
end

-- ---- Masks ----

local function set_masks(self, masks)
  local address, found = require('vestige.nn.module').address, {}
  for key, mask in pairs(masks) do
    local name = key
    if vestige.is_tensor(key) then
      name = nil
      for known, t in pairs(self.by_name) do
        if address(t) == address(key) then name = known end
      end
    end
    local t = self.by_name[name]
    if not t then
      fail("optim: masks: no parameter '%s'%s", tostring(key),
           nearest.hint(tostring(key), self.by_name))
    end
    if table.concat(t:shape(), ',') ~= table.concat(mask:shape(), ',') then
      fail("optim: masks: '%s': expected shape (%s), got (%s)", name,
           table.concat(t:shape(), ','), table.concat(mask:shape(), ','))
    end
    found[name] = mask:ne(0):keep()
  end
  if next(found) == nil then return nil end
  for name, t in pairs(self.by_name) do -- the engine takes one for each parameter, or none
    found[name] = found[name] or vestige.ones(t:shape(), { dtype = 'bool' }):keep()
  end
  return found
end

-- ---- The kinds ----

local function kind(name, defaults, slots, step)
  local k = { name = name, defaults = defaults, slots = slots, step = step }
  M[name] = function(params, o)
    o = o or {}
    local plain = {}
    for key, v in pairs(o) do
      if key ~= 'masks' then plain[key] = v end
    end
    local self = setmetatable({ kind = k, groups = {}, by_name = {}, state = {}, count = {},
                                module = type(params) == 'table' and params.layouts and params },
                              Optimizer)
    collect(self, params, plain)
    for key in pairs(self.by_name) do self.count[key] = 0 end
    self.masks = set_masks(self, o.masks or {})
    for _, group in ipairs(self.groups) do
      k.check(group.options)
      for _, slot in ipairs(k.slots(group.options)) do
        local list = {}
        for i, t in ipairs(group.tensors) do
          list[i] = state_like(t)
          self.state[group.names[i] .. '.' .. slot] = list[i]
        end
        group[slot] = list
      end
    end
    return self
  end
  return k
end

local function at_least_zero(name, o, ...)
  for _, key in ipairs { ... } do
    if not (o[key] >= 0 and o[key] < math.huge) then
      fail('optim.%s: %s: expected at least 0, got %s', name, key, tostring(o[key]))
    end
  end
end

--- optim.SGD(params, {lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=false,
-- maximize=false, masks=nil}): stochastic gradient descent as torch.optim.SGD.
-- params: a module, module:named_parameters(), a list of tensors, or a list of groups
-- {params=, prefix='', lr=, ...} whose options go before the table's. Parameters without
-- requires_grad are left out. masks: name or parameter -> tensor; where it is 0 the parameter stays
-- as it is, whatever decay and momentum say.
-- Example:
-- > local optim = vestige.optim
-- > local w = vestige.tensor({ 1 }, { requires_grad = true })
-- > local opt = optim.SGD({ w }, { lr = 0.1 })
-- > opt:step{ vestige.tensor{ 2 } }
-- > assert(math.abs(w:item() - 0.8) < 1e-6)
local SGD = kind('SGD', { lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0,
                          nesterov = false, maximize = false },
  function(o) return o.momentum ~= 0 and { 'momentum_buffer' } or {} end,
  function(o, run, step)
    vestige.sgd_step_(run.params, run.grads, run.momentum_buffer or {}, run.masks,
                      { lr = o.lr, momentum = o.momentum, dampening = o.dampening,
                        weight_decay = o.weight_decay, nesterov = o.nesterov,
                        maximize = o.maximize, first = step == 1 })
  end)

function SGD.check(o)
  at_least_zero('SGD', o, 'lr', 'momentum', 'weight_decay')
  if o.nesterov and (o.momentum <= 0 or o.dampening ~= 0) then
    fail('optim.SGD: nesterov: needs a momentum and zero dampening')
  end
end

local function adam(name, weight_decay, decoupled)
  local k = kind(name, { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, maximize = false,
                         weight_decay = weight_decay, amsgrad = false },
    function(o) return { 'exp_avg', 'exp_avg_sq', o.amsgrad and 'max_exp_avg_sq' or nil } end,
    function(o, run, step)
      vestige.adamw_step_(run.params, run.grads, run.exp_avg, run.exp_avg_sq,
                          run.max_exp_avg_sq or {}, run.masks,
                          { lr = o.lr, beta1 = o.betas[1], beta2 = o.betas[2], eps = o.eps,
                            weight_decay = o.weight_decay, decoupled = decoupled,
                            maximize = o.maximize, step = step })
    end)
  function k.check(o)
    at_least_zero(name, o, 'lr', 'eps', 'weight_decay')
    for i = 1, 2 do
      local b = o.betas[i]
      if #o.betas ~= 2 or not (b >= 0 and b < 1) then
        fail('optim.%s: betas: expected two numbers from 0 to below 1', name)
      end
    end
  end
end

--- optim.Adam(params, {lr=1e-3, betas={0.9,0.999}, eps=1e-8, weight_decay=0, amsgrad=false,
-- maximize=false, masks=nil}): as torch.optim.Adam: the decay is part of the gradient. params,
-- masks: see SGD.
adam('Adam', 0, false)
--- optim.AdamW(params, {lr=1e-3, betas={0.9,0.999}, eps=1e-8, weight_decay=1e-2,
-- amsgrad=false, maximize=false, masks=nil}): as torch.optim.AdamW: the decay shrinks the
-- parameters directly.
adam('AdamW', 1e-2, true)

--- optim.make(params, o): an optimiser from a plain table {name='sgd|adam|adamw', lr=, ...}.
-- Errors: an unknown name, with the nearest one.
function M.make(params, o)
  local names = { sgd = 'SGD', adam = 'Adam', adamw = 'AdamW' }
  local name = names[tostring(o.name or 'sgd'):lower()]
  if not name then
    fail("optim: no optimiser '%s'%s", tostring(o.name), nearest.hint(tostring(o.name), names))
  end
  local rest = {}
  for k, v in pairs(o) do
    if k ~= 'name' then rest[k] = v end
  end
  return M[name](params, rest)
end

-- ---- Steps ----

--- opt:parameters(): the list of parameters, in the order in which step takes gradients.
function Optimizer:parameters()
  local list = {}
  for _, group in ipairs(self.groups) do
    for _, t in ipairs(group.tensors) do list[#list + 1] = t end
  end
  return list
end

-- A run: {params=, grads=, masks=, names=, count=, and a list of tensors for each slot}. Its
-- parameters have a gradient and made `count` steps.

-- A group as the one run that it nearly always is, kept from step to step; nil when it is not.
local function whole_run(self, group, grads)
  local names, count = group.names, self.count[group.names[1]]
  for i = 1, #names do
    if not grads[i] or self.count[names[i]] ~= count then return nil end
  end
  local run = group.run
  if not run then
    run = { params = group.tensors, names = names }
    if self.masks then
      run.masks = {}
      for i = 1, #names do run.masks[i] = self.masks[names[i]] end
    end
    for _, slot in ipairs(self.kind.slots(group.options)) do run[slot] = group[slot] end
    group.run = run
  end
  run.grads, run.count = grads, count
  return run
end

local function runs_of(self, group, grads)
  local slots, runs, by_count = self.kind.slots(group.options), {}, {}
  for i, t in ipairs(group.tensors) do
    local g = grads[i]
    if g then
      local count = self.count[group.names[i]]
      local run = by_count[count]
      if not run then
        run = { params = {}, grads = {}, masks = self.masks and {}, names = {}, count = count }
        for _, slot in ipairs(slots) do run[slot] = {} end
        by_count[count], runs[#runs + 1] = run, run
      end
      local k = #run.params + 1
      run.params[k], run.grads[k], run.names[k] = t, g, group.names[i]
      if self.masks then run.masks[k] = self.masks[group.names[i]] end
      for _, slot in ipairs(slots) do run[slot][k] = group[slot][i] end
    end
  end
  return runs
end

-- The gradients of a group: its part of a list for all groups, or its parameters' .grad.
local function gradients_of(group, grads, at)
  local n, list = #group.tensors, {}
  for i = 1, n do
    if grads then list[i] = grads[at + i] else list[i] = group.tensors[i].grad or false end
  end
  return list
end

local function step_run(self, group, run)
  self.kind.step(group.options, run, run.count + 1)
  for i = 1, #run.names do self.count[run.names[i]] = run.count + 1 end
  run.grads = nil -- a run that is kept holds no gradients
end

local function step_all(self, grads)
  local at = 0
  for _, group in ipairs(self.groups) do
    local own = grads and #self.groups == 1 and grads or gradients_of(group, grads, at)
    local run = whole_run(self, group, own)
    if run then
      step_run(self, group, run)
    else
      for _, part in ipairs(runs_of(self, group, own)) do step_run(self, group, part) end
    end
    at = at + #group.tensors
  end
end

--- opt:step(grads): one step of all parameters.
-- grads: a list in the order of opt:parameters(), false where there is none, as vestige.grad gives
-- it; without it the parameters' .grad are taken. Parameters without a gradient stay.
function Optimizer:step(grads)
  if grads and type(grads) ~= 'table' then
    fail('step: expected a list of gradients, got %s', type(grads))
  end
  local count = 0
  for _, group in ipairs(self.groups) do count = count + #group.tensors end
  if grads and #grads ~= count then
    fail('step: expected %d gradients, got %d', count, #grads)
  end
  vestige.scope(vestige.no_grad, step_all, self, grads)
end

--- opt:zero_grad(): removes the gradients of all parameters.
function Optimizer:zero_grad()
  for _, t in ipairs(self:parameters()) do t.grad = nil end
end

--- opt:set_masks(masks): other masks from the next step on; see optim.SGD. nil: none.
function Optimizer:set_masks(masks)
  self.masks = set_masks(self, masks or {})
  for _, group in ipairs(self.groups) do group.run = nil end
end

--- opt:set_momentum(momentum): SGD's momentum, or Adam's first beta.
function Optimizer:set_momentum(momentum)
  local betas = self.groups[1].options.betas
  if betas then self:set('betas', { momentum, betas[2] }) else self:set('momentum', momentum) end
end

--- opt:set_lr(lr): the learning rate of the next steps; groups keep their ratios to the first.
-- opt:lr(): that of the first group. opt:set(name, value) sets another option in all groups.
function Optimizer:set_lr(lr)
  self.base = self.base or self:base_rates()
  for i, group in ipairs(self.groups) do
    group.options.lr = self.base[1] == 0 and lr or lr * (self.base[i] / self.base[1])
  end
end

function Optimizer:base_rates()
  local rates = {}
  for i, group in ipairs(self.groups) do rates[i] = group.options.lr end
  return rates
end

function Optimizer:lr()
  return self.groups[1].options.lr
end

--- opt:set(name, value): sets an option (momentum, betas, ...) in all groups.
function Optimizer:set(name, value)
  for _, group in ipairs(self.groups) do
    if group.options[name] == nil then
      fail("optim.%s: unknown option '%s'%s", self.kind.name, name,
           nearest.hint(name, group.options))
    end
    if name == 'momentum' and value ~= 0 and not group.momentum_buffer then
      fail('optim.SGD: it has no momentum buffers: build it with a momentum')
    end
    group.options[name], group.run = value, nil
  end
end

-- ---- State ----

--- opt:state_dict(): name.slot -> tensor (momentum_buffer; exp_avg, exp_avg_sq) and name.step, how
-- many steps the parameter made. The tensors share the optimiser's storage.
function Optimizer:state_dict()
  local state = {}
  for key, t in pairs(self.state) do state[key] = t:detach() end
  for name, n in pairs(self.count) do
    state[name .. '.step'] = vestige.tensor(n, { dtype = 'i64' })
  end
  return state
end

--- opt:layouts(): the layout in files of the entries of state_dict that differ from memory: that of
-- their parameters.
function Optimizer:layouts()
  local of, layouts = self.module and self.module:layouts() or {}, {}
  for key in pairs(self.state) do layouts[key] = of[key:match '^(.*)%.[^.]*$'] end
  return layouts
end

--- opt:load_state_dict(state): copies a state_dict back.
-- Raises and changes nothing when an entry is missing, unknown or of another shape.
function Optimizer:load_state_dict(state)
  local own = self:state_dict()
  for key, t in pairs(own) do
    local given = state[key]
    if not given then fail("load_state_dict: '%s' is missing", key) end
    if table.concat(given:shape(), ',') ~= table.concat(t:shape(), ',') then
      fail("load_state_dict: '%s': expected shape (%s), got (%s)", key,
           table.concat(t:shape(), ','), table.concat(given:shape(), ','))
    end
  end
  for key in pairs(state) do
    if not own[key] then
      fail("load_state_dict: unknown entry '%s'%s", key, nearest.hint(key, own))
    end
  end
  for name in pairs(self.count) do self.count[name] = state[name .. '.step']:item() end
  for key, t in pairs(self.state) do t:copy_(state[key]) end
  return self
end

-- ---- Clipping ----

local function gradients(list)
  if type(list) == 'table' and (list.parameters or list.named_parameters) then
    list = list:parameters()
  end
  local out = {}
  for i = 1, #list do
    local t = list[i]
    if t and t:requires_grad() and t:is_leaf() then t = t.grad end
    if t then out[#out + 1] = t end
  end
  return out
end

--- optim.clip_grad_norm_(params, max_norm, norm_type): scales gradients so that their joint norm is
-- at most max_norm, as torch.nn.utils.clip_grad_norm_: by max_norm / (norm + 1e-6) where that is
-- below 1. Returns the norm before, a number.
-- params: a module, an optimiser or a list of parameters (their .grad), or a list of gradients,
-- false for none. norm_type: 2, 1 or math.huge.
function M.clip_grad_norm_(params, max_norm, norm_type)
  local grads = gradients(params)
  if #grads == 0 then return 0 end
  return vestige.scope(vestige.no_grad, function()
    local total = vestige.total_norm(grads, { norm_type = norm_type or 2 })
    vestige.clip_norm_(grads, total, { max_norm = max_norm })
    return total:item()
  end)
end

--- optim.clip_grad_value_(params, value): clamps every gradient to [-value, value].
-- params: as clip_grad_norm_.
function M.clip_grad_value_(params, value)
  local grads = gradients(params)
  vestige.no_grad(function()
    for _, g in ipairs(grads) do g:clamp_(-value, value) end
  end)
end

return M
