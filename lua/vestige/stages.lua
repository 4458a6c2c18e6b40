-- The stages that make models: poison, train, unlearn (Algorithm 4), and what all stages share.
-- protocol.lua runs them, scoring.lua has those that measure.
local context = require 'vestige.context'
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local json = require 'vestige.json'
local models = require 'vestige.models'
local options = require 'vestige.options'
local plugins = require 'vestige.plugins'
local similarity = require 'vestige.metrics.similarity'
local streams = require 'vestige.data.streams'
local study = require 'vestige.study'
local vestige = require 'vestige'

local M = {}

-- ---- What the stages share ----

-- How a model is made, from plain options.
local function maker(o)
  return function() return models.make(o.name, o.options) end
end

--- stages.load_model(o, record): the model of plain options o that a stage wrote.
function M.load_model(o, record)
  return maker(o)():load(record:path 'model.safetensors')
end

-- A context for a stage that runs in ctx.
local function context_of(o, ctx, more)
  local t = { seed = o.seed, make = maker(o.model), recipe = o.recipe, checkpoint = ctx.checkpoint,
              every = ctx.every, quiet = ctx.quiet, log = ctx.log, rewind = ctx.rewind,
              loaders = ctx.loaders }
  for k, v in pairs(more or {}) do t[k] = v end
  return context.new(t)
end

--- stages.poisoned(clean, record): the poisoned data set again, from the clean one and what the
-- stage poison wrote, and that as a table.
function M.poisoned(clean, record)
  if not record then return clean end
  local p = json.load(record:path 'poison.json')
  local rows = vestige.load(record:path 'rows.safetensors')
  local ids = p.forget
  if p.places == 'append' then
    return clean:append(data.new({ x = rows.x, y = rows.y, id = rows.id },
                                 { classes = clean.classes })), p
  end
  if p.noise and p.noise.unit == 'normalised' then
    return clean:with_noise{ seed = p.noise.seed, variance = p.noise.variance, ids = ids }, p
  end
  return clean:replace(ids, { x = rows.x, y = rows.y }), p
end
--- stages.retained(clean, record): what is left of the clean data set without the samples that
-- the stage poison changed; all of it where the attack adds samples.
function M.retained(clean, record)
  local p = json.load(record:path 'poison.json')
  return p.places == 'append' and clean or clean:without(p.forget)
end

