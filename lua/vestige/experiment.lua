-- What experiments on images share: the options for data, model, recipe, seeds, methods and where
-- stages are kept; the data, the model and the study that these name; seeds side by side (--jobs).
--
--   local e = experiment.start(arg, { usage = 'vestige experiments/x.lua', about = 'Measures x.',
--     methods = { 'gd', 'ngd' }, { 'share', 0.1, 'the share that is poisoned' },
--     scales = { paper = { share = 0.015 } } })
--   if not e then return end -- --help and the like
--   local results = e:seeds(function(seed)
--     return e:protocol{ attack = 'gaussian', attack_options = { share = e.o.share }, seed = seed }
--   end)
--
-- `vestige search` starts in the same way, and so has the same options.
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local jobs = require 'vestige.jobs'
local json = require 'vestige.json'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local options = require 'vestige.options'
local plugins = require 'vestige.plugins'
local protocol = require 'vestige.protocol'
local readers = require 'vestige.data.readers'
local report = require 'vestige.report'
local stats = require 'vestige.stats'
local study = require 'vestige.study'
local files = require 'vestige.tables'
local term = require 'vestige.term'
local vestige = require 'vestige'

local M = {}

-- ---- Options ----

local before = {
  { 'data', '', "a folder: CIFAR-10's binary files, IDX files, or images by class; default "
                .. 'Fashion-MNIST', kind = 'path' },
  { 'train_size', 4000, 'training images, 0 for all', min = 0, kind = 'int' },
  { 'test_size', 2000, 'test images, 0 for all', min = 0, kind = 'int' },
  { 'model', 'resnet18', 'the network, a name in vestige.models' },
  { 'width', 16, 'its width', min = 1, kind = 'int' },
}

local budget = {
  { 'budget', 0.1, "each method's steps, as a share of the original run's", min = 0, max = 1 },
  { 'budget_unit', 'steps', "steps; or epochs: that share of the recipe's epochs, over what is "
    .. 'retained', choices = { 'steps', 'epochs' } },
  { 'discovered', 1, 'the share of the poisons that is known, and forgotten', min = 0, max = 1 },
  { 'requests', 1, 'in how many parts they are deleted, one after the other', min = 1,
    kind = 'int' },
}

local function unlearning(methods)
  return {
    { 'methods', methods, 'unlearning methods', of = 'string' },
    { 'method_options', '', 'a JSON file {method: {option: value}}, as vestige search writes',
      kind = 'path' },
  }
end

local function attacks(attack)
  return { { 'attack', attack, "the attack; its options, --ATTACK.OPTION, are told by "
                               .. "vestige -e 'help \"vestige.attacks.ATTACK\"'" } }
end

-- The options of every attack, in a table of its name.
local function attack_tables()
  local tables, texts = {}, {}
  for _, name in ipairs(plugins.names 'attacks') do
    local defaults = plugins.find('attacks', name).defaults or {}
    if next(defaults) ~= nil then tables[name] = defaults end
    for option in pairs(options.flatten(defaults)) do
      texts[name .. '.' .. option] = 'with --attack ' .. name
    end
  end
  return tables, texts
end

local noise = {
  { 'eps2', 0.32, 'eps_p^2: the variance of the noise', min = 0 },
  { 'unit', 'normalised', 'where the noise is added', choices = { 'normalised', 'pixel' } },
}

local after = {
  { 'seed', 1, 'of all streams', min = 0, kind = 'int' },
  { 'seeds', 1, 'how many seeds, from seed on', min = 1, kind = 'int' },
  { 'jobs', 1, 'processes side by side, which share the threads', min = 1, kind = 'int' },
  { 'loaders', 1, 'threads that make batches', min = 1, kind = 'int' },
  { 'out', '', 'where the report goes; default: the folder of runs', kind = 'path' },
}

local train = { epochs = 17, batch_size = 128, lr = 0.1, momentum = 0.9, nesterov = false,
                weight_decay = 5e-4, schedule = 'one_cycle', crop = 0, flip = false }

