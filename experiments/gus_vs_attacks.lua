-- Does GUS tell what remains of other attacks? Every method on Gaussian poisons, on a targeted and
-- on an indiscriminate attack: what is left of each, method by method. See --help.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local grid = require 'vestige.grid'
local options = require 'vestige.options'
local plot = require 'vestige.plot'
local plugins = require 'vestige.plugins'
local stats = require 'vestige.stats'

local e = experiment.start(arg, {
  usage = 'vestige experiments/gus_vs_attacks.lua',
  about = 'Does what GUS leaves after a method agree with what remains of other attacks?',
  methods = grid.methods, attack = 'gaussian',
  { 'others', { 'gradient_matching', 'gradient_cancelling' }, 'the attacks beside Gaussian poisons',
    of = 'string' },
  tables = { targeted = { epochs = 17, lr = 0.1, crop = 0, flip = false } },
  docs = { ['targeted.epochs'] = 'the recipe under a targeted attack: passes',
           ['targeted.lr'] = 'its largest learning rate',
           ['targeted.crop'] = 'random crop, in pixels',
           ['targeted.flip'] = 'random horizontal flip' },
  -- Gradient cancelling does no more than noise to a residual net of this size (docs/results.md),
  -- and would take the script from 17 to 25 minutes.
  scales = { small = experiment.small{ others = { 'gradient_matching' },
                                       targeted = experiment.targeted },
             paper = { targeted = { epochs = 100, lr = 0.1, crop = 4, flip = true } } },
})
if not e then return end
local o = e.o

local settings = { { name = 'gaussian', attack = 'gaussian', options = o.gaussian } }
for _, name in ipairs(o.others) do
  options.given('--others', plugins.find, 'attacks', name)
  local targeted = plugins.find('attacks', name).kind == 'targeted'
  settings[#settings + 1] = { name = name, attack = name, options = o[name],
                              recipe = targeted and e:recipe_with(o.targeted) or nil }
end
local cells, results = grid.run(e, { settings = settings })
local dir = e:folder('gus_vs_attacks', results[1][1].train)

-- What measures an attack's effect, and whether more of it is more effect.
local function effect_of(setting)
  local of = grid.where(cells, { setting = setting })
  if grid.over_seeds(of, 'minus_gus') then return 'minus_gus', 1 end
  if grid.over_seeds(of, 'margin') then return 'margin', 1 end
  return 'accuracy', -1
end

-- The share of an attack's effect that a method leaves: its distance from retraining over the
-- poisoned model's, means over seeds; nil where the attack did nothing.
local function left(setting, method)
  local name, sign = effect_of(setting)
  local function mean(m)
    local t = grid.over_seeds(grid.where(cells, { setting = setting, method = m }), name)
    return t and sign * t.estimate
  end
  local before, gold, after = mean 'none', mean 'retrain', mean(method)
  if not (before and gold and after) or before <= gold then return nil end
  return (after - gold) / (before - gold)
end

-- A model that lost everything lost its attack too, and the accuracy that measures another: it says
-- nothing of removal.
local function collapsed(setting, method)
  local t = grid.over_seeds(grid.where(cells, { setting = setting, method = method }), 'collapsed')
  return t and t.estimate > 50 -- %
end

local methods, rows, said, drawn = {}, {}, {}, {}
for _, method in ipairs(e.methods) do
  if method ~= 'retrain' then methods[#methods + 1] = method end
end
for i, method in ipairs(methods) do
  rows[i] = { method }
  for j, s in ipairs(settings) do
    local v = left(s.name, method)
    local lost = v and collapsed(s.name, method) and ' (collapsed)' or ''
    rows[i][j + 1] = v and format.number(v, 2) .. lost or false
  end
end
for j = 2, #settings do
  local name, x, y, points, without = settings[j].name, {}, {}, {}, {}
  for _, method in ipairs(methods) do
    local gus, other = left('gaussian', method), left(name, method)
    if collapsed('gaussian', method) or collapsed(name, method) then
      without[#without + 1] = method
    elseif gus and other then
      x[#x + 1], y[#y + 1] = gus, other
      points[#points + 1] = { label = grid.names[method] or method, x = { gus }, y = { other } }
    end
  end
  if #x > 2 then
    drawn[#drawn + 1] = { attack = name, points = points }
    local r = stats.spearman(x, y)
    said[#said + 1] = ('%s: rank correlation %.2f over %d methods (p %s)'):format(name,
      r.estimate, #x, format.probability(r.p))
      .. (#without > 0 and ', without ' .. table.concat(without, ', ') .. ', which collapsed' or '')
  else
    said[#said + 1] = ('%s: %s, so nothing can be compared'):format(name,
      #x + #without == 0 and 'an attack did nothing here'
      or #x .. ' methods left a model, fewer than three')
  end
end

local header = { 'method' }
for _, s in ipairs(settings) do header[#header + 1] = s.name end
local found = grid.table(cells, { 'setting', 'method' },
                         { 'accuracy', 'gus', 'success', 'margin', 'collapsed' })
found.title, found.file = 'Mean over seeds [95 %]', 'gus_vs_attacks'
local figures = {}
for i, d in ipairs(drawn) do
  figures[i] = {
    title = 'What is left of ' .. d.attack,
    svg = plot.scatter(dir .. '/' .. d.attack, {
      title = 'What a method leaves of ' .. d.attack, xlabel = 'share of GUS left',
      ylabel = 'share of its effect left', diagonal = true, series = d.points }).svg,
    caption = 'One point a method: 0 as retrained, 1 as poisoned. On the diagonal GUS tells what '
              .. 'remains of the other attack.' }
end

grid.finish(e, {
  dir = dir, cells = cells, title = 'GUS beside the other attacks', figures = figures,
  conclusion = table.concat(said, '; ') .. '.',
  tables = { { title = "The share of each attack's effect that is left", header = header,
               rows = rows, file = 'left' }, found },
  text = 'The effect: -GUS; for a targeted attack the margin of its target; for an indiscriminate '
         .. 'one the loss of test accuracy; each from the retrained model (0) to the poisoned one '
         .. '(1); without methods that collapsed in most seeds of either attack. Methods are few '
         .. 'and share their seeds: the correlation is descriptive.',
})
