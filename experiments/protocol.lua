-- The protocol (section 3.4) on any grid: attacks x shares x their options x methods x budgets x
-- seeds, in one table. See --help.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local grid = require 'vestige.grid'
local options = require 'vestige.options'
local plot = require 'vestige.plot'
local plugins = require 'vestige.plugins'
local search = require 'vestige.search'

local e = experiment.start(arg, {
  usage = 'vestige experiments/protocol.lua', rest = '[OPTION=VALUE,VALUE...]',
  about = [[
Any attacks, shares, methods, budgets and seeds, measured by all that applies. OPTION=VALUE,... are
values of the attack's options: every combination of them is a setting.

  vestige experiments/protocol.lua --attack gradient_matching --seeds 3 steps=100,250 share=0.02]],
  methods = { 'retrain', 'gd' }, attack = 'gaussian',
  { 'attacks', {}, 'attacks, one after the other; default: --attack', of = 'string' },
  { 'shares', {}, 'b_p, one after the other; default: what each attack has', of = 'number' },
  { 'budgets', {}, "shares of the original run's steps; default: --budget", of = 'number' },
  { 'control', false, 'beside each setting its control, for an attack that has one' },
  scales = { small = experiment.small() },
})
if not e then return end
local o = e.o

local attacks = #o.attacks > 0 and o.attacks or { o.attack }
local points = search.points(search.read_grid(o.rest))
local settings = {}
local function add(attack, share, point, control)
  local given, words = {}, { attack }
  for k, v in pairs(o[attack] or {}) do given[k] = v end
  for k, v in pairs(point) do given[k] = v end
  if share then given.share, words[#words + 1] = share, ('%g'):format(share) end
  if next(point) ~= nil then words[#words + 1] = search.text(point) end
  if control then given.control, words[#words + 1] = true, 'control' end
  options.given('OPTION=VALUE', plugins.options, 'attack', plugins.find('attacks', attack), given)
  local fields = { attack = attack, share = share or nil, control = control and 'control' or '' }
  for k, v in pairs(point) do fields[k] = options.text(v) end
  settings[#settings + 1] = { name = table.concat(words, ' '), attack = attack, options = given,
                              methods = control and {} or nil, fields = fields }
end
for _, name in ipairs(attacks) do
  local attack = options.given('--attacks', plugins.find, 'attacks', name)
  if o.control and (attack.defaults or {}).control == nil then
    error(('--control: attack %s has no control'):format(name), 0)
  end
  for _, share in ipairs(#o.shares > 0 and o.shares or { false }) do
    for _, point in ipairs(points) do
      add(name, share, point)
      if o.control then add(name, share, point, true) end
    end
  end
end
local budgets = #o.budgets > 0 and o.budgets or { o.budget }
local cells, results = grid.run(e, { settings = settings, budgets = budgets, compare = true })
local dir = e:folder('protocol', results[1][1].train)

-- A measure that no cell has is left out.
local measures = {}
for _, name in ipairs { 'accuracy', 'gus', 'remaining', 'tpr', 'mia', 'success', 'margin',
                        'triggered', 'ic_err', 'fgt_err', 'phi', 'loss_before',
                        'loss_after', 'low_accuracy',
                        'agreement', 'kl', 'distance', 'collapsed', 'seconds' } do
  if grid.over_seeds(cells, name) then measures[#measures + 1] = name end
end
local by, own = { #attacks > 1 and 'attack' or nil }, {}
if #o.shares > 0 then by[#by + 1] = 'share' end
for name in pairs(points[1]) do own[#own + 1] = name end
table.sort(own)
for _, name in ipairs(own) do by[#by + 1] = name end
if o.control then by[#by + 1] = 'control' end
if #budgets > 1 then by[#by + 1] = 'budget' end
by[#by + 1] = 'method'
local found = grid.table(cells, by, measures)
found.title, found.file = 'Mean over seeds [95 %]', 'protocol'
local shown = { found }
if o.control then
  local rows = {}
  for i = 1, #settings, 2 do -- each is followed by its control
    local function before(s) return grid.where(cells, { setting = s.name, method = 'none' }) end
    local made, noise = before(settings[i]), before(settings[i + 1])
    local d = grid.paired(made, noise, 'accuracy') or { -- one seed
      estimate = grid.over_seeds(made, 'accuracy').estimate
                 - grid.over_seeds(noise, 'accuracy').estimate, n = 1 }
    rows[#rows + 1] = { settings[i].name, format.interval(d, 1),
                        d.p and format.probability(d.p) or false, d.n }
  end
  shown[2] = { title = 'Test accuracy of the poisoned model, less that of its control',
               header = { 'setting', 'points [95 %]', 'p', 'seeds' }, rows = rows,
               file = 'control' }
end

local figures, methods = {}, grid.values(cells, 'method')
for i, s in ipairs(settings) do
  local of = grid.where(cells, { setting = s.name, budget = budgets[#budgets] })
  local name = 'accuracy'
  for _, effect in ipairs { 'triggered', 'ic_err', 'margin', 'minus_gus' } do
    if grid.over_seeds(of, effect) then name = effect end
  end
  figures[i] = {
    title = s.name,
    svg = plot.bars(('%s/setting%d'):format(dir, i), {
      title = s.name, width = 960, ylabel = grid.measures[name].text,
      categories = grid.labels(methods), series = { grid.series(of, name, methods, 'method') },
    }).svg,
    caption = ('%s at budget %g, mean over seeds with 95 %% intervals.'):format(
      grid.measures[name].text, budgets[#budgets]) }
end

grid.finish(e, {
  dir = dir, cells = cells, title = 'The protocol', tables = shown, figures = figures,
  conclusion = ('%d models in %d settings, %d budgets, %d seeds.'):format(#cells, #settings,
                                                                         #budgets, o.seeds),
  text = ('%d training images (%s).'):format(e.train:size(), e.kind),
})
