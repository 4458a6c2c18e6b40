-- The context of attacks and unlearning methods: ctx, their last argument.
--
-- It knows the recipe by which models are trained, the streams that randomness comes from, the
-- budget, and the one trainer. Everything random is drawn from a stream named after its use, so
-- that methods share the poison, the initial weights and the order of batches.
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local handle = require 'vestige.handle'
local loops = require 'vestige.loop'
local options = require 'vestige.options'
local train = require 'vestige.train'
local vestige = require 'vestige'

local M = {}

local Context = {}
Context.__index = Context

--- context.new(t): a context. t:
-- seed (0); make(): a new model; recipe: {epochs=, batch_size=, optim=, schedule=, augment=,
-- autocast=}, see vestige.train; test: a data set; original: the model to unlearn from, read only;
-- full: the training data as it was, forgotten samples included;
-- budget: steps, nil for the recipe's; clean(i): a model trained without poisons,
-- the i-th, for ctx:clean_model;
-- checkpoint: where ctx:train keeps its state, every: seconds; quiet; log; rewind; label; loaders;
-- init_seed: of the initial weights (default: seed); logged (0): the step that the log counts on
-- from.
function M.new(t)
  if type(t.recipe) ~= 'table' then fail('context: recipe: expected a table') end
  local self = setmetatable({}, Context)
  for k, v in pairs(t) do self[k] = v end
  self.seed = t.seed or 0
  self.spent = { steps = 0, flops = 0, seconds = 0, runs = 0 }
  self._streams = {}
  return self
end

--- ctx:rng(name): the stream of that name, such as poison, init or unlearn; always the same object.
function Context:rng(name)
  if not self._streams[name] then self._streams[name] = vestige.generator(self.seed, name) end
  return self._streams[name]
end

--- ctx:fresh(): a new model with the initial weights, the same at every call.
function Context:fresh()
  return vestige.with_generator(vestige.generator(self.init_seed or self.seed, 'init'),
                                self.make)
end

--- ctx:clean_model(i): the i-th model trained on the clean data; the same object at every call.
-- Errors: where none is given.
function Context:clean_model(i)
  if not self.clean then fail 'ctx: no clean models are given here' end
  self._clean = self._clean or {}
  self._clean[i] = self._clean[i] or self.clean(i)
  return self._clean[i]
end

-- The recipe's number of steps for a part of n samples.
local function recipe_steps(recipe, n)
  return recipe.epochs * math.ceil(n / recipe.batch_size)
end
M.recipe_steps = recipe_steps

-- log and rewind of a run: its steps are counted on from those of the runs before.
local function logging(self)
  local before, log, rewind = (self.logged or 0) + self.spent.steps, self.log, self.rewind
  return log and function(row)
    local moved = {}
    for name, v in pairs(row) do moved[name] = v end
    if moved.step then moved.step = moved.step + before end
    log(moved)
  end, rewind and function(step) rewind(step + before) end
end

-- A method may train more than once: each run has a file of its own beside the first, and leaves it
-- there when it is over, so that a stage that is started again passes it by.
local function next_checkpoint(self)
  self:close()
  self.spent.runs = self.spent.runs + 1
  if not self.checkpoint then return nil end
  return self.checkpoint .. (self.spent.runs > 1 and '.' .. self.spent.runs or '')
end

