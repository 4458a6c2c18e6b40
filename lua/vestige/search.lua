-- The search over an unlearning method's options: its grid as stages of the protocol, and the
-- choice of one setting. `vestige search` drives it.
--
-- The paper reports the best test accuracy over its search (the caption of Table 2): what is chosen
-- on the test images flatters the method. By default a part of the training images is held out,
-- before they are poisoned, and chosen on; the models are then trained on the others.
local collapse = require 'vestige.metrics.collapse'
local fail = require 'vestige.fail'
local json = require 'vestige.json'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'
local plugins = require 'vestige.plugins'
local protocol = require 'vestige.protocol'
local streams = require 'vestige.data.streams'
local study = require 'vestige.study'
local vestige = require 'vestige'

local M = {}

-- ---- What is best ----

local nan = 0 / 0

local function collapsed(before, after)
  return collapse.since(before.collapse, after.collapse) ~= nil
end

-- The share of the influence that is left.
local function remaining(before, after)
  return after.gus and math.abs(after.gus.estimate) / math.abs(before.gus.estimate) or nan
end

--- search.criteria: what one may choose by: name -> {text, value(before, after)}, the value from
-- the estimates of the stages score before and after unlearning: the larger the better. By gus and
-- tradeoff a model that collapsed is never chosen: no influence is left because nothing is.
M.criteria = {
  accuracy = {
    text = 'the largest accuracy',
    value = function(_, after) return after.accuracy.estimate end,
  },
  gus = {
    text = 'the smallest |GUS|, whatever the accuracy',
    value = function(before, after)
      return after.gus and not collapsed(before, after) and -math.abs(after.gus.estimate) or nan
    end,
  },
  tradeoff = {
    text = 'the largest accuracy minus |GUS| / |GUS before|, the share of the influence left',
    value = function(before, after)
      return collapsed(before, after) and nan or after.accuracy.estimate - remaining(before, after)
    end,
  },
}

-- ---- The settings ----

--- search.read_grid(words): words OPTION=VALUE,VALUE as a grid {option = values}; a value is a
-- number, true, false or a text.
-- Errors, told as the user's: a word without '='.
-- Example:
-- > local grid = require('vestige.search').read_grid{ 'lr=0.1,1', 'norm=eval' }
-- > assert(grid.lr[2] == 1 and grid.norm[1] == 'eval')
function M.read_grid(words)
  local grid = {}
  local function value_of(word)
    if word == 'true' or word == 'false' then return word == 'true' end
    return tonumber(word) or word
  end
  for _, word in ipairs(words) do
    local name, list = word:match '^([%w_.-]+)=(.+)$'
    if not name then error(("expected OPTION=VALUE,VALUE..., got '%s'"):format(word), 0) end
    grid[name] = {}
    for item in list:gmatch '[^,]+' do table.insert(grid[name], value_of(item)) end
  end
  return grid
end

