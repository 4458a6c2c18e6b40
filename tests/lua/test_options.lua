local lu = require 'luaunit'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'

local T = {}

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

local function spec()
  return options.declare{
    usage = 'vestige experiments/x.lua', about = 'Measures x.',
    { 'data', '', 'folder of images', kind = 'path' },
    { 'seeds', { 1 }, 'one run each' },
    { 'train.epochs', 17, 'passes over the data', kind = 'int', min = 1 },
    { 'train.lr', 0.1, 'learning rate', min = 0, max = 10 },
    { 'train.flip', true, 'mirror images' },
    { 'train.clip', nil, 'bound on the norm', kind = 'number' },
    { 'optim', 'sgd', 'optimiser', choices = { 'sgd', 'adam' } },
    tables = { unlearn = { batch_size = 64, method = 'gd' } },
    docs = { ['unlearn.method'] = 'which method' },
    scales = { small = {}, paper = { train = { epochs = 100 } } },
  }
end

function T.test_words()
  local defaults = { form = options.one_of('jang', 'graves'),
                     sub = { norm = options.one_of('a', 'b') },
                     init = options.maybe('choice', { 'first', 'random' }) }
  lu.assertEquals(options.merge(defaults, {}), { form = 'jang', sub = { norm = 'a' } })
  local o = options.merge(defaults, { form = 'graves', sub = { norm = 'b' }, init = 'first' })
  lu.assertEquals(o, { form = 'graves', sub = { norm = 'b' }, init = 'first' })
  lu.assertEquals(options.differing(defaults, { form = 'jang', init = 'first' }),
                  { init = 'first' })
  lu.assertEquals(options.differing(defaults, { form = 'graves' }), { form = 'graves' })
  lu.assertEquals(options.text(defaults.form), 'jang')
  lu.assertEquals(options.text(defaults.init), 'none')
  lu.assertStrContains(message_of(options.merge, defaults, { init = 'fist' }),
                       "init: expected one of first, random, got 'fist'; did you mean 'first'?")
  lu.assertStrContains(message_of(options.merge, defaults, { sub = { norm = 1 } }),
                       'sub.norm: expected one of a, b, got 1')
  lu.assertStrContains(message_of(options.merge, defaults, {}, { grid = { form = { 'Jang' } } }),
                       "did you mean 'jang'")
  local line = options.declare{ tables = { ga = defaults } }
  lu.assertEquals(line:parse{ '--ga.form', 'graves' }.ga, { form = 'graves', sub = { norm = 'a' } })
  lu.assertEquals(line:parse{ '--ga.init=random' }.ga.init, 'random')
  lu.assertEquals(message_of(line.parse, line, { '--ga.form', 'yang' }),
                  "--ga.form: expected one of jang, graves, got 'yang'; did you mean 'jang'?")
  lu.assertStrContains(line:help(), '--ga.form jang|graves')
  lu.assertStrContains(line:help(), '--ga.init first|random')
end

function T.test_nearest()
  lu.assertEquals(nearest.distance('', 'abc'), 3)
  lu.assertEquals(nearest.distance('ab', 'ba'), 1)
  lu.assertEquals(nearest.distance('kitten', 'sitting'), 3)
  lu.assertEquals(nearest.find('epoch', { 'train.epochs', 'train.lr' }), 'train.epochs')
  lu.assertEquals(nearest.find('train.epoch', { 'train.epochs', 'test.epoch' }), 'train.epochs')
  lu.assertEquals(nearest.find('LR', { lr = 1 }), 'lr')
  lu.assertNil(nearest.find('x', { 'threads' }))
  lu.assertEquals(nearest.hint('momentun', { 'momentum' }), "; did you mean 'momentum'?")
end

function T.test_defaults_then_scale_then_command_line()
  local o = spec():parse{}
  lu.assertEquals(o.train, { epochs = 17, lr = 0.1, flip = true })
  lu.assertEquals(o.scale, 'small')
  lu.assertEquals(o.unlearn, { batch_size = 64, method = 'gd' })
  o = spec():parse{ '--train.epochs', '20', '--scale', 'paper' }
  lu.assertEquals(o.train.epochs, 20)
  lu.assertEquals(spec():parse{ '--scale=paper' }.train.epochs, 100)
  lu.assertEquals(spec():options{ scale = 'paper', train = { lr = 1 } }.train,
    { epochs = 100, lr = 1, flip = true })
end

function T.test_kinds_on_the_command_line()
  local o = spec():parse{ '--seeds', '1,2,3', '--no-train.flip', '--train.lr', '1/4', '--fresh',
    '--unlearn.batch-size', '8', '--data', '-odd name', '--train.clip=-2.5', '--optim=adam' }
  lu.assertEquals(o.seeds, { 1, 2, 3 })
  lu.assertEquals(o.train, { epochs = 17, lr = 0.25, flip = false, clip = -2.5 })
  lu.assertTrue(o.fresh)
  lu.assertEquals(o.unlearn.batch_size, 8)
  lu.assertEquals(o.data, '-odd name')
  lu.assertFalse(spec():parse{ '--train.flip=false' }.train.flip)
  lu.assertTrue(spec():parse{ '--train.flip=true' }.train.flip)
end

