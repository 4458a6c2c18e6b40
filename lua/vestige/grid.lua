-- The grid of an experiment: attack settings x budgets x methods x seeds, run by vestige.protocol
-- and told over seeds. A cell is one model: {seed, setting, budget, method, before, after, spent},
-- where method 'none' is the poisoned model itself. The unit of every interval is the seed: a
-- claim about a method rests on models, not on canaries.
local fail = require 'vestige.fail'
local format = require 'vestige.format'
local nearest = require 'vestige.nearest'
local protocol = require 'vestige.protocol'
local stats = require 'vestige.stats'
local tables = require 'vestige.tables'

local M = {}

--- grid.methods: every method of the paper and of its later version, with both controls.
M.methods = { 'retrain', 'retrain_budget', 'gd', 'ngd', 'ga', 'euk', 'cfk', 'scrub',
              'neggrad_plus', 'ssd' }

--- grid.names: how figures and tables of the paper write them.
M.names = { none = 'no unlearning', retrain = 'retrained', retrain_budget = 'retrained, budget',
            gd = 'GD', ngd = 'NGD', ga = 'GA', euk = 'EUk', cfk = 'CFk', scrub = 'SCRUB',
            neggrad_plus = 'NegGrad+', ssd = 'SSD' }

-- ---- Cells ----