local docs = {
  ['train.epochs'] = 'passes over the training images', ['train.batch_size'] = 'images a step',
  ['train.lr'] = "the schedule's largest rate",
  ['train.momentum'] = "SGD's momentum; one_cycle has its own, 0.95 to 0.85 and back",
  ['train.nesterov'] = "Nesterov's momentum", ['train.weight_decay'] = "SGD's weight decay",
  ['train.schedule'] = "one_cycle; multi_step: a tenth after 3, 5 and 7 eighths (Witches' Brew); "
                       .. 'cosine; constant', ['train.crop'] = 'random crop, in pixels',
  ['train.flip'] = 'random horizontal flip',
}

-- The paper: ResNet-18, 100 epochs, 8 runs; budgets in epochs of what is retained (C.2).
local scales = {
  small = {},
  paper = { train_size = 0, test_size = 0, width = 64, seeds = 8,
            train = { epochs = 100, crop = 4, flip = true } },
}
local budget_scales = { small = {}, paper = { budget_unit = 'epochs' } }

-- The attacks' options at the small scale; docs/results.md tells how they were chosen.
local attack_scales = {
  small = {
    gaussian = { share = 0.1 },
    gradient_matching = { share = 0.05, steps = 120, restarts = 1 },
    gradient_cancelling = { share = 0.03, steps = 100, eps_w = 0.3 },
  },
  paper = { -- C.1.3, and Algorithm 2's steps, to the letter
    gradient_cancelling = { variant = 'paper' },
  },
}

-- The (nested) table b over a.
local function over(a, b)
  local flat = options.flatten(a)
  for name, v in pairs(options.flatten(b or {})) do flat[name] = v end
  return options.nest(flat)
end

-- Three shares of Gaussian poisons with six seeds and every method take about 20 minutes on two
-- cores (docs/results.md), and the trained model depends on the noise.
local light = { model = 'resnet9', train_size = 3500,
                train = { epochs = 12, batch_size = 64, lr = 0.05 } }

--- experiment.targeted: the recipe of the small scale under a targeted attack, over that of
-- experiment.small: such poisons are made for shifts and flips, and larger steps move further.
M.targeted = { epochs = 16, lr = 0.1, crop = 4, flip = true }

--- experiment.small(more): the small scale of the grids, for experiment.declare, with more over it.
-- Example:
-- > local scale = require('vestige.experiment').small{ train = { flip = true } }
-- > assert(scale.train.flip and scale.train.batch_size == 64)
function M.small(more) return over(light, more) end

