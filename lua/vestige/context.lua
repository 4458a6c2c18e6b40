-- The context of attacks and unlearning methods: ctx, their last argument.
--
-- It knows the recipe by which models are trained, the streams that randomness comes from, the
-- budget, and the one trainer. Everything random is drawn from a stream named after its use, so that
-- methods share the poison, the initial weights and the order of batches.
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local train = require 'vestige.train'
local vestige = require 'vestige'

local M = {}

local Context = {}
Context.__index = Context

--- context.new(t): a context. t:
-- seed (0); make(): a new model; recipe: {epochs=, batch_size=, optim=, schedule=, augment=}, see
-- vestige.train; test: a data set; original: the model to unlearn from, read only; budget: steps, nil
-- for the recipe's; clean_model(i): a cached model trained without poisons; checkpoint: where
-- ctx:train keeps its state, every: seconds; quiet; log; rewind; label; loaders.
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
  return vestige.with_generator(vestige.generator(self.seed, 'init'), self.make)
end

-- The recipe's number of steps for a part of n samples.
local function recipe_steps(recipe, n)
  return recipe.epochs * math.ceil(n / recipe.batch_size)
end
M.recipe_steps = recipe_steps

--- ctx:train(model, options): trains the model in place within the budget; see vestige.train.
-- options: as vestige.train, over the recipe's batch size and augmentation; optim (default: the
-- recipe's), schedule (default: none, a constant rate; 'recipe': the recipe's); budget: false for as
-- many steps as the recipe has, by the recipe's optimiser and schedule. Steps and operations are
-- added to ctx.spent.
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
    o.steps = math.min(o.steps or math.huge, self.budget - self.spent.steps)
  end
  if whole or o.schedule == 'recipe' then o.schedule = recipe.schedule end
  o.optim = o.optim or recipe.optim
  o.batch_size = o.batch_size or recipe.batch_size
  o.augment = o.augment or recipe.augment
  o.seed, o.quiet, o.log = o.seed or self.seed, self.quiet, self.log
  o.label, o.loaders, o.rewind = o.label or self.label or 'train', self.loaders, self.rewind
  o.every = self.every
  self.spent.runs = self.spent.runs + 1
  if self.checkpoint then
    -- A method may train more than once: each has a file of its own beside the first.
    o.checkpoint = self.checkpoint .. (self.spent.runs > 1 and '.' .. self.spent.runs or '')
  end
  local result = train(model, o)
  self.spent.steps = self.spent.steps + result.steps
  self.spent.flops = self.spent.flops + result.flops
  self.spent.seconds = self.spent.seconds + result.seconds
  return result
end

return M
