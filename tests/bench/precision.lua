-- Do Winograd's convolutions, or products in bf16, change what a study finds? ResNet-18 is trained
-- with Gaussian poisons planted, by f32 direct convolutions, with Winograd and in bf16, from the
-- same initial weights, noise and order of batches. Test accuracy and GUS are compared over seeds
-- by two one-sided t tests of the paired differences (equivalent: the 90 % interval lies within the
-- margin; not equivalent: outside it). A seed is added where a comparison is undecided; a decided
-- one stays as it is. Deciding after each seed makes an error somewhat likelier than the 5 % of one
-- look.
--
-- How convolutions are computed is chosen once a process, so each arm of a seed is a process of its
-- own; what it found is one JSON file in --out, and is not run again. See --help.
local accuracy = require 'vestige.metrics.accuracy'
local data = require 'vestige.data'
local fs = require 'vestige.fs'
local gus = require 'vestige.metrics.gus'
local host = require 'vestige.host'
local json = require 'vestige.json'
local models = require 'vestige.models'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'
local stages = require 'vestige.stages'
local stats = require 'vestige.stats'
local study = require 'vestige.study'
local term = require 'vestige.term'
local vestige = require 'vestige'

-- conv: VESTIGE_CONV of its process; scored: the arithmetic in which its models are scored.
local arms = {
  direct = { conv = 'direct', scored = { 'f32' } },
  winograd = { conv = 'winograd', scored = { 'f32' } },
  bf16 = { conv = 'winograd', autocast = 'bf16', scored = { 'f32', 'bf16' } },
}
local measures = {
  { name = 'accuracy', text = 'test accuracy, points', margin = 1, scale = 100 },
  { name = 'gus', text = 'GUS', margin = 0.1, scale = 1 },
}

local settings = { 'train_size', 'test_size', 'width', 'epochs', 'batch_size', 'lr', 'share',
                   'eps2' }
local spec = options.declare{
  usage = 'vestige tests/bench/precision.lua', stages = false,
  about = 'Compares training with Winograd, and in bf16, with f32 direct: test accuracy and GUS.',
  { 'data', '', "a folder of images by class, in train and test, or CIFAR-10's binary files",
    kind = 'path' },
  { 'out', 'out/precision', 'where results are kept; the same command goes on from them',
    kind = 'path' },
  { 'arms', { 'direct', 'winograd', 'bf16' }, 'what runs; direct is what others are compared with',
    of = 'string' },
  { 'seeds', 12, 'how many seeds at most', min = 2, kind = 'int' },
  { 'least_seeds', 3, 'how many before anything is decided', min = 2, kind = 'int' },
  { 'epochs', 10, 'passes over the training images', min = 1, kind = 'int' },
  { 'width', 16, "ResNet-18's", min = 1, kind = 'int' },
  { 'train_size', 20000, 'training images, 0 for all', min = 0, kind = 'int' },
  { 'test_size', 0, 'test images, 0 for all', min = 0, kind = 'int' },
  { 'batch_size', 128, 'images a step', min = 1, kind = 'int' },
  { 'lr', 0.1, "the one-cycle schedule's largest rate", min = 0 },
  { 'share', 0.1, 'the share of the training images that is poisoned', min = 0, max = 1 },
  { 'eps2', 0.32, 'the variance of the noise, in normalised units', min = 0 },
  { 'loaders', 1, 'threads that make batches', min = 0, kind = 'int' },
  { 'arm', '', 'run only this arm at --seed: what the script starts by itself' },
  { 'seed', 1, 'of --arm', min = 1, kind = 'int' },
}

local o, text = spec:parse(arg)
if text then
  print(text)
  return
end

local function check_arm(name, where)
  if arms[name] then return end
  error(("%s: expected direct, winograd or bf16, got '%s'%s"):format(where, name,
                                                                     nearest.hint(name, arms)), 0)
end

local function result_path(arm, seed) return ('%s/%s-%d.json'):format(o.out, arm, seed) end

local function settings_of(from)
  local t = {}
  for _, name in ipairs(settings) do t[name] = from[name] end
  return t
end

-- ---- One arm at one seed, in a process of its own ----

local function open_data()
  local all = options.given('--data', data.open, o.data)
  if not all.test then error('--data: no test images in ' .. o.data, 0) end
  local function part(ds, size)
    if size == 0 or size >= ds:size() then return ds end
    return ds:sample(size, vestige.generator(0, 'part')) -- the same for all seeds
  end
  return part(all.train, o.train_size), part(all.test, o.test_size), all.kind
end

-- Test accuracy and GUS of a model whose products run in a type.
local function score(model, scored, test, base, noise)
  return vestige.autocast(scored == 'bf16' and 'bf16' or false, function()
    local share, n = accuracy.of(model, test)
    local found = gus.summary(gus.scores(model, base, noise))
    return { accuracy = share, test_samples = n, gus = found.estimate, z = found.z,
             canaries = found.n, zero_gradients = found.zero }
  end)