-- The ids in random order, by a named stream of the seed.
local function shuffled(ids, seed, name)
  local list = {}
  for i, at in ipairs(streams.permutation(#ids, vestige.generator(seed, name))) do
    list[i] = ids[at]
  end
  return list
end

--- stages.check_share(share): raises unless it is a share that can be discovered.
function M.check_share(share)
  if type(share) ~= 'number' or not (share > 0 and share <= 1) then
    fail('discovered: expected a share above 0, at most 1, got %s', tostring(share))
  end
end

--- stages.discovered(forget, share, seed): the ids of the poisons that are known, and of those
-- that are not, each in the order of forget: a random share of them (corrective unlearning, Goel et
-- al., 2024), at least one, drawn from the stream discovered.
-- Errors: a share that is not above 0, at most 1.
function M.discovered(forget, share, seed)
  M.check_share(share)
  if share == 1 then return forget, {} end
  local n, known, found, hidden = math.max(1, math.floor(share * #forget + 0.5)), {}, {}, {}
  for i, id in ipairs(shuffled(forget, seed, 'discovered')) do known[id] = i <= n end
  for _, id in ipairs(forget) do table.insert(known[id] and found or hidden, id) end
  return found, hidden
end

--- stages.requests(ids, k, seed): the ids in k parts of equal size (within one), drawn from the
-- stream requests: what is deleted first, second, and so on. One part is the ids as they are.
-- Errors: a number of requests that is not whole, or more than ids.
function M.requests(ids, k, seed)
  if type(k) ~= 'number' or k % 1 ~= 0 or k < 1 or k > #ids then
    fail('requests: expected a whole number from 1 to %d, the samples to forget, got %s', #ids,
         tostring(k))
  end
  if k == 1 then return { ids } end
  local order, parts = shuffled(ids, seed, 'requests'), {}
  for j = 1, k do
    parts[j] = {}
    for i = math.floor(#ids * (j - 1) / k) + 1, math.floor(#ids * j / k) do
      table.insert(parts[j], order[i])
    end
  end
  return parts
end

-- ---- Stages ----

-- Apart from victims' seeds, and from those of protocol.lua.
local REQUEST_SEED = 1000003

-- Options that are tables of others: the attack's, the model's, the recipe's.
local any = options.maybe 'table'

--- The stage poison: options attack, version and options (the attack's), seed, model (of the clean
-- models); inputs data and, for an attack that knows models, test and clean1 .., stages train.
-- Writes poison.json (attack, options, forget, noise, target, y_adv) and rows.safetensors, the
-- poisoned rows. Gives what the attack returns as estimates.
M.poison = study.stage{
  name = 'poison', version = 1,
  defaults = { attack = 'gaussian', version = 1, seed = 0, options = any, model = any },
  run = function(o, inputs, ctx)
    local attack = plugins.find('attacks', o.attack)
    local c = context.new{ seed = o.seed, recipe = {}, test = inputs.test, quiet = ctx.quiet,
      checkpoint = ctx.checkpoint, every = ctx.every, label = o.attack,
      clean = function(i)
        return M.load_model(o.model, inputs['clean' .. i])
      end }
    local result = c:call(attack.poison, inputs.data,
                          plugins.options('attack', attack, o.options or {}))
    if not data.is_dataset(result.data) or type(result.forget) ~= 'table' then
      fail('attack %s: expected {data = a data set, forget = ids}', o.attack)
    end
    local rows = result.data:subset(result.forget)
    vestige.save(ctx.path 'rows.safetensors', { x = rows.x, y = rows.y, id = rows.id })
    json.save(ctx.path 'poison.json', { attack = o.attack, options = o.options,
                                        forget = json.array(result.forget), places = attack.places,
                                        noise = result.noise, y_adv = result.y_adv,
                                        target = result.target, classes = result.classes })
    local out = { poisons = #result.forget, samples = result.data:size() }
    for name, v in pairs(result.estimates or {}) do out[name] = v end
    return out
  end,
}

--- The stage train: options model {name, options}, recipe, seed; inputs data, poison (none: a clean
-- model). Writes model.safetensors.
M.train = study.stage{
  name = 'train', version = 1, defaults = { seed = 0, model = any, recipe = any },
  run = function(o, inputs, ctx)
    local ds = M.poisoned(inputs.data, inputs.poison)
    local c = context_of(o, ctx, { label = 'train' })
    local model = c:fresh()
    local r = c:train(model, { data = ds, budget = false })
    model:save(ctx.path 'model.safetensors')
    return { loss = r.loss, train_accuracy = r.accuracy, steps = c.spent.steps,
             flops = c.spent.flops, train_seconds = r.seconds }
  end,
}

-- What one request of several runs in: files of its own, a log that counts on from the steps
-- before, and other orders and noise than the request before; the initial weights stay.
local function request_context(o, ctx, j, done, more)
  more.seed, more.init_seed = o.seed + REQUEST_SEED * (j - 1), o.seed
  more.logged, more.label = done, o.method
  if o.requests > 1 then more.label = ('%s %d/%d'):format(o.method, j, o.requests) end
  if ctx.checkpoint and j > 1 then
    more.checkpoint = ('%s.request%d'):format(ctx.checkpoint, j)
  end
  return context_of(o, ctx, more)
end

-- What a method makes of a model, checked.
local function unlearned(c, method, o, model, retain, forget)
  model = c:call(method.unlearn, model, retain, forget,
                 plugins.options('method', method, o.options))
  if type(model) ~= 'table' or not model.state_dict then
    fail('method %s: expected unlearn to return a model, got %s', o.method, type(model))
  end
  return model
end

-- The gold standard, from what is retained alone.
local function from_scratch(method, o, retain, ctx)
  local c = context_of(o, ctx, { label = o.method, full = retain })
  local model = unlearned(c, method, o, nil, retain, nil)
  model:save(ctx.path 'model.safetensors')
  return { steps = c.spent.steps, flops = c.spent.flops, train_seconds = c.spent.seconds }
end

--- The stage unlearn: options method, options (the method's), budget (steps), model, recipe, seed,
-- discovered (1), requests (1); inputs data, poison, train. Writes model.safetensors.
-- A method that is the gold standard (`whole`) does without all poisons at once and sees neither
-- them nor the poisoned model: its only input is data, what is retained, and settings that retain
-- the same share it.
-- discovered: the share of the poisons that is known: the method forgets those, and what it retains
-- holds the others. requests: the samples to forget come in that many parts, one after the other:
-- each is unlearned from the model that the last one left, on what remains, without those deleted
-- before, within its share of the budget. A stop between requests, or in one, loses nothing: those
-- that are over are read from their checkpoints.
M.unlearn = study.stage{
  name = 'unlearn', version = 1,
  defaults = { method = 'gd', version = 1, options = any, budget = 0, seed = 0, model = any,
               recipe = any, discovered = 1, requests = 1 },
  run = function(o, inputs, ctx)
    local method = plugins.find('unlearn', o.method)
    if method.whole then return from_scratch(method, o, inputs.data, ctx) end
    local full, p = M.poisoned(inputs.data, inputs.poison)
    local parts = M.requests(M.discovered(p.forget, o.discovered, o.seed), o.requests, o.seed)
    local model = M.load_model(o.model, inputs.train)
    local trained = model:clone()
    local spent = { steps = 0, flops = 0, train_seconds = 0 }
    for j, part in ipairs(parts) do
      local retain, forget = full:without(part), full:subset(part)
      local budget = math.floor(o.budget * j / #parts) - math.floor(o.budget * (j - 1) / #parts)
      local c = request_context(o, ctx, j, spent.steps, {
        budget = budget, full = full, original = j == 1 and trained or model:clone() })
      model = unlearned(c, method, o, model, retain, forget)
      spent.steps, spent.flops = spent.steps + c.spent.steps, spent.flops + c.spent.flops
      spent.train_seconds = spent.train_seconds + c.spent.seconds
      full = retain
    end
    model:save(ctx.path 'model.safetensors')
    spent.moved = similarity.distance(model, trained)
    return spent
  end,
}


return M
