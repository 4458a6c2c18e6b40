local lu = require 'luaunit'
local ffi = require 'ffi'
local vestige = require 'vestige'
local data = require 'vestige.data'

local T = {}

-- Rows that tell who they are: image i holds i in every pixel of its first channel.
local function images(n, o)
  o = o or {}
  local h, w, c = o.h or 4, o.w or 5, o.c or 2
  local pixels = ffi.new('uint8_t[?]', n * h * w * c)
  for i = 0, n * h * w * c - 1 do pixels[i] = (i * 37 + math.floor(i / (h * w * c)) * 11) % 256 end
  local labels = {}
  for i = 1, n do labels[i] = (i - 1) % 3 end
  return data.new({ x = vestige.from_data(pixels, { n, h, w, c }, 'u8'),
                    y = vestige.tensor(labels, { dtype = 'i64' }) },
                  { classes = { 'cat', 'dog', 'ship' } })
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

local function assert_message(text, ...)
  lu.assertStrContains(message_of(...), text)
end

local function stream(name) return vestige.generator(3, name or 'test') end

local function same(a, b)
  return table.concat(a:shape(), ',') == table.concat(b:shape(), ',') and a:dtype() == b:dtype()
         and table.concat(a:tolist(), ' ') == table.concat(b:tolist(), ' ')
end

function T.test_rows_keep_their_ids()
  local ds = images(9)
  lu.assertEquals(ds:size(), 9)
  local some = ds:subset{ 7, 2, 4 }
  lu.assertEquals(some:ids(), { 7, 2, 4 })
  lu.assertTrue(same(some.x[1], ds.x[8]))
  lu.assertEquals(some:subset{ rows = { 3, 1 } }:ids(), { 4, 7 })
  lu.assertEquals(ds:without{ 0, 8 }:ids(), { 1, 2, 3, 4, 5, 6, 7 })
  lu.assertEquals(ds:first(2):ids(), { 0, 1 })
  lu.assertEquals(ds:class('dog'):ids(), { 1, 4, 7 })
  lu.assertEquals(ds:class(2):ids(), { 2, 5, 8 })
  lu.assertEquals(ds:rows(vestige.tensor({ 8, 0 }, { dtype = 'i64' })), { 9, 1 })
end

function T.test_random_parts()
  local ds = images(50)
  local a, b = ds:split(0.3, stream())
  lu.assertEquals({ a:size(), b:size() }, { 15, 35 })
  local seen = {}
  for _, part in ipairs { a, b } do
    for _, id in ipairs(part:ids()) do
      lu.assertNil(seen[id])
      seen[id] = true
    end
  end
  lu.assertEquals(a:ids(), (ds:split(0.3, stream())):ids())
  lu.assertNotEquals(a:ids(), (ds:split(0.3, stream 'other')):ids())
  local rng = stream()
  local first, second = ds:sample(10, rng), ds:sample(10, rng)
  lu.assertEquals(first:size(), 10)
  lu.assertNotEquals(first:ids(), second:ids())
end

function T.test_an_order_is_uniform()
  -- Each of 24 orders of 4 within five standard deviations of 1/24.
  local count, n, rng = {}, 12000, stream()
  local permutation = require('vestige.data.streams').permutation
  for _ = 1, n do
    local key = table.concat(permutation(4, rng))
    count[key] = (count[key] or 0) + 1
  end
  local kinds, sd = 0, math.sqrt(n / 24 * (1 - 1 / 24))
  for _, k in pairs(count) do
    kinds = kinds + 1
    lu.assertTrue(math.abs(k - n / 24) < 5 * sd)
  end
  lu.assertEquals(kinds, 24)
end

function T.test_rows_change()
  local ds = images(6)
  local before = ds:hash()
  local black = vestige.zeros({ 2, 4, 5, 2 }, { dtype = 'u8' })
  local new = ds:replace({ 4, 1 }, { x = black })
  lu.assertTrue(same(new.x[2], black[1]) and same(new.x[5], black[2]))
  lu.assertTrue(same(new.x[3], ds.x[3]))
  lu.assertEquals(new:ids(), ds:ids())
  lu.assertEquals(ds:hash(), before)
  lu.assertEquals(ds:relabel({ 5, 0 }, 'ship').y:tolist(), { 2, 1, 2, 0, 1, 2 })
  lu.assertEquals(ds:relabel({ 5, 0 }, { 0, 1 }).y:tolist(), { 1, 1, 2, 0, 1, 0 })
  -- Bytes and numbers meet as the loader would show them.
  local real = ds:replace({ 0 }, { x = vestige.full{ size = { 1, 4, 5, 2 }, value = 0.5 } })
  lu.assertEquals(real.x:dtype(), 'f32')
  local a, b = real:batches(6):next(), ds:batches(6):next()
  lu.assertTrue(same(a.x[3], b.x[3]))
  lu.assertEquals(a.x[1]:tolist()[1], 0.5)
