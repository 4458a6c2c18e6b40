-- The Gaussian poisoning audit (section 3.3, Algorithms 3 and 4; Figures 6 and 7): poison, train,
-- unlearn, and ask whether the model still depends on the noise. See --help.
local chart = require 'vestige.chart'
local data = require 'vestige.data'
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local fs = require 'vestige.fs'
local gus = require 'vestige.metrics.gus'
local plot = require 'vestige.plot'
local protocol = require 'vestige.protocol'
local stages = require 'vestige.stages'
local stats = require 'vestige.stats'
local term = require 'vestige.term'
local vestige = require 'vestige'

-- What figure6.lua has otherwise: {usage, methods, small (a scale)}.
local own = type((...)) == 'table' and (...) or {}

local e = experiment.start(arg, {
  usage = own.usage or 'vestige experiments/gaussian.lua',
  about = 'Plants Gaussian noise in training images, unlearns them, and tests what remains.',
  methods = own.methods or { 'retrain', 'retrain_budget', 'gd', 'ngd' },
  { 'share', 0.1, 'b_p: the share of the training images that is poisoned', min = 0, max = 1 },
  noise = true,
  scales = { small = own.small, paper = { share = 0.015 } },
})
if not e then return end
local o, train, say = e.o, e.train, e.say

-- Eight canaries, clean beside noisy, as they look to a person.
local function draw_canaries(poison)
  if o.quiet or not fs.isatty(1) then return end
  vestige.scope(function()
    local ds, p = stages.poisoned(train, poison)
    local pictures, titles = {}, {}
    for i = 1, math.min(8, #p.forget) do
      local clean, noisy = train:subset{ p.forget[i] }, ds:subset{ p.forget[i] }
      local x = clean.x:dtype() == 'u8' and clean.x:to 'f32' / 255 or clean.x
      local planted = noisy.x
      if p.noise.unit == 'normalised' then
        local shape = x:shape()
        table.remove(shape, 1)
        local std = vestige.tensor(e.model.options.normalize.std)
        planted = x + data.noise(p.noise.seed, { p.forget[i] }, shape) * math.sqrt(p.noise.variance)
          * std
      end
      pictures[2 * i - 1], pictures[2 * i] = x, planted:clamp(0, 1)
      titles[2 * i - 1], titles[2 * i] = train.classes[clean.y:item() + 1], 'with noise'
    end
    say 'canaries, clean beside noisy:'
    require('vestige.repl.draw').show(vestige.cat(pictures, 1), { group = 2, titles = titles })
  end)
end

local function run(seed)
  return e:protocol{ attack = 'gaussian', seed = seed,
    attack_options = e:gaussian(o.share),
    after = function(name, record)
      if name == 'poison' and seed == o.seed then draw_canaries(record) end
    end }
end

-- ---- What came out ----

local number, probability, interval = format.number, format.probability, format.interval

local header = { 'model', 'test acc.', 'membership AUC', 'GUS', 'z', 'p', 'TPR |I|', 'TPR -I',
                 'remaining', 'verdict' }

-- A model that collapsed may have neither membership attack nor GUS.
local function row(name, score, judged)
  local s = score.estimates
  local g, said = s.gus, judged and judged.text
  return { name, number(s.accuracy.estimate), s.mia and interval(s.mia, 2) or false,
           g and number(g.estimate) or false, g and number(g.z, 1) or false,
           g and probability(g.p) or false, g and number(g.tpr_abs.estimate) or false,
           g and number(g.tpr_signed.estimate) or false,
           judged and judged.remaining and interval(judged.remaining, 2) or false,
           said or g and g.rejects and 'learned the noise' or 'no signal' }
end

-- Where only some poisons were discovered: those and the others apart.
local parts_header = { 'model', 'poisons', 'canaries', 'GUS', 'z', 'membership AUC' }
local function parts_rows(result)
  local rows = {}
  local function add(name, score)
    for _, which in ipairs { 'discovered', 'undiscovered' } do
      local p = (score.estimates.parts or {})[which]
      if p and p.gus then
        rows[#rows + 1] = { name, which, tostring(p.gus.n), number(p.gus.estimate),
                            number(p.gus.z, 1), p.mia and interval(p.mia, 2) or false }
      end
    end
  end
  add('before', result.before)
  for _, m in ipairs(result.methods) do add(m.name, m.score) end
  return rows
end

-- Each model beside the retrained one: what it says, and where its parameters went.
local beside_header = { 'model', 'agreement', 'KL(retrained || model)', 'the same, forgotten',
                        'distance', 'cosine of displacements' }
local function beside_rows(result)
  local rows = {}
  local function add(name, record)
    local s = record and record.estimates
    if s then
      rows[#rows + 1] = { name, interval(s), interval(s.kl), interval(s.forgotten.kl),
                          number(s.distance, 2), s.cosine and number(s.cosine) or false }
    end
  end
  add('before', result.compare)
  for _, m in ipairs(result.methods) do add(m.name, m.compare) end
  return rows
end

-- The table of one seed.
local function judged_rows(result)
  local rows = { row('before', result.before) }
  for _, m in ipairs(result.methods) do
    m.verdict = protocol.judge(result.before, m.score)
    rows[#rows + 1] = row(m.name, m.score, m.verdict)
  end
  return rows
end

-- The names of the methods for which `holds` does at a seed, with at how many.
local function methods_where(results, holds)
  local names = {}
  for k, m in ipairs(results[1].methods) do
    local count = 0
    for _, r in ipairs(results) do
      if holds(r.methods[k]) then count = count + 1 end
    end
    if count > 0 then
      names[#names + 1] = #results == 1 and m.name
        or ('%s (%d of %d seeds)'):format(m.name, count, #results)
    end
  end
  return names[1] and table.concat(names, ', ')
end

-- The sentence that everything comes to. A retrained model never saw the noise: it is the control.
local function conclusion(results)
  local function is_control(m) return m.name:match '^retrain' ~= nil end
  local function remains(m) return m.verdict.verdict == 'influence remains' end
  local tells = methods_where(results, function(m)
    return m.verdict.verdict ~= 'this scale cannot tell'
  end)
  local missed = methods_where(results, function(m)
    local attack = m.score.estimates.mia
    return remains(m) and not is_control(m) and attack and attack.clears
  end)
  local kept = methods_where(results, function(m) return remains(m) and not is_control(m) end)
  local control = methods_where(results, function(m) return remains(m) and is_control(m) end)
  local said
  if not tells then
    said = 'This scale cannot tell: the trained model does not depend on the noise enough.'
  elseif missed then
    said = ('The membership attack clears %s, but GUS finds that the influence of the poisons '
            .. 'remains.'):format(missed)
  elseif kept then
    said = ('GUS finds that the influence of the poisons remains after %s.'):format(kept)
  else
    said = 'GUS finds no method after which the influence of the poisons demonstrably remains.'
  end
  return said .. (control and (' The control is rejected too, %s, though it never saw the noise: a '
    .. 'test at 0.05 does that once in twenty; take more seeds.'):format(control) or '')
end

-- What the figures show, {name, values}: -I of all seeds under fresh noise (which checks the
-- generator), before, after the last method that is not retraining, and retrained.
local function panels_of(results)
  local fresh, before, after, retrained = { 'fresh noise', {} }, { 'before', {} }, nil, nil
  local function add(values, score, which)
    local I = select(which or 1, protocol.scores(score))
    for _, v in ipairs(gus.nonzero(I)) do values[#values + 1] = -v end
  end
  for k, m in ipairs(results[1].methods) do
    local panel = { m.name, {} }
    for _, r in ipairs(results) do add(panel[2], r.methods[k].score) end
    if m.name == 'retrain' then retrained = { 'retrained', panel[2] }
    elseif m.name ~= 'retrain_budget' then after = { 'after ' .. m.name, panel[2] } end
  end
  for _, r in ipairs(results) do
    add(before[2], r.before)
    add(fresh[2], r.before, 2)
  end
  local panels = { fresh, before }
  if after and #after[2] > 0 then panels[#panels + 1] = after end -- none where it collapsed
  if retrained then panels[#panels + 1] = retrained end
  return panels
end

-- Figure 6: the histograms of -I over N(0,1).
local function figure6(panels, base)
  local drawn = {}
  for i, p in ipairs(panels) do
    if not o.quiet then
      print(chart.histogram(p[2], { title = ('-I %s, over N(0,1)'):format(p[1]), low = -5,
                                    high = 5, bins = 50, density = chart.normal }))
    end
    drawn[i] = { title = p[1], series = { { label = '-I', values = p[2] } } }
  end
  return plot.histogram(base, { title = 'Planted noise against input gradients', panels = drawn,
                                width = 1100,
                                xlabel = '-I', ylabel = 'density', density = chart.normal,
                                density_label = 'N(0, 1)', xrange = { -4, 5 }, bins = 45 })
end

-- Figure 7: the trade-off of finding canaries by -I, beside the Gaussian curve of the same mean.
local function figure7(panels, base)
  local series = {}
  for i = 2, #panels do -- without fresh noise
    local p = panels[i]
    local mean, scores = stats.mean(p[2]), {}
    for k, v in ipairs(p[2]) do scores[k] = -v end
    local curve = gus.curve(scores)
    series[#series + 1] = { label = p[1], x = curve.fpr, y = curve.tpr }
    series[#series + 1] = { label = ('N(%.2f, 1)'):format(mean), x = curve.fpr,
                            y = curve.gaussian, dashed = true }
  end
  return plot.curves(base, { title = 'Trade-off of finding the poisons', series = series,
                             xlabel = 'false positive rate', ylabel = 'true positive rate',
                             xrange = { 0, 1 }, yrange = { 0, 1 } })
end

-- The table as a terminal holds it: without p, and the verdicts in lines of their own.
local function say_table(rows)
  local narrow, names = {}, {}
  for i, r in ipairs(rows) do
    narrow[i] = { r[1], r[2], r[3], r[4], r[5], r[7], r[8], r[9] }
    names[i] = ('  %-14s %s'):format(r[1], r[10])
  end
  local short = { header[1], header[2], header[3], header[4], header[5], header[7], header[8],
                  header[9] }
  say(term.table(narrow, { header = short, width = math.max(110, term.columns()) }))
  say(table.concat(names, '\n'))
end

-- ---- All seeds ----

local tables = {}
local results = e:seeds(run, function(seed, result)
  local rows = judged_rows(result)
  say(('\nseed %d'):format(seed))
  say_table(rows)
  tables[#tables + 1] = { title = ('Seed %d'):format(seed), header = header, rows = rows,
                          file = ('seed%d'):format(seed) }
  for _, more in ipairs {
    { 'The poisons that were discovered, and the others', parts_header, parts_rows(result),
      'discovered' },
    { 'Beside the retrained model', beside_header, beside_rows(result), 'retrained' },
  } do
    if #more[3] > 0 then
      say(('\n%s\n%s'):format(more[1], term.table(more[3], {
        header = more[2], width = math.max(110, term.columns()) })))
      tables[#tables + 1] = { title = ('Seed %d. %s'):format(seed, more[1]), header = more[2],
                              rows = more[3], file = ('seed%d-%s'):format(seed, more[4]) }
    end
  end
end)
local sentence = conclusion(results)

-- Over seeds: is every model learned before, and do the retrained ones look like N(0,1)?
local function over_seeds()
  local rows = {}
  local names = { 'before' }
  for _, m in ipairs(results[1].methods) do names[#names + 1] = m.name end
  for k, name in ipairs(names) do
    local values, squares, accuracy, collapsed = {}, 0, {}, 0
    for i, r in ipairs(results) do
      local m = r.methods[k - 1]
      local s = (m and m.score or r.before).estimates
      accuracy[i] = s.accuracy.estimate
      if s.gus then
        values[#values + 1], squares = s.gus.estimate, squares + s.gus.z ^ 2
      end
      if m and m.verdict.collapsed then collapsed = collapsed + 1 end
    end
    local any = #values > 0
    rows[#rows + 1] = { name, number(stats.mean(accuracy)),
                        #values > 1 and interval(stats.t_interval(values)) or false,
                        any and number(math.min(unpack(values))) or false,
                        any and number(math.max(unpack(values))) or false,
                        any and number(squares, 1) or false,
                        any and probability(stats.chi2_sf(squares, #values)) or false,
                        ('%d of %d'):format(collapsed, #results) }
  end
  return { title = ('%d seeds'):format(#results), rows = rows, file = 'seeds',
           header = { 'model', 'test acc.', 'GUS [95 % over seeds]', 'least', 'most',
                      'sum of z^2', 'p, chi-square', 'collapsed' } }
end
if #results > 1 then
  local t = over_seeds()
  e.tell '\nover seeds'
  e.tell(term.table(t.rows, { header = t.header, width = math.max(110, term.columns()) }))
  table.insert(tables, 1, t)
end

local out = e:folder('gaussian', results[1].train)
say ''
local panels = panels_of(results)
local six, seven = figure6(panels, out .. '/figure6'), figure7(panels, out .. '/figure7')
local over = #results > 1 and (' All %d seeds together.'):format(#results) or ''
e.tell('\n' .. sentence)

e:report(out, {
  title = 'Gaussian poisoning audit', conclusion = sentence,
  next = {
    'build/vestige experiments/gaussian.lua --seeds 6',
    'build/vestige experiments/gaussian.lua --unit pixel',
    'build/vestige experiments/gaussian.lua --scale paper --data FOLDER',
  },
  sections = {
    { title = 'Verdicts', tables = tables,
      text = ('%d training images (%s), %d of them poisoned with noise of variance %g in %s units; '
              .. 'budget %g of the original steps; a share of %g of the poisons known, deleted in '
              .. '%d request(s). A model that learned the noise has GUS below 0. TPR is at a false '
              .. 'positive rate of 0.01.'):format(train:size(), e.kind,
              results[1].poison.estimates.poisons, o.eps2, o.unit, o.budget, o.discovered,
              o.requests) },
    { title = 'The scores (Figure 6 of the paper)', figure = { svg = six.svg,
      caption = 'The scores -I of the canaries over N(0,1), their law for a model that is '
                .. 'independent of the noise.' .. over } },
    { title = 'The trade-off (Figure 7 of the paper)',
      figure = { svg = seven.svg,
        caption = 'The canaries found at each false positive rate (solid), and the curve of a '
                  .. 'Gaussian shift of the same mean (dashed).' .. over } },
  },
})