--- search.points(grid, most, seed): the settings of a grid {option = values}: every combination, by
-- option's name and in the order of the values, as tables; where there are more than most (0: no
-- limit), that many at random, in the same order.
-- Example:
-- > local points = require('vestige.search').points{ lr = { 1, 2 }, k = { 3 } }
-- > assert(#points == 2 and points[2].lr == 2 and points[2].k == 3)
function M.points(grid, most, seed)
  local names, points = {}, { {} }
  for name in pairs(grid) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local longer = {}
    for _, point in ipairs(points) do
      for _, value in ipairs(grid[name]) do
        local copy = { [name] = value }
        for k, v in pairs(point) do copy[k] = v end
        longer[#longer + 1] = copy
      end
    end
    points = longer
  end
  if not most or most == 0 or most >= #points then return points end
  local order = streams.permutation(#points, vestige.generator(seed or 0, 'search'))
  local drawn, some = {}, {}
  for i = 1, most do drawn[order[i]] = true end
  for i, point in ipairs(points) do
    if drawn[i] then some[#some + 1] = point end
  end
  return some
end

-- ---- The stage ----

local any = options.maybe 'table'

--- search.mean(values): the mean over seeds, NaN where one of them is.
-- Example:
-- > assert(require('vestige.search').mean{ 1, 2 } == 1.5)
function M.mean(values)
  local sum = 0
  for _, v in ipairs(values) do sum = sum + v end
  return sum / #values
end

-- What became of one setting over the seeds.
local function summary(o, inputs, i)
  local out = { options = o.points[i], accuracy = {}, gus = {}, remaining = {}, values = {} }
  for j in ipairs(o.seeds) do
    local before = inputs['before' .. j].estimates
    local after = inputs[('score%d_%d'):format(i, j)].estimates
    if not before.gus and o.by ~= 'accuracy' then
      fail("search: by '%s': the attack plants no noise, so there is no GUS", o.by)
    end
    out.accuracy[j] = after.accuracy.estimate
    out.gus[j] = after.gus and after.gus.estimate or nan
    out.remaining[j] = before.gus and remaining(before, after) or nan
    out.values[j] = M.criteria[o.by].value(before, after)
  end
  out.value = M.mean(out.values)
  return out
end

--- The stage search: options method, by, select, seeds, points; inputs before<seed> and
-- score<point>_<seed>, stages score. Gives best, the number of the chosen setting (of equals the
-- first); points: each one's options, accuracy, gus, remaining and values by seed, and value, the
-- mean that is compared; blind: the seeds whose model did not depend on the noise before
-- unlearning, so that what remains of it says nothing.
M.stage = study.stage{
  name = 'search', version = 1,
  defaults = { method = '', by = 'accuracy', select = 'validation', seeds = any, points = any },
  run = function(o, inputs)
    local points, best = {}, nil
    for i = 1, #o.points do
      points[i] = summary(o, inputs, i)
      local value = points[i].value
      if value == value and (not best or value > points[best].value) then best = i end
    end
    if not best then fail("search: by '%s': no setting leaves a model that has it", o.by) end
    local blind = {}
    for j, seed in ipairs(o.seeds) do
      local gus = inputs['before' .. j].estimates.gus
      if gus and not gus.rejects then blind[#blind + 1] = seed end
    end
    return { best = best, points = points, blind = json.array(blind) }
  end,
}

-- ---- The search ----

local Search = {}
Search.__index = Search

--- search.new(s, t): a search in a study s. t: as protocol.run's, and method, a name; grid
-- ({option = values}): over the method's own; most (0): see search.points; seeds (a list);
-- by ('accuracy', 'gus', 'tradeoff'): see search.criteria, means over the seeds are compared;
-- select ('validation'): on what accuracy is measured, or 'test'; validation (0.1): the share of
-- the training images that is held out for it.
-- Fields: points, the settings; seeds; where: in words, on what accuracy is measured.
-- Errors: an unknown method, option or criterion with the nearest name; nothing to search over.
function M.new(s, t)
  local method = plugins.find('unlearn', t.method)
  local grid = {}
  for name, values in pairs(method.grid or {}) do grid[name] = values end
  for name, values in pairs(t.grid or {}) do grid[name] = values end
  options.merge(method.defaults or {}, {}, { where = 'method ' .. method.name, grid = grid })
  if next(grid) == nil then
    fail('search: method %s has no grid: name values of its options', method.name)
  end
  local by, on = t.by or 'accuracy', t.select or 'validation'
  if not M.criteria[by] then fail("search: by '%s'%s", by, nearest.hint(by, M.criteria)) end
  local settings = {}
  for name, v in pairs(t) do settings[name] = v end
  local where = ('the %d test images, as the paper does: this flatters the method')
    :format(t.test:size())
  if on == 'validation' then
    local share = t.validation or 0.1
    settings.test, settings.train = t.train:split(share, vestige.generator(0, 'validation'))
    where = ('%d images held out of the training images before poisoning'):format(
      settings.test:size())
  elseif on ~= 'test' then
    fail("search: select: expected 'validation' or 'test', got '%s'", tostring(on))
  end
  return setmetatable({ study = s, settings = settings, method = method.name, by = by, select = on,
    points = M.points(grid, t.most, t.seed), seeds = t.seeds or { t.seed or 0 }, where = where },
    Search)
end

--- search.text(point): a setting in words, such as lr=0.001 sigma2=1e-06.
-- Example:
-- > assert(require('vestige.search').text{ lr = 0.001, k = 3 } == 'k=3 lr=0.001')
function M.text(point)
  local names, words = {}, {}
  for name in pairs(point) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do words[i] = ('%s=%s'):format(name, options.text(point[name])) end
  return table.concat(words, ' ')
end

--- search:tasks(): every setting with every seed: a list of {i, j, label}, the numbers of the point
-- and of the seed.
function Search:tasks()
  local tasks = {}
  for j, seed in ipairs(self.seeds) do
    for i, point in ipairs(self.points) do
      tasks[#tasks + 1] = { i = i, j = j, label = ('%s seed %d'):format(M.text(point), seed) }
    end
  end
  return tasks
end

--- search:run(task): the protocol with one setting and seed; stages that are there are read.
function Search:run(task)
  local t = {}
  for name, v in pairs(self.settings) do t[name] = v end
  t.methods, t.seed = { self.method }, self.seeds[task.j]
  t.method_options = { [self.method] = self.points[task.i] }
  return protocol.run(self.study, t)
end

--- search:choose(told): runs what is not there, and gives the record of the stage search, whose
-- estimates name the best. told(task) is called before each task.
function Search:choose(told)
  local inputs = {}
  for _, task in ipairs(self:tasks()) do
    if told then told(task) end
    local r = self:run(task)
    inputs['before' .. task.j] = r.before
    inputs[('score%d_%d'):format(task.i, task.j)] = r.methods[1].score
  end
  return self.study:run(M.stage, { method = self.method, by = self.by, select = self.select,
                                   seeds = self.seeds, points = self.points }, inputs)
end

return M