end

local function run_arm(name, seed)
  local arm, info = arms[name], vestige.info()
  if info.conv ~= arm.conv then
    error(('--arm %s: expected VESTIGE_CONV=%s, and a level above ref: conv is %s'):format(
          name, arm.conv, info.conv), 0)
  end
  local train, test, kind = open_data()
  local model = { name = 'resnet18',
                  options = { width = o.width, channels = train.x:size(4),
                              classes = #train.classes,
                              normalize = models.statistics_of(train, kind) } }
  local recipe = {
    epochs = o.epochs, batch_size = o.batch_size, augment = { crop = 0, flip = false },
    optim = { name = 'sgd', lr = o.lr, momentum = 0.9, weight_decay = 5e-4 },
    schedule = { name = 'one_cycle' }, autocast = arm.autocast,
  }
  local s = study.new{ root = o.out .. '/runs', quiet = o.quiet,
    command = options.command_line(arg),
    info = { backend = 'cpu', level = info['cpu level'], version = info.version },
    context = function(ctx) ctx.quiet, ctx.loaders = o.quiet, o.loaders end }
  local poison = s:run(stages.poison,
                       { attack = 'gaussian', options = { share = o.share, eps2 = o.eps2 },
                         seed = seed }, { data = train })
  local trained = s:run(stages.train, { model = model, recipe = recipe, seed = seed },
                        { data = train, poison = poison })
  local _, p = stages.poisoned(train, poison)
  local net = models.make(model.name, model.options):load(trained:path 'model.safetensors'):eval()
  local base, scores = train:subset(p.forget), {}
  for _, scored in ipairs(arm.scored) do
    scores[scored] = score(net, scored, test, base, p.noise)
  end
  json.save(result_path(name, seed), {
    arm = name, seed = seed, settings = settings_of(o), scores = scores,
    same = { data = train:hash() .. test:hash(), level = info['cpu level'] },
    conv = info.conv, version = info.version, machine = study.machine(),
    train_loss = trained.estimates.loss, train_accuracy = trained.estimates.train_accuracy,
    train_seconds = trained.estimates.train_seconds,
  })
end

if o.data == '' then error('--data: name a folder of images', 0) end
if o.arm ~= '' then
  check_arm(o.arm, '--arm')
  options.given('--out', fs.mkdir, o.out)
  return run_arm(o.arm, o.seed)
end

-- ---- All arms and seeds ----