end

function T.test_rows_are_added()
  local ds = images(4)
  local more = ds:append{ x = images(2).x, y = vestige.tensor({ 2, 2 }, { dtype = 'i64' }) }
  lu.assertEquals(more:ids(), { 0, 1, 2, 3, 4, 5 })
  lu.assertEquals(more.y:tolist(), { 0, 1, 2, 0, 2, 2 })
  assert_message('id 0 stands for two rows', ds.append, ds, images(2))
  assert_message('lack column y', ds.append, ds, { x = images(2).x })
end

function T.test_the_hash_is_of_the_content()
  local ds = images(5)
  lu.assertEquals(images(5):hash(), ds:hash())
  lu.assertNotEquals(ds:relabel({ 1 }, 0):hash(), ds:hash())
  lu.assertNotEquals(ds:subset{ 1, 0, 2, 3, 4 }:hash(), ds:hash())
  local one = ds.x:clone()
  one[3][2][2][1] = 255 - one[3][2][2][1]:item()
  lu.assertNotEquals(data.new({ x = one, y = ds.y }, { classes = ds.classes }):hash(), ds:hash())
  local planted = ds:with_noise{ seed = 1, variance = 0.1, ids = { 2 } }
  lu.assertNotEquals(planted:hash(), ds:hash())
  lu.assertNotEquals(planted:hash(), ds:with_noise{ seed = 2, variance = 0.1, ids = { 2 } }:hash())
  lu.assertEquals(planted:without_noise():hash(), ds:hash())
end