function T.test_errors_of_the_command_line()
  local function of(...) return message_of(spec().parse, spec(), { ... }) end
  lu.assertEquals(of('--train.epoch', '3'),
    "unknown option --train.epoch; did you mean '--train.epochs'?")
  lu.assertEquals(of('--epochs', '3'), "unknown option --epochs; did you mean '--train.epochs'?")
  lu.assertEquals(of('--zzzzzz'), 'unknown option --zzzzzz')
  lu.assertEquals(of('--train.epochs', 'many'),
    "--train.epochs: expected an integer of at least 1, got 'many'")
  lu.assertEquals(of('--train.epochs=2.5'),
    '--train.epochs: expected an integer of at least 1, got 2.5')
  lu.assertEquals(of('--train.lr', '11'),
    '--train.lr: expected a number of at least 0 and at most 10, got 11')
  lu.assertEquals(of('--train.lr'), '--train.lr: a number of at least 0 and at most 10 must follow')
  lu.assertEquals(of('--optim', 'adm'),
    "--optim: expected one of sgd, adam, got 'adm'; did you mean 'adam'?")
  lu.assertEquals(of('--seeds', '1,x'), '--seeds: expected a list of numbers, got 1,x')
  lu.assertEquals(of('--train.flip=yes'), "--train.flip: expected true or false, got 'yes'")
  lu.assertEquals(of('more'), "unexpected argument 'more'")
  lu.assertEquals(of('--scale', 'big'), "--scale: expected one of small, paper, got 'big'")
end

function T.test_plain_arguments()
  local files = options.declare{ rest = 'FILE...', { 'n', 1, 'count' } }
  lu.assertEquals(files:parse{ 'a', '--n', '2', 'b' }.rest, { 'a', 'b' })
end

function T.test_texts()
  local o, text = spec():parse{ '--print-config', '--train.epochs', '3' }
  lu.assertTrue(o.print_config)
  lu.assertStrContains(text, 'train.epochs       = 3')
  lu.assertStrContains(text, 'passes over the data (default 17)')
  lu.assertStrContains(text, 'unlearn.method     = gd')
  lu.assertNotStrContains(text, 'fresh')
  local _, help = spec():parse{ '--help' }
  lu.assertStrContains(help, 'usage: vestige experiments/x.lua [options]\nMeasures x.')
  lu.assertStrContains(help, '--unlearn.batch-size NUMBER')
  lu.assertStrContains(help, '--print-config')
  lu.assertStrContains(help, '--scale small|paper')
  -- What a scale sets is what the texts show at that scale, and no change by the user.
  local _, paper = spec():parse{ '--scale', 'paper', '--help' }
  lu.assertStrContains(help, 'passes over the data (17)')
  lu.assertStrContains(paper, 'passes over the data (100)')
  local _, config = spec():parse{ '--scale', 'paper', '--print-config' }
  lu.assertStrContains(config, '= paper')
  lu.assertStrContains(config, '(default small)')
  lu.assertStrContains(config, 'train.epochs       = 100           passes over the data\n')
end

function T.test_merge()
  local defaults = { lr = 0.1, on = false, ids = {}, inner = { a = 1 }, f = print }
  local o = options.merge(defaults, { inner = { a = 2 }, ids = { 4 }, f = error })
  lu.assertEquals(o, { lr = 0.1, on = false, ids = { 4 }, inner = { a = 2 }, f = error })
  o.ids[1], o.inner.a = 9, 9
  lu.assertEquals(defaults.inner.a, 1)
  lu.assertEquals(defaults.ids, {})
  local function of(given, settings) return message_of(options.merge, defaults, given, settings) end
  lu.assertStrContains(of({ rl = 1 }, { where = 'attack x' }),
    "attack x: unknown option rl; did you mean 'lr'?")
  lu.assertStrContains(of{ lr = '1' }, "lr: expected a number, got '1'")
  lu.assertStrContains(of{ lr = 0 / 0 }, 'lr: expected a number, got ')
  lu.assertStrContains(of{ on = 1 }, 'on: expected true or false, got 1')
  lu.assertStrContains(of{ inner = 3 }, 'inner: expected a table of options, got 3')
  lu.assertEquals(options.merge(defaults, { inner = {} }).inner.a, 1)
  lu.assertStrContains(of({}, { grid = { lr = { 1, 'x' } } }), "lr: expected a number, got 'x'")
  lu.assertStrContains(of({}, { grid = { lrs = { 1 } } }), "did you mean 'lr'?")
end

function T.test_declarations_are_checked()
  lu.assertStrContains(message_of(options.declare, { { 'a', 1 }, { 'a', 2 } }), 'declared twice')
  lu.assertStrContains(message_of(options.declare, { { 'a', 1 }, scales = { small = { b = 1 } } }),
    'scale small: unknown option b')
end

function T.test_random_tables_raise_or_merge_but_never_break()
  math.randomseed(7)
  local defaults = { a = 1, b = 'x', c = true, d = { e = { 1, 2 }, f = options.maybe 'number' } }
  local names = { 'a', 'b', 'c', 'd', 'e', 'f', 'g', 1, 'd.e' }
  local values = { 1, 'x', true, 0 / 0, { 1 }, {}, { e = { 3 } }, { f = 2 }, { f = 'x' }, print }
  for _ = 1, 10000 do
    local given = {}
    for _ = 1, math.random(0, 3) do
      given[names[math.random(#names)]] = values[math.random(#values)]
    end
    local ok, result = pcall(options.merge, defaults, given)
    if ok then
      lu.assertEquals(type(result.a), 'number')
    else
      lu.assertTrue(result:find('unknown option') ~= nil or result:find('expected') ~= nil, result)
    end
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Options', T } })
