-- vestige.try: a first look at a new attack or unlearning method: tiny real data, the whole
-- protocol, clean and retrained models beside it, told in words.
local collapse = require 'vestige.metrics.collapse'
local context = require 'vestige.context'
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local gus = require 'vestige.metrics.gus'
local models = require 'vestige.models'
local plugins = require 'vestige.plugins'
local protocol = require 'vestige.protocol'
local similarity = require 'vestige.metrics.similarity'
local stats = require 'vestige.stats'
local target = require 'vestige.metrics.target'
local term = require 'vestige.term'

local M = {}

local function recipe(epochs)
  return { epochs = epochs, batch_size = 100, augment = {},
           optim = { name = 'sgd', lr = 0.05, momentum = 0.9, weight_decay = 5e-4 },
           schedule = { name = 'one_cycle' } }
end

-- 1,000 training and 1,000 test images of Fashion-MNIST, in order of the files.
local function tiny()
  local read = require('vestige.data.readers').fashion_mnist()
  local train = data.new(read.train, { classes = read.classes }):first(1000)
  local test = data.new(read.test, { classes = read.classes, first_id = 60000 }):first(1000)
  return train, test
end

local function new_context(o)
  local c = { seed = o.seed or 1, recipe = recipe(o.epochs), quiet = o.quiet, test = o.test,
              label = o.label, budget = o.budget, original = o.original, full = o.full,
              clean = o.clean,
              make = function()
                return models.resnet9{ width = 8, channels = 1,
                                       normalize = models.statistics.fashion_mnist }
              end }
  return context.new(c)
end

local function load_plugin(path)
  local chunk, err = loadfile(path)
  if not chunk then error(err, 0) end
  local plugin = chunk()
  if type(plugin) == 'table' and plugin.poison then
    return plugins.check('attacks', plugin, path), 'attack'
  elseif type(plugin) == 'table' and plugin.unlearn then
    return plugins.check('unlearn', plugin, path), 'method'
  end
  fail('%s: expected a file that returns a table with poison (an attack) or unlearn (a method)',
       path)
end

-- What an attack gave, checked in words.
local function check_poison(p, clean, name)
  if type(p) ~= 'table' or not data.is_dataset(p.data) then
    fail("attack %s: poison returned no {data = a data set, forget = ids}", name)
  end
  if type(p.forget) ~= 'table' then fail('attack %s: forget: expected a list of ids', name) end
  local changed = p.data:hash() ~= clean:hash()
  return changed and #p.forget > 0
end

local function percent(v) return ('%.1f %%'):format(100 * v) end

-- Both scores of a model: accuracy, and the canaries' I where noise was planted.
local function scored(model, test, base, noise)
  local s = { collapse = collapse.measure(model, { test = test }) }
  s.accuracy = s.collapse.estimate
  if noise then s.I = gus.scores(model, base, noise) end
  return s
end

local function row(name, s, words)
  local mean = false
  if s.I then
    local I = gus.nonzero(s.I)
    mean = #I > 0 and ('%.3f'):format(stats.mean(I))
  end
  return { name, percent(s.accuracy), mean, words or false }
end

--- try.run(path, options): runs the protocol on the plug-in in a file and prints what came out.
-- An attack is unlearned by retraining; a method unlearns Gaussian poisons. Where a plug-in has a
-- table `try`, these are its options here. options: quiet; epochs
-- (12).
-- Returns the table that it prints and the sentence below it.
-- Errors: a file that is no plug-in; what the plug-in raises, with the file's line.
function M.run(path, options)
  local o = { quiet = options and options.quiet, epochs = options and options.epochs or 12 }
  local plugin, kind = load_plugin(path)
  local function say(...) if not o.quiet then print(...) end end
  local train, test = tiny()
  local attack = kind == 'attack' and plugin or plugins.find('attacks', 'gaussian')
  local given = kind == 'method' and { share = 0.1 } or plugin.try or {}
  local function clean_model(i) -- for attacks that know models
    local c = new_context{ quiet = o.quiet, epochs = o.epochs, label = 'clean ' .. i,
                           seed = 100 + i }
    local model = c:fresh()
    c:train(model, { data = train, budget = false })
    return model
  end
  local p = new_context{ quiet = o.quiet, epochs = o.epochs, test = test,
                         clean = clean_model }:call(
    attack.poison, train, plugins.options('attack', attack, given))
  if not check_poison(p, train, attack.name) then
    local words = ('%s changes nothing: no row differs from the clean data.'):format(plugin.name)
    say(words)
    return {}, words
  end
  say(('%s %s: %d of %d rows'):format(attack.name, attack.places or 'poisons', #p.forget,
                                      p.data:size()))
  local function trained(ds, label)
    local c = new_context{ quiet = o.quiet, epochs = o.epochs, label = label }
    local model = c:fresh()
    c:train(model, { data = ds, budget = false })
    return model, c.spent.steps
  end
  local retain, base = p.data:without(p.forget), p.noise and train:subset(p.forget)
  local original, steps = trained(p.data, 'poisoned')
  local clean = trained(train, 'clean')
  local retrained = trained(retain, 'retrained')
  local before = scored(original, test, base, p.noise)
  local rows = { row('clean', scored(clean, test, base, p.noise)),
                 row('poisoned', before),
                 row('retrained', scored(retrained, test, base, p.noise)) }
  local words = ('%s: test accuracy %s poisoned, %s clean.'):format(plugin.name,
                                                                  rows[2][2], rows[1][2])
  if p.target then
    local goal = { target = target.of(test, p) }
    local after, without = target.measure(original, goal), target.measure(clean, goal)
    words = ('%s The target is %s; margin %.2f, %.2f clean.'):format(words,
            after.hit and 'taken for the class' or 'not taken for the class', after.estimate,
            without.estimate)
  end
  if kind == 'method' then
    local c = new_context{ quiet = o.quiet, epochs = o.epochs, label = plugin.name, test = test,
                           original = original, full = p.data,
                           budget = math.max(1, math.floor(steps / 10)) }
    local model = c:call(plugin.unlearn, original:clone(), retain, p.data:subset(p.forget),
                         plugins.options('method', plugin, plugin.try or {}))
    if type(model) ~= 'table' or not model.named_parameters then
      fail('method %s: expected unlearn to return a model, got %s', plugin.name, type(model))
    end
    local after = scored(model, test, base, p.noise)
    local judged = protocol.judge_scores(before.I, after.I,
                                         collapse.since(before.collapse, after.collapse))
    rows[#rows + 1] = row(plugin.name, after, judged.text)
    if similarity.distance(model, original) == 0 then
      words = ('%s moves nothing: the model is the same as before.'):format(plugin.name)
    else
      words = judged.sentence
    end
  end
  local text = term.table(rows, { header = { 'model', 'test acc.', 'GUS', 'verdict' } })
  say(text)
  say(words)
  return rows, words
end

return M