-- All of a pass in one text.
local function text_of(ds, batch_size, o)
  local out = {}
  for b in ds:batches(batch_size, o) do
    lu.assertEquals(b.x:dtype(), 'f32')
    out[#out + 1] = table.concat(b.x:tolist(), ' ') .. '|' .. table.concat(b.y:tolist(), ' ')
                    .. '|' .. table.concat(b.id:tolist(), ' ') .. '|' .. b.n
                    .. '|' .. (b.noise and table.concat(b.noise:tolist(), ' ') or '')
  end
  return table.concat(out, '\n'), #out
end

function T.test_the_same_bits_for_any_number_of_loaders()
  local ds = images(53):with_noise{ seed = 5, variance = 0.3, ids = { 3, 20, 52 } }
  for _, o in ipairs{ {}, { shuffle = true }, { augment = { crop = 2, flip = true } },
                      { shuffle = true, augment = { shift = 1.5, flip = true }, epoch = 3 },
                      { augment = { crop = 1, shift = 0.5 }, drop_last = true } } do
    o.seed, o.loaders = 11, 0
    local want, n = text_of(ds, 8, o)
    lu.assertEquals(n, o.drop_last and 6 or 7)
    for _, loaders in ipairs{ 1, 2, 4 } do
      o.loaders = loaders
      lu.assertEquals(text_of(ds, 8, o), want)
    end
  end
end

function T.test_epochs_and_seeds_differ()
  local ds, seen = images(20), {}
  for _, o in ipairs{ { seed = 1, epoch = 0 }, { seed = 1, epoch = 1 }, { seed = 2, epoch = 0 } } do
    o.shuffle = true
    local text = text_of(ds, 20, o)
    lu.assertNil(seen[text])
    seen[text] = true
    o.shuffle, o.augment = false, { crop = 2, flip = true }
    text = text_of(ds, 20, o)
    lu.assertNil(seen[text])
    seen[text] = true
  end
end

function T.test_a_pass_goes_on_where_it_stood()
  local ds = images(23)
  local o = { shuffle = true, augment = { crop = 1 }, seed = 4, loaders = 2 }
  local whole = require('vestige.data.batches').new(ds, 5, o)
  local rest = require('vestige.data.batches').new(ds, 5, o)
  whole:start(2)
  rest:start(2, 3)
  for _ = 1, 3 do whole:next() end
  for _ = 1, 2 do
    local a, b = whole:next(), rest:next()
    lu.assertTrue(same(a.x, b.x) and same(a.id, b.id) and same(a.rows, b.rows))
  end
  lu.assertNil(rest:next())
  rest:start(2) -- and a pass can begin again
  lu.assertTrue(same(rest:next().x, (function() whole:start(2) return whole:next() end)().x))
  whole:close()
  rest:close()
end

function T.test_the_batch_of_a_step()
  local batches, ds = require 'vestige.data.batches', images(7)
  local o = { shuffle = true, seed = 3 }
  local whole, it, want = batches.new(ds, 3, o), batches.new(ds, 3, o), {}
  for epoch = 0, 1 do -- of three batches each
    whole:start(epoch)
    for b in function() return whole:next() end do want[#want + 1] = b.id:tolist() end
  end
  for _, step in ipairs { 1, 2, 3, 4, 5, 2, 6, 5, 6 } do
    lu.assertEquals(it:of_step(step).id:tolist(), want[step])
  end
  lu.assertNotEquals(want[1], want[4])
end

function T.test_pixels_are_bytes_over_255()
  local ds = images(3)
  local b = ds:batches(3):next()
  local want = {}
  for i, v in ipairs(ds.x:tolist()) do want[i] = tonumber(ffi.new('float', v / 255)) end
  lu.assertEquals(b.x:tolist(), want)
  lu.assertEquals(b.rows:tolist(), { 0, 1, 2 })
end

-- What crop and flip do to one image, by the definition, over every place they can draw.
function T.test_crop_and_flip_move_whole_pixels()
  local h, w, crop = 4, 5, 2
  local ds = images(40, { h = h, w = w, c = 1 })
  local x = ds.x:to 'f32' / 255
  local found, flips = 0, 0
  local rows = ds:batches(40, { augment = { crop = crop, flip = true }, seed = 9 }):next().x
  local padded = x:pad{ 0, 0, crop, crop, crop, crop }
  for i = 1, 40 do
    local got = table.concat(rows[i]:tolist(), ' ')
    local source, hit = padded[i]:totable(), nil
    for dy = 0, 2 * crop do
      for dx = 0, 2 * crop do
        for flip = 0, 1 do
          local out = {}
          for y = 1, h do
            for k = 1, w do
              local column = flip == 1 and w + 1 - k or k
              out[#out + 1] = source[y + dy][column + dx][1]
            end
          end
          if table.concat(out, ' ') == got then hit = flip end
        end
      end
    end
    found = found + (hit and 1 or 0)
    flips = flips + (hit or 0)
  end
  lu.assertEquals(found, 40)
  lu.assertTrue(flips > 8 and flips < 32)
end

function T.test_shift_is_bilinear()
  -- A ramp moved by a fraction stays a ramp: differences inside are one step.
  local h, w = 6, 8
  local list = {}
  for y = 0, h - 1 do
    for k = 0, w - 1 do list[#list + 1] = 10 + y * 0.25 + k end
  end
  local ds = data.new{ x = vestige.tensor(list):reshape{ 1, h, w, 1 } }
  local moved = 0
  for seed = 1, 20 do
    local x = ds:batches(1, { augment = { shift = 1.75 }, seed = seed }):next().x:totable()[1]
    for y = 3, h - 3 do
      for k = 4, w - 3 do
        lu.assertAlmostEquals(x[y][k][1] - x[y][k - 1][1], 1, 1e-5)
        lu.assertAlmostEquals(x[y + 1][k][1] - x[y][k][1], 0.25, 1e-5)
      end
    end
    local by = x[3][4][1] - (10 + 2 * 0.25 + 3)
    lu.assertTrue(math.abs(by) <= 1.75 * 1.25)
    moved = moved + (math.abs(by - math.floor(by + 0.5)) > 1e-3 and 1 or 0)
  end
  lu.assertTrue(moved > 15)
end

function T.test_planted_noise()
  local ds = images(12):with_noise{ seed = 8, variance = 0.25, ids = { 10, 3 } }
  local xi = data.noise(8, { 3, 10 }, { 4, 5, 2 })
  lu.assertEquals(xi:shape(), { 2, 4, 5, 2 })
  lu.assertTrue(same(data.noise(8, { 10 }, { 4, 5, 2 })[1], xi[2]))
  lu.assertFalse(same(data.noise(9, { 10 }, { 4, 5, 2 })[1], xi[2]))
  local planted = 0
  for b in ds:batches(5, { shuffle = true, seed = 1 }) do
    for i, id in ipairs(b.id:tolist()) do
      if id == 3 or id == 10 then
        planted = planted + 1
        lu.assertTrue(same(b.noise[i], xi[id == 3 and 1 or 2] * 0.5))
      elseif b.noise then
        lu.assertEquals(b.noise[i]:abs():sum():item(), 0)
      end
    end
  end
  lu.assertEquals(planted, 2)
  lu.assertNil(ds:subset{ 1, 2 }.noise)
  lu.assertEquals(ds:subset{ 3, 2 }.noise.ids, { 3 })
  lu.assertNil(ds:subset{ 1, 2 }:batches(2):next().noise)
end

-- Planted noise is a part of the image: it moves as noise does that was added to the pixels.
function T.test_planted_noise_moves_with_the_image()
  local clean = images(12)
  clean = data.new({ x = clean.x:to 'f32' / 255, y = clean.y }, { classes = clean.classes })
  local planted = clean:with_noise{ seed = 8, variance = 0.25, ids = { 10, 3, 4 } }
  local x = clean.x:clone()
  for _, id in ipairs{ 10, 3, 4 } do
    x[id + 1] = x[id + 1] + data.noise(8, { id }, { 4, 5, 2 })[1] * 0.5
  end
  local added = data.new({ x = x, y = clean.y }, { classes = clean.classes })
  local still = 0
  for _, augment in ipairs{ {}, { crop = 2 }, { flip = true }, { crop = 1, flip = true },
                            { shift = 1.5, flip = true } } do
    for epoch = 0, 2 do
      local o = { shuffle = true, seed = 1, epoch = epoch, augment = augment }
      local a, b = planted:batches(5, o), added:batches(5, o)
      for one in a do
        local other = b:next()
        local sum = one.noise and one.x + one.noise or one.x
        lu.assertTrue((sum - other.x):abs():max():item() < 1e-6)
      end
      local first = planted:subset{ 3 }:batches(1, o):next()
      still = still + (same(first.noise[1], data.noise(8, { 3 }, { 4, 5, 2 })[1] * 0.5) and 1 or 0)
    end
  end
  lu.assertTrue(still >= 3 and still < 12)
end

function T.test_other_columns_and_types()
  local ds = data.new{ x = vestige.tensor({ { 1, 2 }, { 3, 4 }, { 5, 6 } }, { dtype = 'f64' }),
                       soft = vestige.rand{ 3, 4 }, y = vestige.tensor{ 0.5, 1.5, 2.5 } }
  local n = 0
  for b in ds:batches(2) do
    lu.assertEquals(b.x:dtype(), 'f64')
    lu.assertEquals(b.soft:shape(), { b.n, 4 })
    lu.assertEquals(b.y:tolist()[1], n == 0 and 0.5 or 2.5)
    n = n + 1
  end
  lu.assertEquals(n, 2)
end

function T.test_loops_left_early_and_memory()
  local ds = images(64)
  local function left()
    local it = ds:batches(4, { loaders = 3, augment = { crop = 1 } })
    vestige.scope(function() for _ = 1, 3 do it() end end)
    it:close()
    it:close()
    lu.assertNil(it())
  end
  left()
  collectgarbage()
  collectgarbage()
  local before = vestige.memory().live
  for _ = 1, 20 do left() end
  ds:batches(4, { loaders = 2 }) -- dropped at once: the collector ends its threads
  collectgarbage()
  collectgarbage()
  lu.assertEquals(vestige.memory().live, before)
end

function T.test_an_interrupt_and_a_failing_allocation_leave_a_loader_whole()
  local C = require('vestige.ffi').C
  local handle = require 'vestige.handle'
  local ds = images(64)
  handle.no_retry = true
  local want = text_of(ds, 16, { loaders = 0 })
  local tries, done = 0, false
  while not done do
    tries = tries + 1
    collectgarbage()
    C.vestige_fail_allocation(tries)
    done = pcall(function() ds:batches(16, { loaders = 2 }):next() end)
    C.vestige_fail_allocation(0)
  end
  lu.assertTrue(tries > 5)
  handle.no_retry = nil
  lu.assertEquals(text_of(ds, 16, { loaders = 2 }), want)
end

function T.test_messages()
  local ds = images(5)
  assert_message("did you mean 'shuffle'", ds.batches, ds, 2, { shufle = true })
  assert_message('batch_size: expected a whole number', ds.batches, ds, 0)
  assert_message("did you mean 'augment.crop'", ds.batches, ds, 2, { augment = { crpo = 1 } })
  assert_message('expected 0 to 64, got 65', ds.batches, ds, 2, { loaders = 65 })
  assert_message('no row has id 9', ds.subset, ds, { 9 })
  assert_message('row 6: expected 1 to 5', ds.subset, ds, { rows = { 6 } })
  assert_message("did you mean 'ship'", ds.class, ds, 'shp')
  assert_message('expected a whole number from 0 to 5', ds.sample, ds, 6, stream())
  assert_message('expected a stream', ds.sample, ds, 2)
  assert_message('expected 1 rows', ds.replace, ds, { 0 }, { x = images(2).x })
  assert_message('expected rows of shape (4,5,2)', ds.replace, ds, { 0 },
                 { x = images(1, { h = 3 }).x })
  assert_message("no column 'z'", ds.replace, ds, { 0 }, { z = ds.y })
  assert_message('label 2 of row 3 is not one of 2 classes', data.new, { x = ds.x, y = ds.y },
                 { classes = { 'a', 'b' } })
  assert_message('column y: expected 5 rows', data.new, { x = ds.x, y = images(4).y })
  assert_message('the data set is empty', ds.batches, ds:first(0), 2)
  assert_message('expected images (N,H,W,C)', function()
    data.new{ x = vestige.zeros{ 3, 2 } }:batches(1, { augment = { flip = true } })
  end)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances({ { 'data', T } }))