local compared, has_direct = {}, false -- the arms but direct
for _, name in ipairs(o.arms) do
  check_arm(name, '--arms')
  if name == 'direct' then has_direct = true else compared[#compared + 1] = name end
end
if not has_direct or #compared == 0 then
  error('--arms: expected direct, and what to compare with it', 0)
end
options.given('--out', fs.mkdir, o.out)

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- Runs an arm in a process that Ctrl-C reaches too. It checkpoints; here the script ends as it did.
local function start(name, seed)
  if not o.quiet then io.stderr:write(('seed %d, %s\n'):format(seed, name)) end
  local words = { 'exec env VESTIGE_CONV=' .. arms[name].conv, quoted(host.program),
                  quoted(arg[0]) }
  local function add(option, value)
    words[#words + 1] = quoted(('--%s=%s'):format(option:gsub('_', '-'), value))
  end
  for _, option in ipairs(settings) do add(option, options.text(o[option])) end
  add('data', o.data)
  add('out', o.out)
  add('loaders', o.loaders)
  add('arm', name)
  add('seed', seed)
  if o.quiet then words[#words + 1] = '--quiet' end
  local status = os.execute(table.concat(words, ' '))
  if status == 0 then return end
  local code = status >= 256 and status / 256 or 128 + status % 128
  if code == 130 then
    io.stderr:write 'vestige: interrupted; the same command goes on from there\n'
  else
    io.stderr:write(('vestige: seed %d, %s: ended with status %d\n'):format(seed, name, code))
  end
  os.exit(code)
end

-- What all results must share: settings, data, level.
local shared
local function result(name, seed)
  local path = result_path(name, seed)
  if not fs.exists(path) then start(name, seed) end
  local r = json.load(path)
  shared = shared or { settings = settings_of(o), same = r.same }
  for _, group in ipairs { 'settings', 'same' } do
    for field, v in pairs(shared[group]) do
      if r[group][field] ~= v then
        error(('%s was measured with %s = %s, not %s: give another --out'):format(path, field,
              options.text(r[group][field]), options.text(v)), 0)
      end
    end
  end
  return r
end

-- The two one-sided tests on paired differences.
local function judge(differences, margin)
  local n = #differences
  if n < 2 then return { n = n, margin = margin, verdict = 'undecided' } end
  local t
  if stats.var(differences) == 0 then
    local d = differences[1]
    t = { estimate = d, lo = d, hi = d, p = math.abs(d) < margin and 0 or 1 }
    t.equivalent = t.p == 0
  else
    t = stats.tost_t(differences, margin)
  end
  local verdict = 'undecided'
  if n >= o.least_seeds then
    if t.equivalent then verdict = 'equivalent'
    elseif t.lo > margin or t.hi < -margin then verdict = 'not equivalent' end
  end
  return { n = n, estimate = t.estimate, lo = t.lo, hi = t.hi, p = t.p, margin = margin,
           verdict = verdict }
end

local comparisons, found = {}, {} -- found: arm -> its results
for _, name in ipairs(compared) do
  for _, scored in ipairs(arms[name].scored) do
    for _, measure in ipairs(measures) do
      comparisons[#comparisons + 1] = { arm = name, scored = scored, measure = measure,
                                        differences = {}, judged = judge({}, measure.margin) }
    end
  end
end

local function undecided(name)
  for _, c in ipairs(comparisons) do
    if (not name or c.arm == name) and c.judged.verdict == 'undecided' then return true end
  end
  return false
end

local function take(name, seed)
  local r = result(name, seed)
  found[name] = found[name] or {}
  table.insert(found[name], r)
  return r
end

local function one_seed(seed)
  local direct = take('direct', seed)
  for _, name in ipairs(compared) do
    local r = undecided(name) and take(name, seed)
    for _, c in ipairs(comparisons) do
      if r and c.arm == name and c.judged.verdict == 'undecided' then
        local m, d = c.measure, c.differences
        d[#d + 1] = m.scale * (r.scores[c.scored][m.name] - direct.scores.f32[m.name])
        c.judged = judge(d, m.margin)
      end
    end
  end
end

local function number(v, digits) return v and ('%.' .. (digits or 3) .. 'f'):format(v) or false end

-- Mean over seeds of what an arm scored.
local function mean(name, scored, what)
  local sum = 0
  for _, r in ipairs(found[name]) do sum = sum + r.scores[scored][what] end
  return sum / #found[name]
end

local function arm_rows()
  local rows, order = {}, { 'direct', unpack(compared) }
  for _, name in ipairs(order) do
    for _, scored in ipairs(arms[name].scored) do
      local seconds = 0
      for _, r in ipairs(found[name]) do seconds = seconds + r.train_seconds / #found[name] end
      rows[#rows + 1] = { name, scored, #found[name],
                          number(100 * mean(name, scored, 'accuracy'), 2) .. ' %',
                          number(mean(name, scored, 'gus')), number(mean(name, scored, 'z'), 1),
                          term.duration(seconds) }
    end
  end
  return rows
end

local function comparison_rows()
  local rows = {}
  for i, c in ipairs(comparisons) do
    local j = c.judged
    rows[i] = { c.arm, c.scored, c.measure.text, j.n, number(j.estimate),
                j.lo and ('[%.3f, %.3f]'):format(j.lo, j.hi) or false,
                ('+-%g'):format(j.margin), j.p and ('%.2g'):format(j.p) or false, j.verdict }
  end
  return rows
end

local function show()
  local width = math.max(100, term.columns())
  print(term.table(arm_rows(), { width = width, header = {
    'trained', 'scored', 'seeds', 'test acc.', 'GUS', 'z', 'training' } }))
  print()
  print(term.table(comparison_rows(), { width = width, header = {
    'trained', 'scored', 'minus f32 direct', 'seeds', 'mean', '90 % interval', 'margin', 'p',
    'verdict' } }))
  print()
end

local function save()
  local list = {}
  for i, c in ipairs(comparisons) do
    list[i] = { arm = c.arm, scored = c.scored, measure = c.measure.name,
                differences = json.array(c.differences) }
    for name, v in pairs(c.judged) do list[i][name] = v end
  end
  json.save(o.out .. '/precision.json', {
    settings = shared.settings, same = shared.same, comparisons = json.array(list),
    machine = study.machine(), command = options.command_line(arg) })
end

for seed = 1, o.seeds do
  if not undecided() then break end
  one_seed(seed)
  if not o.quiet then
    print(('after seed %d'):format(seed))
    show()
  end
  save()
end
if o.quiet then show() end
local said = {}
for _, c in ipairs(comparisons) do
  said[#said + 1] = ('%s, scored in %s, %s: %s to f32 direct'):format(c.arm, c.scored,
    c.measure.text:match '^[^,]+', c.judged.verdict:gsub('undecided', 'not shown to be equivalent'))
end
print(table.concat(said, '\n'))
