--- Searches the options of unlearning methods: runs their grids and chooses a setting.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local json = require 'vestige.json'
local options = require 'vestige.options'
local search = require 'vestige.search'
local stats = require 'vestige.stats'
local tables = require 'vestige.tables'
local term = require 'vestige.term'

local declared = {
  usage = 'vestige search', rest = '[OPTION=VALUE,VALUE...]',
  about = [[
Runs the grid of unlearning methods, option by option, and chooses the best setting on images held
out of the training images. OPTION=VALUE,... searches over other values of a method's option.
Writes a table, search.csv, search.tex, report.html, and chosen.json for --method-options.

  vestige search --method scrub --attack gaussian --seeds 3
  vestige search --method gd lr=1e-2,1e-3 --by tradeoff]],
  unlearns = true, attack = 'gaussian',
  { 'method', {}, 'the methods to search, one after the other', of = 'string' },
  { 'by', 'accuracy', 'choose the largest accuracy; the smallest |GUS|; or the largest accuracy '
    .. 'minus |GUS| / |GUS before|', choices = { 'accuracy', 'gus', 'tradeoff' } },
  { 'select', 'validation', 'where accuracy is measured to choose; test flatters, and is what the '
    .. 'paper did', choices = { 'validation', 'test' } },
  { 'validation', 0.1, 'the share of the training images that is held out', min = 0, max = 1 },
  { 'most', 0, 'settings a method, drawn at random from its grid; 0: all', min = 0, kind = 'int' },
}

local function new_searches(e)
  local o, list, seeds = e.o, {}, {}
  if not o.method[1] then error('--method: which method is searched?', 0) end
  local grid = search.read_grid(o.rest)
  for seed = o.seed, o.seed + o.seeds - 1 do seeds[#seeds + 1] = seed end
  for i, name in ipairs(o.method) do
    list[i] = options.given('vestige search', search.new, e.study, e:settings{
      method = name, grid = grid, most = o.most, by = o.by, select = o.select,
      validation = o.validation, seeds = seeds })
  end
  return list
end

-- The mean over the seeds, with its interval where there are several; false where it is unknown.
local function cell(values, digits)
  local mean = search.mean(values)
  if mean ~= mean then return false end
  if #values == 1 then return format.number(mean, digits) end
  return format.interval(stats.t_interval(values), digits)
end

-- The settings of a search, the best first, as a table to print and one with all digits.
local function tables_of(s, record)
  local r, names, order = record.estimates, {}, {}
  for name in pairs(s.points[1]) do names[#names + 1] = name end
  table.sort(names)
  for i = 1, #r.points do order[i] = i end
  local function worth(i)
    local v = r.points[i].value
    return v == v and v or -math.huge
  end
  table.sort(order, function(a, b)
    if worth(a) ~= worth(b) then return worth(a) > worth(b) end
    return a < b
  end)
  local shown = { title = s.method, header = { unpack(names) }, rows = {} }
  for _, head in ipairs { 'accuracy', 'GUS', '|GUS| / before', s.by, '' } do
    table.insert(shown.header, head)
  end
  local full = { header = { 'method', 'setting', 'accuracy', 'gus', 'remaining', 'by', 'value',
                            'chosen' }, rows = {} }
  for _, i in ipairs(order) do
    local p, row = r.points[i], {}
    for _, name in ipairs(names) do row[#row + 1] = options.text(p.options[name]) end
    for _, v in ipairs { cell(p.accuracy), cell(p.gus), cell(p.remaining), cell(p.values),
                         i == r.best and 'chosen' or ' ' } do
      row[#row + 1] = v
    end
    shown.rows[#shown.rows + 1] = row
    full.rows[#full.rows + 1] = { s.method, search.text(p.options), search.mean(p.accuracy),
      search.mean(p.gus), search.mean(p.remaining), s.by, p.value, i == r.best and 1 or 0 }
  end
  return shown, full
end

return function(args)
  local e = experiment.start(args, declared)
  if not e then return 0 end
  local o, searches, tasks = e.o, new_searches(e), {}
  for _, s in ipairs(searches) do
    for _, task in ipairs(s:tasks()) do
      tasks[#tasks + 1] = { search = s, task = task, label = s.method .. ' ' .. task.label }
    end
  end
  e:ahead(tasks, function(t) t.search:run(t.task) end)
  local chosen, sections, all, records, lines, done = {}, {}, nil, {}, {}, 0
  for k, s in ipairs(searches) do
    local record = s:choose(function(task)
      done = done + 1
      term.prefix(('%d/%d %s '):format(done, #tasks, task.label))
    end)
    term.prefix ''
    local shown, full = tables_of(s, record)
    local best = record.estimates.points[record.estimates.best]
    records[k], chosen[s.method] = record, best.options
    lines[k] = ('%s: %s is chosen of %d settings'):format(s.method, search.text(best.options),
                                                       #s.points)
    e.say(('\n%s\n%s'):format(s.method, term.table(shown.rows, {
      header = shown.header, width = math.max(120, term.columns()) })))
    sections[k] = { title = s.method, tables = { shown } }
    if not all then
      all = full
    else
      for _, row in ipairs(full.rows) do all.rows[#all.rows + 1] = row end
    end
  end
  local how = ('Chosen is %s, mean over %d seed%s; accuracy is that on %s.'):format(
    search.criteria[o.by].text, o.seeds, o.seeds == 1 and '' or 's', searches[1].where)
  local blind = records[1].estimates.blind
  if o.by ~= 'accuracy' and #blind > 0 then
    how = ('%s This scale cannot tell what remains: before unlearning, the model does not depend '
           .. 'on the noise enough at seed %s.'):format(how, table.concat(blind, ', '))
  end
  local dir = e:folder('search', records[1])
  tables.write(dir .. '/search', all)
  json.save(dir .. '/chosen.json', chosen)
  e.say(('\n%s.\n%s'):format(table.concat(lines, '.\n'), how))
  e.say(('\nfor --method-options: %s/chosen.json'):format(dir))
  sections[1].text = how
  e:report(dir, { title = 'Search with attack ' .. o.attack,
                  conclusion = table.concat(lines, '; ') .. '.', sections = sections })
end