local function add_cells(cells, result, cell)
  local function add(method, after, unlearn, m)
    local c = { method = method, before = result.before.estimates, after = after.estimates,
                spent = unlearn and unlearn.estimates or { steps = 0, flops = 0,
                                                           train_seconds = 0 },
                poison = result.poison.estimates, compare = m and m.compare,
                lira = (m or result).lira,
                collapsed = unlearn and protocol.collapsed(result.before, after) or nil,
                verdict = unlearn and result.before.estimates.gus
                          and protocol.judge(result.before, after) or nil }
    for k, v in pairs(cell) do c[k] = v end
    cells[#cells + 1] = c
  end
  add('none', result.before)
  for _, m in ipairs(result.methods) do add(m.name, m.score, m.unlearn, m) end
end

--- grid.run(e, t): the cells of an experiment (vestige.experiment). t: settings, a list of {name,
-- attack, options (the attack's), fields (further ones of its cells)} and what else protocol.run
-- takes; budgets (the experiment's); compare (false): whether models are compared with the
-- retrained one, which `agreement` needs.
-- With --jobs the seeds, settings and methods run side by side. Returns the list of cells, by seed,
-- setting, budget and method in the order given, and the records of protocol.run by seed.
function M.run(e, t)
  local budgets, cells = t.budgets or { e.o.budget }, {}
  local results = e:seeds(function(seed, part)
    local list = {}
    for _, s in ipairs(part and { t.settings[part] } or t.settings) do
      for _, budget in ipairs(budgets) do
        local more = { seed = seed, budget = budget, compare = t.compare or false }
        for k, v in pairs(s) do more[k] = v end
        more.attack_options, more.options, more.name, more.fields = s.options, nil, nil, nil
        list[#list + 1] = e:protocol(more)
      end
    end
    return list
  end, nil, #t.settings)
  for i, list in ipairs(results) do
    local k = 0
    for _, s in ipairs(t.settings) do
      for _, budget in ipairs(budgets) do
        k = k + 1
        local cell = { seed = e.o.seed + i - 1, setting = s.name, budget = budget }
        for name, v in pairs(s.fields or {}) do cell[name] = v end
        add_cells(cells, list[k], cell)
      end
    end
  end
  return cells, results
end

--- grid.where(cells, wanted): the cells whose fields are those of `wanted`.
-- Example:
-- > local grid = require 'vestige.grid'
-- > local cells = { { method = 'gd', seed = 1 }, { method = 'ga', seed = 1 } }
-- > assert(#grid.where(cells, { method = 'gd' }) == 1)
function M.where(cells, wanted)
  local out = {}
  for _, c in ipairs(cells) do
    local is = true
    for k, v in pairs(wanted) do is = is and c[k] == v end
    if is then out[#out + 1] = c end
  end
  return out
end

--- grid.values(cells, field): the values of a field, each once, in order of first sight.
function M.values(cells, field)
  local seen, list = {}, {}
  for _, c in ipairs(cells) do
    local v = c[field]
    if v ~= nil and not seen[v] then seen[v], list[#list + 1] = true, v end
  end
  return list
end

-- ---- What is measured ----

--- grid.measures: what a cell is asked: name -> {text, value(cell), scale, digits, share, rate}.
-- value gives nil where the cell has none; scale multiplies it for people; share: it is 0 or 1, and
-- over seeds a proportion; rate: it lies in [0,1], and so does its interval.
M.measures = {
  accuracy = { rate = true, text = 'test accuracy, %', scale = 100, digits = 1,
               value = function(c) return c.after.accuracy.estimate end },
  gus = { text = 'GUS', value = function(c) return c.after.gus and c.after.gus.estimate end },
  minus_gus = { text = '-GUS',
                value = function(c) return c.after.gus and -c.after.gus.estimate end },
  z = { text = 'z of GUS', digits = 1,
        value = function(c) return c.after.gus and c.after.gus.z end },
  remaining = {
    text = 'GUS / GUS before', digits = 2,
    value = function(c)
      return c.after.gus and c.before.gus and c.after.gus.estimate / c.before.gus.estimate
    end,
  },
  tpr = { rate = true, text = 'TPR of |I| at FPR 1 %, %', scale = 100, digits = 1,
          value = function(c) return c.after.gus and c.after.gus.tpr_abs.estimate end },
  tpr_signed = { rate = true, text = 'TPR of -I at FPR 1 %, %', scale = 100, digits = 1,
                 value = function(c) return c.after.gus and c.after.gus.tpr_signed.estimate end },
  mia = { rate = true, text = 'membership AUC',
          value = function(c) return c.after.mia and c.after.mia.estimate end },
  mia_tpr = { rate = true, text = 'membership TPR at FPR 1 %, %', scale = 100, digits = 1,
              value = function(c) return c.after.mia and c.after.mia.tpr.estimate end },
  lira = { rate = true, text = 'LiRA AUC',
           value = function(c) return c.lira and c.lira.estimates.estimate end },
  lira_tpr = { rate = true, text = 'LiRA TPR at FPR 1 %, %', scale = 100, digits = 1,
               value = function(c) return c.lira and c.lira.estimates.tpr.estimate end },
  success = { text = 'target taken for y_adv, %', scale = 100, digits = 0, share = true,
              value = function(c) return c.after.target and (c.after.target.hit and 1 or 0) end },
  misclassified = {
    text = 'target misclassified, %', scale = 100, digits = 0, share = true,
    value = function(c) return c.after.target and (c.after.target.misclassified and 1 or 0) end,
  },
  margin = { text = 'log p(y_adv) - log p(y_target)', digits = 2,
             value = function(c) return c.after.target and c.after.target.estimate end },
  triggered = { rate = true, text = 'trigger works, %', scale = 100, digits = 1,
                value = function(c) return c.after.backdoor and c.after.backdoor.estimate end },
  ic_err = { rate = true, text = 'IC-ERR, %', scale = 100, digits = 1,
             value = function(c) return c.after.interclass and c.after.interclass.estimate end },
  fgt_err = { rate = true, text = 'FGT-ERR, %', scale = 100, digits = 1,
              value = function(c)
                return c.after.interclass and c.after.interclass.fgt.estimate
              end },
  -- What attacks tell of themselves: gradient matching phi, gradient cancelling the others.
  phi = { text = 'phi', digits = 2, value = function(c) return c.poison.phi end },
  loss_before = { text = 'L before', digits = 4,
                  value = function(c) return c.poison.loss_before end },
  loss_after = { text = 'L after', digits = 4,
                 value = function(c) return c.poison.loss_after end },
  low_accuracy = { rate = true, text = 'accuracy of theta_low, %', scale = 100, digits = 1,
                   value = function(c) return c.poison.low_accuracy end },
  collapsed = { text = 'collapsed, %', digits = 0, scale = 100, share = true,
                value = function(c) return c.collapsed and 1 or 0 end },
  agreement = { rate = true, text = 'agreement with retrained, %', scale = 100, digits = 1,
                value = function(c) return c.compare and c.compare.estimates.estimate end },
  kl = { text = 'KL(retrained || model)',
         value = function(c) return c.compare and c.compare.estimates.kl.estimate end },
  distance = { text = 'distance to retrained', digits = 2,
               value = function(c) return c.compare and c.compare.estimates.distance end },
  steps = { text = 'steps', digits = 0, value = function(c) return c.spent.steps end },
  flops = { text = 'TFLOP', scale = 1e-12, digits = 2,
            value = function(c) return c.spent.flops end },
  seconds = { text = 'seconds', digits = 1, value = function(c) return c.spent.train_seconds end },
}

local function measure_of(name)
  local m = M.measures[name]
  if not m then
    fail("grid: no measure '%s'%s", tostring(name), nearest.hint(tostring(name), M.measures))
  end
  return m
end

-- {estimate, lo, hi, n} over cells of different seeds, in the measure's scale; lo and hi are nil
-- for one seed, and so is all of it where no cell has the measure.
local function over_seeds(cells, m)
  local values, hits = {}, 0
  for _, c in ipairs(cells) do
    local v = m.value(c)
    if v then values[#values + 1], hits = v, hits + v end
  end
  local n, scale = #values, m.scale or 1
  if n == 0 then return nil end
  local t = n == 1 and { estimate = values[1] } or m.share and stats.wilson(hits, n)
            or stats.t_interval(values)
  local lo, hi = t.lo, t.hi
  if m.rate and lo then lo, hi = math.max(lo, 0), math.min(hi, 1) end
  return { estimate = t.estimate * scale, lo = lo and lo * scale, hi = hi and hi * scale, n = n }
end

--- grid.over_seeds(cells, name): a measure over cells that differ in their seed alone: {estimate,
-- lo, hi (95 %: Student's t; Wilson's for proportions), n}, in the measure's scale; nil where no
-- cell has it. For one seed there is no interval.
function M.over_seeds(cells, name) return over_seeds(cells, measure_of(name)) end

--- grid.table(cells, by, names): {header, rows}: a row for every combination of the fields `by`
-- (such as setting, budget, method), in order of first sight, with the measures over seeds.
function M.table(cells, by, names)
  local header, rows, groups, order = {}, {}, {}, {}
  for i, field in ipairs(by) do header[i] = field end
  for _, name in ipairs(names) do header[#header + 1] = measure_of(name).text end
  for _, c in ipairs(cells) do
    local key = {}
    for i, field in ipairs(by) do key[i] = tostring(c[field]) end
    local id = table.concat(key, '\0')
    if not groups[id] then
      groups[id] = { cells = {}, key = key }
      order[#order + 1] = id
    end
    table.insert(groups[id].cells, c)
  end
  for i, id in ipairs(order) do
    local row = {}
    for j, v in ipairs(groups[id].key) do row[j] = v end
    for _, name in ipairs(names) do
      local t = M.over_seeds(groups[id].cells, name)
      row[#row + 1] = t and format.interval(t, M.measures[name].digits) or false
    end
    rows[i] = row
  end
  return { header = header, rows = rows }
end

--- grid.long(cells): {header, rows} of all cells with all measures as numbers: what one computes
-- with.
function M.long(cells)
  local names = {}
  for name in pairs(M.measures) do names[#names + 1] = name end
  table.sort(names)
  local header, rows = { 'seed', 'setting', 'budget', 'method' }, {}
  for _, name in ipairs(names) do header[#header + 1] = name end
  for i, c in ipairs(cells) do
    rows[i] = { c.seed, c.setting or false, c.budget, c.method }
    for _, name in ipairs(names) do table.insert(rows[i], M.measures[name].value(c) or false) end
  end
  return { header = header, rows = rows }
end

-- ---- Comparisons ----

--- grid.paired(a, b, name): the difference of a measure, a less b, paired by seed, of two lists of
-- cells that differ in their seed alone: {estimate, lo, hi, p, n} in the measure's scale: Student's
-- t, McNemar's exact test for proportions. nil below two pairs.
function M.paired(a, b, name)
  local m, others, x, y = measure_of(name), {}, {}, {}
  for _, c in ipairs(b) do others[c.seed] = m.value(c) end
  for _, c in ipairs(a) do
    local v = m.value(c)
    if v and others[c.seed] then x[#x + 1], y[#y + 1] = v, others[c.seed] end
  end
  if #x < 2 then return nil end
  local t, scale = stats.paired_t_test(x, y), m.scale or 1
  local p = t.p
  if m.share then
    local first, second = 0, 0
    for i = 1, #x do
      if x[i] > y[i] then first = first + 1 elseif x[i] < y[i] then second = second + 1 end
    end
    p = stats.mcnemar(first, second).p
  end
  return { estimate = t.estimate * scale, lo = t.lo * scale, hi = t.hi * scale, p = p, n = #x }
end

--- grid.against(cells, name, control): every method's paired difference from the control's in one
-- measure, Holm over the methods: {header, rows, by = method -> {estimate, lo, hi, p, adjusted}}.
-- cells: of one setting and one budget. Rows are empty below two seeds.
function M.against(cells, name, control)
  local m, base, found, p = measure_of(name), M.where(cells, { method = control }), {}, {}
  for _, method in ipairs(M.values(cells, 'method')) do
    local d = method ~= control and M.paired(M.where(cells, { method = method }), base, name)
    if d then
      found[#found + 1], p[#p + 1] = { method, d }, d.p
    end
  end
  local rows, by, adjusted = {}, {}, #p > 0 and stats.holm(p) or {}
  for i, f in ipairs(found) do
    by[f[1]] = f[2]
    f[2].adjusted = adjusted[i]
    rows[i] = { f[1], format.interval(f[2], m.digits), format.probability(f[2].p),
                format.probability(adjusted[i]), f[2].n }
  end
  return { header = { 'method', ('%s, less %s'):format(m.text, control), 'p', 'p, Holm', 'seeds' },
           rows = rows, by = by }
end

--- grid.labels(methods): their names for people.
function M.labels(methods)
  local list = {}
  for i, method in ipairs(methods) do list[i] = M.names[method] or method end
  return list
end

--- grid.series(cells, name, categories, field): values, low and high over the categories of a
-- field, as plot.bars takes them.
function M.series(cells, name, categories, field)
  local s = { label = measure_of(name).text, values = {}, low = {}, high = {} }
  for i, category in ipairs(categories) do
    local t = M.over_seeds(M.where(cells, { [field] = category }), name)
    s.values[i] = t and t.estimate or 0 / 0
    s.low[i], s.high[i] = t and t.lo or s.values[i], t and t.hi or s.values[i]
  end
  return s
end

--- grid.line(cells, name, field): x, y, low and high of a measure over the numbers in a field, as
-- plot.curves takes them.
function M.line(cells, name, field)
  local xs = M.values(cells, field)
  table.sort(xs)
  local s = M.series(cells, name, xs, field)
  return { x = xs, y = s.values, low = s.low, high = s.high, points = true }
end

-- ---- The end ----

--- grid.finish(e, t): ends an experiment by e:finish(t), with all cells as CSV and LaTeX beside it.
-- t: as e:finish has it, and cells.
function M.finish(e, t)
  tables.write(t.dir .. '/cells', M.long(t.cells))
  e:finish(t)
end

return M
