-- Gradient matching's poisons between Vestige and PyTorch, on real images: transfer.sh runs this
-- twice. --step brew: makes poisons by the study's stages, trains victims and clean models, and
-- writes what PyTorch needs. --step score: trains victims on what PyTorch brewed, and tells how the
-- margins of both directions compare. See --help.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local models = require 'vestige.models'
local stages = require 'vestige.stages'
local stats = require 'vestige.stats'
local target = require 'vestige.metrics.target'
local term = require 'vestige.term'
local vestige = require 'vestige'

local e = experiment.start(arg, {
  usage = 'vestige tests/golden/transfer.lua',
  about = 'Poisons made here against victims of PyTorch, and the other way round.',
  attack = 'gradient_matching',
  { 'step', 'brew', 'before PyTorch, or after', choices = { 'brew', 'score' } },
  { 'files', 'out/transfer', 'the folder that both sides share', kind = 'path' },
  { 'seeds', 20, 'pairs: targets', min = 2, kind = 'int' },
  scales = { small = experiment.small{ train = experiment.targeted } },
})
if not e then return end
local o = e.o
fs.mkdir(o.files)

local function pixels(x) return x:dtype() == 'u8' and x:to 'f32' / 255 or x end

local function path(seed, what) return ('%s/%d%s'):format(o.files, seed, what) end

local function brewed(seed)
  local r = e:protocol{ seed = seed, methods = { 'retrain' }, compare = false }
  return r, json.load(r.poison:path 'poison.json')
end

-- ---- Before PyTorch ----

local function places(ids)
  local list = {}
  for i, row in ipairs(e.train:rows(ids)) do list[i] = row - 1 end
  return list
end

if o.step == 'brew' then
  local normalize = e.model.options.normalize
  vestige.save(o.files .. '/data.safetensors', {
    x = e.train.x, y = e.train.y, mean = vestige.tensor(normalize.mean),
    std = vestige.tensor(normalize.std) })
  json.save(o.files .. '/settings.json', { recipe = e.recipe, width = o.width, first = o.seed,
                                           last = o.seed + o.seeds - 1,
                                           attack = o.gradient_matching })
  e:seeds(function(seed)
    local r, p = brewed(seed)
    if e.worker then return r end
    local rows = vestige.load(r.poison:path 'rows.safetensors')
    local t = target.of(e.test, p)
    vestige.save(path(seed, '.safetensors'), {
      rows = vestige.tensor(places(rows.id:tolist()), { dtype = 'i64' }), x = pixels(rows.x),
      target = pixels(t.x), labels = vestige.tensor({ t.y, t.y_adv }, { dtype = 'i64' }) })
    return r
  end)
  return
end

-- ---- After it ----

-- The margin of a victim trained here on what PyTorch brewed.
local function on_theirs(seed, p)
  local ids = {}
  local rows = vestige.load(path(seed, '.safetensors')).rows:tolist()
  local all = e.train:ids()
  for i, row in ipairs(rows) do ids[i] = all[row + 1] end
  local x = vestige.load(path(seed, '-theirs.safetensors')).x
  local record = e.study:run(stages.train, { model = e.model, recipe = e.recipe, seed = seed },
                             { data = e.train:replace(ids, { x = x }) })
  local model = models.make(e.model.name, e.model.options):load(record:path 'model.safetensors')
  return target.measure(model, { target = target.of(e.test, p) }).estimate
end

local margins = e:seeds(function(seed)
  local r, p = brewed(seed)
  local theirs = json.load(path(seed, '-theirs.json'))
  return { ours_on_ours = r.before.estimates.target.estimate,
           clean_here = r.methods[1].score.estimates.target.estimate,
           theirs_on_ours = theirs.victim, clean_there = theirs.clean,
           ours_on_theirs = on_theirs(seed, p) }
end)

local function column(name)
  local list = {}
  for i, m in ipairs(margins) do list[i] = m[name] end
  return list
end

local rows = {}
for _, pair in ipairs {
  { 'poisons and victim here, less clean', 'ours_on_ours', 'clean_here' },
  { 'poisons here, victim in PyTorch, less clean', 'theirs_on_ours', 'clean_there' },
  { 'poisons in PyTorch, victim here, less clean', 'ours_on_theirs', 'clean_here' },
  { 'victim here less victim in PyTorch, poisons here', 'ours_on_ours', 'theirs_on_ours' },
  { 'poisons here less poisons in PyTorch, victim here', 'ours_on_ours', 'ours_on_theirs' },
} do
  local d = stats.paired_t_test(column(pair[2]), column(pair[3]))
  rows[#rows + 1] = { pair[1], format.interval(d, 2), format.probability(d.p), #margins }
end
json.save(o.files .. '/margins.json', margins)
print(term.table(rows, { header = { 'margin log p(y_adv) - log p(y)', 'difference [95 %]', 'p',
                                    'pairs' }, width = 110 }))