--- experiment.declare(t): the options of an experiment, as options.declare gives them.
-- t: usage, about, rest; rows of its own, of which one with a shared row's name stands in its
-- place; methods: those when none are named: with it there are --methods and --method-options, and
-- with unlearns = true or it --budget; attack: the attack when none is named: with it there are
-- --attack and the options of all of them, --gaussian.share; noise: true for --eps2 and --unit, of
-- Gaussian poisons; train: other defaults of the recipe;
-- tables, docs: as in options.declare; scales: over the shared ones (small: nothing, 10 % poisons;
-- paper: all images, width 64, 100 epochs with crop and flip, 8 seeds, budgets in epochs); bare:
-- true for no data, model and recipe, where the experiment makes its own.
function M.declare(t)
  local spec = { usage = t.usage, about = t.about, rest = t.rest, docs = {}, scales = {} }
  local own, tables, texts = {}, {}, {}
  for _, row in ipairs(t) do own[row[1]] = true end
  local function add(rows)
    for _, row in ipairs(rows) do
      if rows == t or not own[row[1]] then spec[#spec + 1] = row end
    end
  end
  if not t.bare then add(before) end
  add(t)
  if t.noise then add(noise) end
  if t.attack then
    add(attacks(t.attack))
    tables, texts = attack_tables()
  end
  if t.methods then add(unlearning(t.methods)) end
  if t.methods or t.unlearns then add(budget) end
  add(after)
  spec.tables = over(over(t.bare and {} or { train = over(train, t.train) }, tables), t.tables)
  for _, part in ipairs { t.bare and {} or docs, texts, t.docs or {} } do
    for name, text in pairs(part) do spec.docs[name] = text end
  end
  local shared = t.bare and { small = {}, paper = {} } or scales
  for _, part in ipairs { shared, t.attack and attack_scales or {},
                          (t.methods or t.unlearns) and budget_scales or {}, t.scales or {} } do
    for name, values in pairs(part) do spec.scales[name] = over(spec.scales[name] or {}, values) end
  end
  return options.declare(spec)
end

-- ---- What the options name ----

-- {train, test, kind}: the data sets that --data, --train-size and --test-size ask for.
local function open_data(o)
  local read
  if o.data == '' then
    read = readers.fashion_mnist()
  else
    read = options.given('--data', readers.open, o.data)
  end
  if not read.test then error('--data: no test images in ' .. o.data, 0) end
  local function part(columns, size, first)
    local ds = data.new(columns, { classes = read.classes, first_id = first })
    if size == 0 or size >= ds:size() then return ds end
    -- A random part, the same for all seeds: a folder of images is in the order of its classes.
    return ds:sample(size, vestige.generator(0, 'part'))
  end
  local training = part(read.train, o.train_size, 0)
  return training, part(read.test, o.test_size, read.train.x:size(1)), read.kind
end

-- {method: {option: value}} from --method-options, checked.
local function read_method_options(path)
  if path == '' then return {} end
  local given = json.load(path)
  if type(given) ~= 'table' then fail('%s: expected an object', path) end
  for name, values in pairs(given) do
    plugins.options('method', plugins.find('unlearn', name), values)
  end
  return given
end

-- Shares, not epochs, so that retraining within a budget goes through all of it.
local function schedule_of(name)
  return { name = name, shares = name == 'multi_step' and { 3 / 8, 5 / 8, 7 / 8 } or nil }
end

-- The data of an experiment, and the model and the recipe for them.
local function open_images(e)
  local o = e.o
  e.train, e.test, e.kind = open_data(o)
  e.model = { name = o.model, options = models.for_images(o.model, e.train, {
    width = o.width, normalize = models.statistics_of(e.train, e.kind) }) }
  e.recipe = {
    epochs = o.train.epochs, batch_size = o.train.batch_size,
    augment = { crop = o.train.crop, flip = o.train.flip },
    optim = { name = 'sgd', lr = o.train.lr, momentum = o.train.momentum,
              weight_decay = o.train.weight_decay, nesterov = o.train.nesterov or nil },
    schedule = schedule_of(o.train.schedule),
  }
  options.given('--train.schedule', optim.schedule.make, e.recipe.schedule, o.train.lr, 1, 1)
  options.given('--model', models.make, o.model, e.model.options) -- a wrong name is told at once
end

local Experiment = {}
Experiment.__index = Experiment

local BUSY = {} -- what a process of --jobs raises where another one runs a stage

local function new_study(e)
  local o, info = e.o, vestige.info()
  return study.new{
    root = o.runs, fresh = o.fresh, quiet = o.quiet, command = e.command,
    info = function()
      return { backend = 'cpu', level = info['cpu level'], version = info.version }
    end,
    context = function(ctx) ctx.quiet, ctx.loaders = o.quiet, o.loaders end,
    started = e.worker and e.worker.started,
    poll = e.worker and function() error(BUSY, 0) end or nil,
  }
end

-- Which of the processes of --jobs this is, or nil: the k-th of n, at which call of e:ahead, of a
-- study that started when.
local function worker()
  local k, n, call, started = (os.getenv 'VESTIGE_WORKER' or ''):match '^(%d+) (%d+) (%d+) (%S+)$'
  return k and { k = tonumber(k), n = tonumber(n), call = tonumber(call),
                 started = tonumber(started) }
end

--- experiment.start(argv, t): reads a command line and opens what it names. argv: the table `arg`;
-- t: as experiment.declare.
-- Returns nil when --help or the like was asked for and is printed, else an experiment: o, the
-- options; train, test, kind: the data; model {name, options} and recipe, as vestige.protocol
-- takes them; methods, method_options; study; command, this command line; say(...), which prints
-- unless --quiet, and tell(...), which prints results.
-- Errors, told as the user's: an unknown option, method, attack or model with the nearest name;
-- data that cannot be read or have no test part; a runs folder that cannot be made.
function M.start(argv, t)
  local o, text = M.declare(t):parse(argv)
  if text then
    print(text)
    return nil
  end
  local e = setmetatable({ o = o, argv = argv, worker = worker(), calls = 0,
                           command = options.command_line(argv) }, Experiment)
  e.tell = function(...)
    if not e.worker then print(...) end
  end
  e.say = function(...)
    if not o.quiet then e.tell(...) end
  end
  if o.attack then options.given('--attack', plugins.find, 'attacks', o.attack) end
  e.methods = o.methods or {}
  for _, name in ipairs(e.methods) do options.given('--methods', plugins.find, 'unlearn', name) end
  e.method_options = options.given('--method-options', read_method_options,
                                   o.method_options or '')
  if not t.bare then open_images(e) end
  options.given('--runs', fs.mkdir, o.runs)
  e.study = new_study(e)
  return e
end

--- e:recipe_with(t): the recipe with the epochs, learning rate, crop and flip of t.
function Experiment:recipe_with(t)
  local recipe = over(self.recipe, { optim = { lr = t.lr } })
  recipe.epochs, recipe.augment = t.epochs, { crop = t.crop, flip = t.flip }
  return recipe
end

--- e:settings(more): what vestige.protocol's run takes, from the command line, with more over it.
function Experiment:settings(more)
  local o = self.o
  local t = { train = self.train, test = self.test, model = self.model, recipe = self.recipe,
              methods = self.methods, method_options = self.method_options, budget = o.budget,
              budget_unit = o.budget_unit,
              discovered = o.discovered, requests = o.requests, seed = o.seed,
              attack = o.attack, attack_options = o.attack and o[o.attack] }
  for name, v in pairs(more or {}) do t[name] = v end
  return t
end

--- e:gaussian(share): the options of Gaussian poisons, as the command line has them.
function Experiment:gaussian(share)
  return { share = share, eps2 = self.o.eps2, unit = self.o.unit }
end

--- e:protocol(more): vestige.protocol's run with the settings of the command line and more, such as
-- attack, attack_options and seed.
function Experiment:protocol(more) return protocol.run(self.study, self:settings(more)) end

-- ---- Side by side ----

-- Does the tasks, of which one that waits for another process is put off; then ends this process.
local function work(tasks, f, w)
  local left, first = {}, math.floor((w.k - 1) * #tasks / w.n)
  for i = 1, #tasks do left[i] = tasks[(first + i - 1) % #tasks + 1] end
  while #left > 0 do
    local busy = {}
    for _, task in ipairs(left) do
      term.prefix(task.label .. ' ')
      local ok, err = pcall(f, task)
      if not ok and err ~= BUSY then error(err, 0) end
      if not ok then busy[#busy + 1] = task end
    end
    if #busy == #left then fs.sleep(0.5) end
    left = busy
  end
  io.stderr:flush()
  os.exit(0)
end

--- e:ahead(tasks, f): with --jobs N, runs the stages of the tasks ahead, in N processes that run
-- this script up to here and share the runs folder by its locks, each with an Nth of the threads;
-- without, does nothing. What f asks for afterwards is there and only read.
-- tasks: a list of tables with a label; f(task): runs stages, and nothing else.
function Experiment:ahead(tasks, f)
  self.calls = self.calls + 1
  local w, n = self.worker, math.min(self.o.jobs, #tasks)
  if w then
    if w.call == self.calls then work(tasks, f, w) end
  elseif n > 1 then
    local threads = math.max(1, math.floor(vestige.get_num_threads() / n))
    jobs.run{ argv = jobs.command(self.argv), count = n, environment = function(k)
      return { OMP_NUM_THREADS = threads,
               VESTIGE_WORKER = ('%d %d %d %.6f'):format(k, n, self.calls, self.study.started) }
    end }
  end
end

--- e:seeds(f, told, parts): the list of f(seed) for all seeds; told(seed, result) is called after
-- each. f runs stages and returns their records. With --jobs the seeds, the methods of one and its
-- parts are run side by side first: f is then called in other processes too, with one of e.methods
-- at a time, and, where `parts` says how many there are, as f(seed, part) for one part of the work.
function Experiment:seeds(f, told, parts)
  local o, tasks = self.o, {}
  local first, last = o.seed, o.seed + o.seeds - 1
  for seed = first, last do
    for part = 1, parts or 1 do
      for _, method in ipairs(self.methods[1] and self.methods or { false }) do
        tasks[#tasks + 1] = { seed = seed, part = parts and part, method = method,
                              label = 'seed ' .. seed }
      end
    end
  end
  self:ahead(tasks, function(task)
    self.methods = { task.method or nil }
    f(task.seed, task.part)
  end)
  local results = {}
  for seed = first, last do
    if o.seeds > 1 then term.prefix(('seed %d '):format(seed)) end
    results[#results + 1] = f(seed)
    if told then told(seed, results[#results]) end
  end
  term.prefix ''
  return results
end

-- ---- The end ----

--- e:folder(name, record): the folder for a report and its figures, made: --out, or one in the runs
-- folder, called after name and the key of a record.
function Experiment:folder(name, record)
  local o = self.o
  local dir = o.out ~= '' and o.out or ('%s/%s-%s'):format(o.runs, name, record.key:sub(1, 8))
  options.given(o.out ~= '' and '--out' or '--runs', fs.mkdir, dir)
  return dir
end

--- e:report(dir, t): writes dir/report.html, as report.write does, with the command under every
-- figure, and the provenance, and the tables that have a `file` as CSV and LaTeX (table-FILE)
-- beside it. Tells its path.
function Experiment:report(dir, t)
  local o, info = self.o, vestige.info()
  for _, section in ipairs(t.sections) do
    for _, one in ipairs(section.tables or {}) do
      if one.file then files.write(('%s/table-%s'):format(dir, one.file), one) end
    end
    for _, figure in ipairs(section.figures or { section.figure }) do
      figure.command = figure.command or self.command
    end
  end
  t.provenance = { version = info.version, level = info['cpu level'], conv = info.conv,
                   backend = 'cpu', seeds = ('%d to %d'):format(o.seed, o.seed + o.seeds - 1),
                   machine = study.machine(), command = self.command }
  report.write(dir .. '/report.html', t)
  self.tell(('\nreport: %s/report.html'):format(dir))
  if t.next then
    self.say 'to try next:'
    for _, line in ipairs(t.next) do self.say('  ' .. line) end
  end
end

--- e:finish(t): what an experiment ends in: tells the tables and the conclusion, and writes the
-- report. t: dir (e:folder's), title, conclusion, text, tables = list of {title, header, rows,
-- file}, figures = list of {svg, caption, title}, next. A table without rows is left out: one seed
-- has no paired differences.
function Experiment:finish(t)
  local filled = {}
  for _, one in ipairs(t.tables) do
    if #one.rows > 0 then filled[#filled + 1] = one end
  end
  local sections = { { title = 'Results', text = t.text, tables = filled } }
  for _, one in ipairs(filled) do
    self.tell(('\n%s\n%s'):format(one.title, term.table(one.rows, {
      header = one.header, width = math.max(200, term.columns()) })))
  end
  for _, f in ipairs(t.figures) do
    sections[#sections + 1] = { title = f.title, figure = { svg = f.svg, caption = f.caption } }
  end
  self.tell('\n' .. t.conclusion)
  self:report(t.dir, { title = t.title, conclusion = t.conclusion, sections = sections,
                       next = t.next })
end

--- experiment.over(values): {estimate, lo, hi} of numbers, one a seed: the mean with Student's t
-- interval; of one number itself, without an interval.
-- Example:
-- > local t = require('vestige.experiment').over{ 3 }
-- > assert(t.estimate == 3 and t.lo == nil)
function M.over(values)
  if #values > 1 then return stats.t_interval(values) end
  return { estimate = values[1] }
end

return M