--- ctx:train(model, options): trains the model in place within the budget; see vestige.train.
-- options: as vestige.train, over the recipe's batch size, augmentation and autocast; optim
-- (default: the recipe's), schedule (default: none, a constant rate; 'recipe': the recipe's);
-- budget: false for as many steps as the recipe has, by the recipe's optimiser and schedule. Steps
-- and operations are added to ctx.spent.
function Context:train(model, given)
  local o, recipe = {}, self.recipe
  for k, v in pairs(given or {}) do o[k] = v end
  local whole = o.budget == false
  o.budget = nil
  local first = o.data or o.parts and (o.parts.retain or select(2, next(o.parts)))
  first = data.is_dataset(first) and first or type(first) == 'table' and first.data
  if not first then fail('ctx:train: no data: give data= or parts={name = data set}') end
  if whole or not self.budget then
    o.steps = o.steps or recipe_steps(recipe, first:size())
  else
    o.steps = math.max(0, math.min(o.steps or math.huge, self.budget - self.spent.steps))
  end
  if whole or o.schedule == 'recipe' then o.schedule = recipe.schedule end
  o.optim = o.optim or recipe.optim
  o.batch_size = o.batch_size or recipe.batch_size
  o.augment = o.augment or recipe.augment
  if o.autocast == nil then o.autocast = recipe.autocast end
  o.seed, o.quiet = o.seed or self.seed, self.quiet
  o.label, o.loaders = o.label or self.label or 'train', self.loaders
  o.log, o.rewind = logging(self)
  o.every, o.checkpoint = self.every, next_checkpoint(self)
  local result = train(model, o)
  self.spent.steps = self.spent.steps + result.steps
  self.spent.flops = self.spent.flops + result.flops
  self.spent.seconds = self.spent.seconds + result.seconds
  return result
end

local step_defaults = { label = options.maybe 'string', states = options.maybe 'any',
                        streams = options.maybe 'any' }

--- for step in ctx:steps(n, options) do ... end: n steps (1, 2, ...) of a method's own, within the
-- budget, each in a scope of its own, with one live line, Ctrl-C at the step's end, and a
-- checkpoint of what `states` names.
-- options: states: prefix -> object with state_dict and load_state_dict, such as
-- {model = model, optim = opt}; without it nothing is saved; streams: name -> generator; label.
-- What a step makes is gone after it, unless something holds it (vestige.keep). A loop left by
-- break ends at the next use of the context, or when ctx:call returns.
function Context:steps(n, given)
  local o = {}
  for name in pairs(given or {}) do
    if step_defaults[name] == nil then options.merge(step_defaults, { [name] = given[name] }) end
    o[name] = given[name]
  end
  if type(n) ~= 'number' or n < 0 or n % 1 ~= 0 then
    fail('ctx:steps: expected a whole number of steps, got %s', tostring(n))
  end
  local path = next_checkpoint(self)
  if self.budget then n = math.max(0, math.min(n, self.budget - self.spent.steps)) end
  local streams = {}
  for name, stream in pairs(o.streams or {}) do streams[name] = stream end
  for name, stream in pairs(self._streams) do streams[name] = streams[name] or stream end
  local _, rewind = logging(self)
  local loop = loops.new{ total = n, label = o.label or self.label, quiet = self.quiet,
    states = o.states, streams = streams, stream = vestige.generator(self.seed, 'dropout'),
    identity = { steps = n, seed = self.seed }, checkpoint = o.states and path, every = self.every,
    rewind = rewind }
  self._loop = loop
  if loop:begin() then
    self:close()
    return function() end
  end
  return function()
    local step = loop:next()
    if not step then self:close() end
    if step and step > 1 then loop:show() end
    return step
  end
end

--- ctx:close(): ends a loop of ctx:steps, also one that was left by break or by an error, and adds
-- what it took to ctx.spent.
function Context:close()
  local loop, spent = self._loop, self.spent
  if not loop then return end
  self._loop = nil
  loop:stop()
  spent.steps, spent.seconds = spent.steps + loop.step, spent.seconds + loop.seconds
  spent.flops = spent.flops + (loop.numbers.first_flops or 0) * loop.step
end

--- ctx:call(f, ...): f(..., ctx) in a scope, as attacks and methods are called: what it returns
-- outlives the scope, and a loop that it left early is ended.
function Context:call(f, ...)
  local arguments, n = { ... }, select('#', ...)
  arguments[n + 1] = self
  local ok, results = pcall(vestige.scope, function()
    local results = { f(unpack(arguments, 1, n + 1)) }
    if self._loop then handle.move_out(results, self._loop.scope) end
    self:close()
    return results
  end)
  if not ok then
    self:close()
    error(results, 0)
  end
  return unpack(results)
end

return M
