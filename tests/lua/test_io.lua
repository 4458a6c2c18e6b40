-- Files: safetensors against files by its reference implementation (tests/golden/io), images
-- against Pillow's pixels, data sets from files made here and, where VESTIGE_DATA names a folder
-- that holds them (packed or not), from the real ones.
-- luacheck: globals TestSafetensors TestImages TestReaders TestRealData TestExamples
local ffi = require 'ffi'
local lu = require 'luaunit'
local vestige = require 'vestige'
local fs = require 'vestige.fs'
local readers = require 'vestige.data.readers'

local GOLDEN = 'tests/golden/io/'
local dir = os.tmpname()
os.remove(dir)
assert(os.execute('mkdir -p ' .. dir) == 0)

local function path(name) return dir .. '/' .. name end

local function write(name, text)
  os.remove(path(name)) -- truncating it makes some file systems write it to disk at once
  local f = assert(io.open(path(name), 'wb'))
  f:write(text)
  f:close()
  return path(name)
end

local function raises(message, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok, 'expected an error: ' .. message)
  lu.assertStrContains(err, message)
  lu.assertStrContains(err, 'test_io.lua:') -- the caller's line, not the library's
end

local function same(a, b)
  lu.assertEquals(a:dtype(), b:dtype())
  lu.assertEquals(a:shape(), b:shape())
  lu.assertEquals(a:tolist(), b:tolist())
end

local function bytes(x)
  local data = x:data()
  return ffi.string(data, ffi.sizeof(data))
end

local function range(n, f)
  local t = {}
  for i = 0, n - 1 do t[i + 1] = f(i) end
  return t
end

-- ---- safetensors ----
TestSafetensors = {}

local function golden_types() return vestige.load(GOLDEN .. 'types.safetensors') end

function TestSafetensors.test_reference_file()
  local t, metadata = golden_types()
  lu.assertEquals(metadata, { ['made by'] = 'safetensors', ['ü'] = 'é' })
  local halves = range(12, function(i) return i * 0.5 - 3 end)
  local sevens = range(12, function(i) return i * 7 - 20 end)
  lu.assertEquals(t.f32:tolist(), halves)
  lu.assertEquals(t.f32:shape(), { 3, 4 })
  lu.assertEquals(t.f64:tolist(), range(12, function(i) return i * 0.1 end))
  lu.assertEquals(t.f64:shape(), { 2, 2, 3 })
  lu.assertEquals(t.bf16:tolist(), halves)
  lu.assertEquals(t.i64:tolist(), sevens)
  lu.assertEquals(t.i32:tolist(), sevens)
  lu.assertEquals(t.u8:tolist(), range(12, function(i) return i * 11 end))
  lu.assertEquals(t.bool:tolist(), range(12, function(i) return i % 3 == 0 end))
  lu.assertEquals(t.scalar:item(), 2.5)
  lu.assertEquals(t.scalar:shape(), {})
  lu.assertEquals(t.none:shape(), { 0, 3 })
  lu.assertEquals(t.weight:tolist(), range(120, function(i) return i end))
  for _, name in ipairs { 'f32', 'f64', 'bf16', 'i64', 'i32', 'u8', 'bool' } do
    lu.assertEquals(t[name]:dtype(), name)
  end
end

function TestSafetensors.test_half()
  local t = golden_types()
  lu.assertEquals(t.half:dtype(), 'f32')
  local got, want = t.half:tolist(), t['half as f32']:tolist()
  for i, v in ipairs(want) do
    lu.assertTrue(got[i] == v or (v ~= v and got[i] ~= got[i]), 'element ' .. i)
    lu.assertEquals(type(got[i]), 'number') -- not what LuaJIT makes of some NaNs' payloads
    if v == 0 then lu.assertEquals(1 / got[i], 1 / v) end
  end
end

function TestSafetensors.test_round_trip()
  local t = golden_types()
  vestige.save(path 'a.safetensors', t, { metadata = { a = '1', b = 'ö"\\\n' } })
  local back, metadata = vestige.load(path 'a.safetensors')
  lu.assertEquals(metadata, { a = '1', b = 'ö"\\\n' })
  for name, x in pairs(t) do
    if not name:find 'half' then same(back[name], x) end
  end
  vestige.save(path 'b.safetensors', back, { metadata = metadata })
  local a, b = fs.read(path 'a.safetensors'), fs.read(path 'b.safetensors')
  lu.assertTrue(a == b, 'the same tensors give the same bytes')
  lu.assertEquals(a:byte(1) % 8, 0) -- the header's length keeps the data aligned
  for _, name in ipairs(fs.list(dir)) do lu.assertNotStrContains(name, '.tmp') end
end

function TestSafetensors.test_one_tensor_and_none()
  vestige.save(path 'one.safetensors', vestige.ones { 2 })
  lu.assertEquals(vestige.load(path 'one.safetensors').tensor:tolist(), { 1, 1 })
  vestige.save(path 'none.safetensors', {})
  lu.assertEquals(vestige.load(path 'none.safetensors'), {})
end

function TestSafetensors.test_layout()
  local w = golden_types().weight -- as PyTorch has it: out 2, in 3, kh 4, kw 5
  local m = vestige.load(GOLDEN .. 'types.safetensors', { layout = 'nchw' }).weight
  lu.assertEquals(m:shape(), { 2, 4, 5, 3 })
  local a, b = w:totable(), m:totable()
  for o = 1, 2 do
    for c = 1, 3 do
      for y = 1, 4 do
        for x = 1, 5 do lu.assertEquals(b[o][y][x][c], a[o][c][y][x]) end
      end
    end
  end
  local file = path 'layout.safetensors'
  vestige.save(file, { w = m, v = vestige.ones { 3 } }, { layout = 'nchw' })
  local f = vestige.io.open(file)
  lu.assertEquals(f:entry 'w', { dtype = 'F32', shape = { 2, 3, 4, 5 }, bytes = 480 })
  lu.assertEquals(f.metadata, { layout = 'nchw' })
  same(f:read('w', 'memory'), w)
  f:close()
  raises('the file was closed', f.read, f, 'w')
  same(vestige.load(file).w, m) -- the metadata say it
  same(vestige.load(file, { layout = 'memory' }).w, w)
  vestige.save(file, { w = m, v = m }, { layout = { w = 'nchw' } })
  same(vestige.load(file).w, m)
  same(vestige.load(file).v, m)
  same(vestige.load(file, { layout = { w = 'memory' } }).w, w)
end

function TestSafetensors.test_layout_of_every_type()
  for _, dtype in ipairs { 'f32', 'f64', 'bf16', 'i64', 'i32', 'u8' } do
    local x = vestige.tensor(range(2 * 3 * 5 * 2, function(i) return i end)):reshape { 2, 3, 5, 2 }
    x = x:to(dtype)
    vestige.save(path 'x.safetensors', { x = x, none = vestige.zeros { 2, 0, 3, 4 } },
                 { layout = 'nchw' })
    local back = vestige.load(path 'x.safetensors')
    same(back.x, x)
    lu.assertEquals(back.none:shape(), { 2, 0, 3, 4 })
    lu.assertEquals(vestige.load(path 'x.safetensors', { layout = 'memory' }).x:shape(),
                    { 2, 2, 3, 5 })
  end
end

function TestSafetensors.test_larger_than_a_part()
  local x = vestige.rand { 3, 700, 401, 2 } -- parts of a megabyte do not divide it
  vestige.save(path 'large.safetensors', { x = x, y = x }, { layout = { y = 'nchw' } })
  local back = vestige.load(path 'large.safetensors')
  for _, name in ipairs { 'x', 'y' } do
    lu.assertTrue(bytes(back[name]) == bytes(x), name)
  end
  os.remove(path 'large.safetensors')
end

function TestSafetensors.test_devices()
  local x = vestige.tensor { 1, 2, 3 }:to 'ref'
  vestige.save(path 'ref.safetensors', { x = x })
  same(vestige.load(path 'ref.safetensors').x, x:to 'cpu')
  local back = vestige.load(path 'ref.safetensors', { device = 'ref' }).x
  lu.assertEquals(back:device(), 'ref')
  same(back, x)
end

function TestSafetensors.test_names()
  local file = GOLDEN .. 'types.safetensors'
  local t = vestige.load(file, { names = { 'f32', 'u8' } })
  lu.assertNotNil(t.f32)
  lu.assertNil(t.f64)
  raises("types.safetensors: no entry 'f23'; did you mean 'f32'?", function()
    vestige.load(file, { names = { 'f23' } })
  end)
  local f = vestige.io.open(file)
  lu.assertEquals(f.names[1], 'bf16')
  lu.assertEquals(f:entry('half').dtype, 'F16')
end

function TestSafetensors.test_misuse()
  local x = vestige.ones { 2 }
  local out = path 'never.safetensors'
  raises('save: path: expected a string, got nil', vestige.save)
  raises('load: path: expected a string, got table', vestige.load, {})
  raises("unknown option 'layuot'; did you mean 'layout'", vestige.save, out, { x = x },
         { layuot = 'nchw' })
  raises("option layout: expected 'nchw'", vestige.save, out, { x = x }, { layout = 'nhwc' })
  raises("option layout: no tensor 'y'", vestige.save, out, { x = x }, { layout = { y = 'nchw' } })
  raises('layout nchw takes 4 dimensions, got f32 (2)', vestige.save, out, { x = x },
         { layout = { x = 'nchw' } })
  raises("'x': expected a tensor, got number", vestige.save, out, { x = 1 })
  raises('name 1: expected a string', vestige.save, out, { x })
  raises("the name '__metadata__' is reserved", vestige.save, out, { __metadata__ = x })
  raises('is not UTF-8', vestige.save, out, { ['a\255'] = x })
  raises("metadata 'a': the value is not UTF-8", vestige.save, out, { x = x },
         { metadata = { a = '\255' } })
  raises("'a': expected strings, got number", vestige.save, out, { x = x },
         { metadata = { a = 1 } })
  raises('is written by the option layout', vestige.save, out, { x = x },
         { metadata = { layout = 'nchw' } })
  raises("cannot create a file in '" .. dir .. "/no/': No such file", vestige.save,
         path 'no/x.safetensors', { x = x })
  raises('cannot write: Is a directory', vestige.save, dir, { x = x })
  raises('expected the name of a file', vestige.save, dir .. '/', { x = x })
  raises('nowhere: cannot read: No such file or directory', vestige.load, path 'nowhere')
  raises('cannot read: Is a directory', vestige.load, dir)
  raises('/dev/null: cannot read: not a regular file', vestige.load, '/dev/null')
  raises('a zip archive, not a safetensors file', vestige.load, write('z.pt', 'PK\3\4aaaaaaaaaa'))
  local gone = vestige.ones { 2 }
  gone:release()
  raises("save: 'x': the tensor was released", vestige.save, out, { x = gone })
  lu.assertNil(fs.stat(out))
end

local function safetensors(header, data)
  local n, length = #header, ''
  for _ = 1, 8 do
    length = length .. string.char(n % 256)
    n = math.floor(n / 256)
  end
  return write('bad.safetensors', length .. header .. (data or ''))
end

function TestSafetensors.test_damaged()
  local function bad(message, header, data)
    raises('bad.safetensors: ' .. message, vestige.load, safetensors(header, data))
  end
  local a = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
  lu.assertEquals(vestige.load(safetensors(a .. '}', ('\0'):rep(8))).a:tolist(), { 0, 0 })
  bad("entry 'a': data_offsets: 0 to 8 is outside the file's data, 0 to 7", a .. '}',
      ('\0'):rep(7))
  bad('no entry has the last 1 bytes', a .. '}', ('\0'):rep(9))
  bad("entry 'b': data_offsets: overlaps entry 'a', which ends at 8",
      a .. ',"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', ('\0'):rep(8))
  bad("entry 'b': data_offsets: no entry has the bytes from 8 to 12 before it",
      a .. ',"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}', ('\0'):rep(16))
  bad("header: duplicate object key near '\"a\"'", a .. ',' .. a:sub(2) .. '}', ('\0'):rep(8))
  bad("entry 'a': dtype: unknown type 'F99'", (a .. '}'):gsub('F32', 'F99'), ('\0'):rep(8))
  bad("entry 'a': dtype: no tensor has the type U16",
      (a .. '}'):gsub('F32', 'U16'):gsub(',8', ',4'), ('\0'):rep(4))
  bad("entry 'a': shape: dimension 1 is negative: -2", (a .. '}'):gsub('%[2', '[-2'))
  bad("entry 'a': shape: dimension 1 is not a whole number", (a .. '}'):gsub('%[2', '[2.0'))
  bad("entry 'a': data_offsets: shape (3) of F32 takes 12 bytes, not 8",
      (a .. '}'):gsub('%[2', '[3'), ('\0'):rep(8))
  bad("entry 'a': shape: (4611686018427387904,4) is too large",
      (a .. '}'):gsub('%[2', '[4611686018427387904,4'), ('\0'):rep(8))
  bad("entry 'a': shape: (0,4611686018427387904,4) is too large",
      '{"a":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[0,0]}}')
  bad("entry 'a': shape: 9 dimensions, expected at most 8",
      (a .. '}'):gsub('%[2', '[1,1,1,1,1,1,1,1,2'), ('\0'):rep(8))
  bad("entry 'a': data_offsets is missing", '{"a":{"dtype":"F32","shape":[2]}}')
  bad("entry 'a': unknown field 'more'", '{"a":{"more":1}}')
  bad("entry 'a': expected an object", '{"a":3}')
  bad('header: too big integer', (a .. '}'):gsub('%[2', '[99999999999999999999'), ('\0'):rep(8))
  bad('header: ', '{"a\255":{}}')
  bad('header: ', '{"a\\u0000":{}}')
  bad('header: expected an object', '[]')
  bad('header: ', '{ ')
  bad("__metadata__: 'k' is not a string", '{"__metadata__":{"k":1}}')
  bad('__metadata__: expected an object of strings', '{"__metadata__":null}')
  bad("entry 'a': data: a BOOL is 0 or 1, got 2",
      '{"a":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}', '\1\2')
  raises('header length: 18446744073709551615 bytes, but 2 follow', vestige.load,
         write('bad.safetensors', ('\255'):rep(8) .. '{}'))
  raises('header length: 0 bytes, expected 2 to', vestige.load,
         write('bad.safetensors', ('\0'):rep(8)))
  raises('truncated: 3 bytes', vestige.load, write('bad.safetensors', 'abc'))
  -- control characters of a file do not reach the terminal
  bad("entry 'a?[31m': expected an object", '{"a\\u001b[31m":3}')
end

function TestSafetensors.test_every_truncation()
  vestige.save(path 'whole.safetensors', golden_types(), { metadata = { a = 'b' } })
  local whole = fs.read(path 'whole.safetensors')
  collectgarbage()
  local before = vestige.memory().live
  for n = 0, #whole - 1 do
    local ok, err = pcall(vestige.load, write('cut.safetensors', whole:sub(1, n)))
    lu.assertFalse(ok, 'cut at ' .. n)
    lu.assertStrContains(err, 'cut.safetensors')
  end
  collectgarbage()
  lu.assertEquals(vestige.memory().live, before)
end

-- ---- Images ----
TestImages = {}

function TestImages.test_against_pillow()
  local pixels = vestige.load(GOLDEN .. 'pixels.safetensors')
  for name, want in pairs(pixels) do
    local x = vestige.image.load(GOLDEN .. name)
    lu.assertEquals(x:shape(), want:shape(), name)
    lu.assertEquals(x:dtype(), 'u8')
    local a, b, worst = x:tolist(), want:tolist(), 0
    for i = 1, #b do worst = math.max(worst, math.abs(a[i] - b[i])) end
    -- JPEG leaves the inverse transform's and the colours' rounding to the decoder.
    lu.assertTrue(worst <= (name:find 'jpg' and 3 or 0), name .. ': ' .. worst)
  end
end

function TestImages.test_channels_and_types()
  lu.assertEquals(vestige.image.load(GOLDEN .. 'gray.png', { channels = 3 }):shape(), { 7, 9, 3 })
  local x = vestige.image.load(GOLDEN .. 'rgb.png')
  local f = vestige.image.load(GOLDEN .. 'rgb.png', { dtype = 'f64' })
  lu.assertEquals(f:dtype(), 'f64')
  same((f * 255 + 0.25):to 'u8', x)
  same(vestige.image.decode(fs.read(GOLDEN .. 'rgb.png')), x)
end

function TestImages.test_save()
  for _, name in ipairs { 'gray.png', 'graya.png', 'rgb.png', 'rgba.png' } do
    local x = vestige.image.load(GOLDEN .. name)
    vestige.image.save(path 'x.png', x)
    same(vestige.image.load(path 'x.png'), x)
    for _, dtype in ipairs { 'f32', 'f64' } do
      vestige.image.save(path 'x.PNG', x:to(dtype) / 255)
      same(vestige.image.load(path 'x.PNG'), x)
    end
    lu.assertEquals(vestige.image.encode(x), fs.read(path 'x.png'))
  end
  vestige.image.save(path 'x.png', vestige.tensor { { -1, 0.5 }, { 1, 7 } }:to 'bf16')
  lu.assertEquals(vestige.image.load(path 'x.png'):tolist(), { 0, 128, 255, 255 })
  same(vestige.image.decode(vestige.image.encode(vestige.zeros { 2, 2 }:to 'ref')),
       vestige.zeros { 2, 2, 1 }:to 'u8')
end

function TestImages.test_misuse()
  local x = vestige.zeros { 2, 2 }
  raises('x.jpg: images are written as PNG', vestige.image.save, path 'x.jpg', x)
  raises('image.save: expected a tensor, got nil', vestige.image.save, path 'x.png')
  raises('expected height, width and 1 to 4 channels, got f32 (2,2,5)', vestige.image.save,
         path 'x.png', vestige.zeros { 2, 2, 5 })
  raises('expected u8, or a float type from 0 to 1, got i64', vestige.image.encode, x:to 'i64')
  raises('image: element 2 is not a number', vestige.image.encode,
         vestige.tensor { { 0, 0 / 0 } })
  raises('option channels: expected 1 to 4, got 5', vestige.image.load, GOLDEN .. 'rgb.png',
         { channels = 5 })
  raises("option dtype: expected 'u8', 'f32' or 'f64', got 'i32'", vestige.image.load,
         GOLDEN .. 'rgb.png', { dtype = 'i32' })
  raises("unknown option 'chanels'; did you mean 'channels'", vestige.image.load,
         GOLDEN .. 'rgb.png', { chanels = 3 })
  raises('nowhere.png: image: cannot read: No such file', vestige.image.load, path 'nowhere.png')
  raises('text.png: image: neither PNG nor JPEG', vestige.image.load,
         write('text.png', 'this is text'))
  raises('empty.png: image: empty', vestige.image.load, write('empty.png', ''))
end

function TestImages.test_every_truncation()
  for _, name in ipairs { 'rgb.png', 'palette.png', 'photo.jpg', 'progressive.jpg', 'gray.jpg' } do
    local whole = fs.read(GOLDEN .. name)
    for n = 0, #whole - 1 do
      local ok, err = pcall(vestige.image.load, write('cut.png', whole:sub(1, n)))
      lu.assertFalse(ok, name .. ' cut at ' .. n)
      lu.assertStrContains(err, 'cut.png: image: ')
    end
  end
end

local function crc(text)
  local c = bit.bnot(0)
  for i = 1, #text do
    c = bit.bxor(c, text:byte(i))
    for _ = 1, 8 do
      c = bit.band(c, 1) == 1 and bit.bxor(bit.rshift(c, 1), 0xEDB88320) or bit.rshift(c, 1)
    end
  end
  c = bit.bnot(c)
  return string.char(bit.rshift(c, 24), bit.band(bit.rshift(c, 16), 255),
                     bit.band(bit.rshift(c, 8), 255), bit.band(c, 255))
end

function TestImages.test_absurd_size()
  local png = fs.read(GOLDEN .. 'rgb.png')
  local function sized(w, h) -- with the right sum, so that the size is what is wrong
    local header = 'IHDR' .. w .. h .. png:sub(25, 29)
    return png:sub(1, 12) .. header .. crc(header) .. png:sub(34)
  end
  raises('the sum of the chunk at byte 8 is wrong', vestige.image.load,
         write('x.png', png:sub(1, 20) .. 'x' .. png:sub(22)))
  raises('Very large image', vestige.image.load,
         write('x.png', sized('\0\255\255\255', '\0\0\0\1')))
  raises('size: 20000 x 16000 pixels, expected at most', vestige.image.load,
         write('x.png', sized('\0\0\78\32', '\0\0\62\128')))
  raises('size: 84 bytes cannot hold 16384 x 16384 pixels', vestige.image.load,
         write('x.png', sized('\0\0\64\0', '\0\0\64\0')))
end

function TestImages.test_damaged_jpeg()
  local jpeg = fs.read(GOLDEN .. 'photo.jpg')
  local at = assert(jpeg:find('\255\196', 1, true)) -- the first segment of Huffman tables
  raises('a Huffman table does not fit its segment', vestige.image.load,
         write('x.jpg', jpeg:sub(1, at + 4) .. ('\255'):rep(16) .. jpeg:sub(at + 21)))
  raises('a segment has no room for its length', vestige.image.load,
         write('x.jpg', jpeg:sub(1, at + 1) .. '\0\1' .. jpeg:sub(at + 4)))
end

-- ---- Data sets ----
TestReaders = {}

local function cifar_record(label, seed)
  local pixels = {}
  for i = 0, 3071 do pixels[i + 1] = string.char((i * 7 + seed) % 251) end
  return string.char(label) .. table.concat(pixels)
end

function TestReaders.test_cifar10()
  assert(os.execute('mkdir -p ' .. path 'cifar/cifar-10-batches-bin') == 0)
  local folder = 'cifar/cifar-10-batches-bin/'
  write(folder .. 'data_batch_1.bin', cifar_record(3, 0) .. cifar_record(9, 5))
  write(folder .. 'data_batch_2.bin', cifar_record(0, 9))
  write(folder .. 'test_batch.bin', cifar_record(1, 2))
  local data = readers.open(path 'cifar')
  lu.assertEquals(data.kind, 'cifar10')
  lu.assertEquals(data.classes[4], 'cat')
  lu.assertEquals(data.train.x:shape(), { 3, 32, 32, 3 })
  lu.assertEquals(data.train.y:tolist(), { 3, 9, 0 })
  lu.assertEquals(data.train.y:dtype(), 'i64')
  lu.assertEquals(data.test.y:tolist(), { 1 })
  local x = data.train.x:totable()
  for i, seed in ipairs { 0, 5, 9 } do
    for c = 0, 2 do
      lu.assertEquals(x[i][5][8][c + 1], ((c * 1024 + 4 * 32 + 7) * 7 + seed) % 251)
    end
  end
  local one = readers.cifar10(path(folder .. 'data_batch_1.bin'))
  lu.assertEquals(one.train.y:tolist(), { 3, 9 })
  lu.assertNil(one.test)
end

function TestReaders.test_cifar10_damaged()
  local function bad(message, text)
    raises(message, readers.cifar10, write('x.bin', text))
  end
  bad('x.bin: record 2: label: expected 0 to 9, got 10', cifar_record(0, 0) .. cifar_record(10, 0))
  bad('x.bin: size: 3072 bytes is no multiple of 3073', cifar_record(0, 0):sub(2))
  bad('x.bin: empty', '')
  assert(os.execute('mkdir -p ' .. path 'empty') == 0)
  raises('no data_batch_*.bin here or in cifar-10-batches-bin', readers.cifar10, path 'empty')
  raises('cannot list', readers.cifar10, path 'nowhere')
end

local function idx_read(name)
  return vestige.io.one(function(h)
    return require('vestige.ffi').C.vestige_idx_read(h, name)
  end)
end

function TestReaders.test_idx_types()
  local whole = range(12, function(i) return i * 31 - 100 end)
  local halves = range(12, function(i) return (i * 31 - 100) * 0.5 end)
  local small = range(12, function(i) return (i * 31 - 100 + 128) % 256 - 128 end)
  for _, case in ipairs { { 'i1', 'i32', small }, { 'i2', 'i32', whole }, { 'i4', 'i32', whole },
                          { 'f4', 'f32', halves }, { 'f8', 'f64', halves } } do
    local x = idx_read(GOLDEN .. case[1] .. '.idx')
    lu.assertEquals(x:dtype(), case[2])
    lu.assertEquals(x:shape(), { 3, 4 })
    lu.assertEquals(x:tolist(), case[3])
  end
end

function TestReaders.test_idx()
  local data = readers.idx(GOLDEN .. 'images.idx', GOLDEN .. 'labels.idx.gz')
  lu.assertEquals(data.train.x:shape(), { 5, 3, 2, 1 })
  lu.assertEquals(data.train.x:tolist(), range(30, function(i) return i * 8 end))
  lu.assertEquals(data.train.y:tolist(), { 0, 2, 1, 0, 2 })
  lu.assertEquals(data.train.y:dtype(), 'i64')
  lu.assertEquals(data.classes, { '0', '1', '2' })
  lu.assertNil(data.test)
end

function TestReaders.test_idx_damaged()
  local function bad(message, text)
    raises('x.idx: ' .. message, idx_read, write('x.idx', text))
  end
  bad('truncated: the file ends inside the header', '\0\0\8')
  bad('header: an IDX file begins with two zero bytes, got 1 0', '\1\0\8\1\0\0\0\0')
  bad('type: unknown type 0x0A', '\0\0\10\1\0\0\0\0')
  bad('type: unknown type 0xFF', '\0\0\255\1\0\0\0\0')
  bad('dimensions: expected 1 to 8, got 0', '\0\0\8\0')
  bad('dimensions: expected 1 to 8, got 9', '\0\0\8\9' .. ('\0\0\0\1'):rep(9))
  bad('truncated: the file ends inside the sizes', '\0\0\8\3\0\0\0\1')
  bad('dimensions: (2) takes 2 bytes, but the file has 1', '\0\0\8\1\0\0\0\2a')
  bad('dimensions: (1) takes 1 bytes, but the file has 2', '\0\0\8\1\0\0\0\1ab')
  bad('dimensions: (4294967295,4294967295) is too large', '\0\0\8\2' .. ('\255'):rep(8))
  bad('dimensions: (1073741824,1073741824) takes 1152921504606846976 bytes, but the file has 0',
      '\0\0\8\2' .. ('\64\0\0\0'):rep(2))
  local packed = fs.read(GOLDEN .. 'labels.idx.gz')
  for n = 0, #packed - 1 do
    local ok, err = pcall(idx_read, write('x.idx', packed:sub(1, n)))
    lu.assertFalse(ok, 'cut at ' .. n)
    lu.assertStrContains(err, 'x.idx: ')
  end
  for n = 11, #packed do -- after gzip's own header every changed byte is found out
    local changed = packed:sub(1, n - 1) .. string.char((packed:byte(n) + 1) % 256)
                    .. packed:sub(n + 1)
    lu.assertFalse(pcall(idx_read, write('x.idx', changed)), 'changed at ' .. n)
  end
  raises('5 labels, but ', readers.idx, write('x.idx', '\0\0\8\3' .. ('\0\0\0\1'):rep(3) .. 'a'),
         GOLDEN .. 'labels.idx.gz')
  raises('dimensions: images have 3 or 4, got 1', readers.idx, GOLDEN .. 'labels.idx.gz',
         GOLDEN .. 'labels.idx.gz')
  raises('type: labels are whole numbers, got f32', readers.idx, GOLDEN .. 'images.idx',
         write('y.idx', '\0\0\13\1\0\0\0\1' .. ('\0'):rep(4)))
  raises('label 1 is negative: -1', readers.idx,
         write('x.idx', '\0\0\8\3' .. ('\0\0\0\1'):rep(3) .. 'a'),
         write('y.idx', '\0\0\9\1\0\0\0\1\255'))
end

local function make_folder(name, classes, size)
  for c, class in ipairs(classes) do
    assert(os.execute(("mkdir -p '%s'"):format(path(name .. '/' .. class))) == 0)
    for i = 1, 3 do
      local x = vestige.zeros { size, size, 3 }:to 'f32' + (c * 10 + i) / 255
      vestige.image.save(('%s/%s/%d.png'):format(path(name), class, i), x)
    end
  end
end

function TestReaders.test_image_folder()
  make_folder('folder/train', { 'cat-dog', 'cat', 'ant' }, 4)
  make_folder('folder/test', { 'cat' }, 4)
  write('folder/train/cat/notes.txt', 'not an image')
  local data = readers.open(path 'folder')
  lu.assertEquals(data.kind, 'image_folder')
  lu.assertEquals(data.classes, { 'ant', 'cat', 'cat-dog' })
  lu.assertEquals(data.train.x:shape(), { 9, 4, 4, 3 })
  lu.assertEquals(data.train.y:tolist(), { 0, 0, 0, 1, 1, 1, 2, 2, 2 })
  lu.assertEquals(data.test.y:tolist(), { 1, 1, 1 })
  local first = range(9, function(i) return data.train.x:tolist()[i * 48 + 1] end)
  lu.assertEquals(first, { 31, 32, 33, 21, 22, 23, 11, 12, 13 })
  local again = readers.image_folder(path 'folder/train', { workers = 7, channels = 1 })
  lu.assertEquals(again.train.x:shape(), { 9, 4, 4, 1 })
end

function TestReaders.test_image_folder_damaged()
  make_folder('odd', { 'a', 'b' }, 4)
  vestige.image.save(path 'odd/b/2.png', vestige.zeros { 4, 5, 3 })
  vestige.image.save(path 'odd/b/3.png', vestige.zeros { 5, 5, 3 })
  for workers = 1, 4 do -- the first bad file is named, whichever worker is first
    raises('odd/b/2.png: image: 4 x 5 with 3 channels, but the first image is 4 x 4 with 3',
           readers.image_folder, path 'odd', { workers = workers })
  end
  vestige.image.save(path 'odd/b/2.png', vestige.zeros { 4, 4, 1 })
  vestige.image.save(path 'odd/b/3.png', vestige.zeros { 4, 4, 3 })
  raises('with 1 channels, but the first image is 4 x 4 with 3 (the option channels makes',
         readers.image_folder, path 'odd')
  lu.assertEquals(readers.image_folder(path 'odd', { channels = 3 }).train.x:shape(),
                  { 6, 4, 4, 3 })
  write('odd/a/1.png', 'text')
  raises('odd/a/1.png: image: neither PNG nor JPEG', readers.image_folder, path 'odd')
  assert(os.execute('mkdir -p ' .. path 'odd/c') == 0)
  raises("class 'c' holds no PNG or JPEG file", readers.image_folder, path 'odd')
  make_folder('more/train', { 'a' }, 4)
  make_folder('more/test', { 'a', 'z' }, 4)
  raises("more/test: class 'z' is not among the training classes", readers.image_folder,
         path 'more')
  raises('no folder of PNG or JPEG files for each class', readers.image_folder, path 'empty')
end

function TestReaders.test_csv()
  local file = write('t.csv', '\239\187\191a,"b ""x"", y",label\r\n1, 2.5 ,0\r\n\r\n"-3",1e2,2')
  local data = readers.csv(file, { label = 'label' })
  lu.assertEquals(data.columns, { 'a', 'b "x", y' })
  lu.assertEquals(data.train.x:totable(), { { 1, 2.5 }, { -3, 100 } })
  lu.assertEquals(data.train.x:dtype(), 'f32')
  lu.assertEquals(data.train.y:tolist(), { 0, 2 })
  lu.assertEquals(data.classes, { '0', '1', '2' })
  lu.assertEquals(readers.csv(file).train.x:shape(), { 2, 3 })
  lu.assertNil(readers.csv(file).train.y)
  lu.assertEquals(readers.csv(file, { label = -1 }).train.y:tolist(), { 0, 2 })
  lu.assertEquals(readers.open(file, { label = 'label' }).kind, 'csv')
  local plain = readers.csv(write('p.csv', '1;nan;-inf\n+.5;2;3'), { separator = ';' })
  lu.assertNil(plain.columns)
  lu.assertEquals(plain.train.x:shape(), { 2, 3 })
  lu.assertEquals(plain.train.x:tolist()[3], -math.huge)
  assert(os.execute('mkdir -p ' .. path 'tables') == 0)
  write('tables/train.csv', 'x,class\n1,0\n2,1\n')
  write('tables/test.csv', 'x,class\n3,1\n')
  local both = readers.open(path 'tables')
  lu.assertEquals(both.train.y:tolist(), { 0, 1 })
  lu.assertEquals(both.test.x:tolist(), { 3 })
end

function TestReaders.test_csv_damaged()
  local function bad(message, text, options)
    raises('x.csv: ' .. message, readers.csv, write('x.csv', text), options)
  end
  bad('empty', '')
  bad('empty', '\n\r\n')
  bad('no rows after the header', 'a,b\n')
  bad("line 1, column 2: expected a number, got 'b'", '1,b\n1,2\n')
  bad("line 3, column 1: expected a number, got '1.2.3'", 'a,b\n1,2\n1.2.3,4\n')
  bad("line 1, column 1: expected a number, got 'a'", 'a,b\n1,2\n', { header = false })
  bad('line 4: expected 2 columns, got 3', 'a,b\n1,2\n\n1,2,3\n')
  bad('line 2: expected 2 columns, got 1', 'a,b\n1\n')
  bad("line 2, column 2: expected a number, got ''", 'a,b\n1,\n')
  bad("line 2, column 1: expected a number, got '0x10'", 'a\n0x10\n')
  bad("line 2, column 1: expected a number, got '1e999'", 'a\n1e999\n')
  bad('line 2, column 2: a quoted field has no end', 'a,b\n1,"2\n')
  bad('line 2, column 1: text after the closing quote', 'a\n"1"2\n')
  bad('line 3, column 1: expected a number', '"a\nb"\nx\n') -- a line end inside a quoted name
  bad('row 2, column 1: expected a label (0, 1, ...), got 0.5', 'a,b\n0,1\n0.5,2\n',
      { label = 'a' })
  bad("option label: no column 'lable'", 'label\n0\n', { label = 'lable' })
  bad('option label: column 3: the file has 2', '1,2\n', { label = 3 })
  raises('option separator: expected one character', readers.csv, path 'x.csv',
         { separator = ',,' })
  raises('csv: separator: expected a character', readers.csv, path 'x.csv', { separator = '1' })
  raises('which column holds the labels', readers.open, (function()
    assert(os.execute('mkdir -p ' .. path 'table') == 0)
    write('table/only.csv', 'a,b\n1,2\n')
    return path 'table'
  end)())
end

function TestReaders.test_open()
  raises('empty: no data set that is known here. Looked for data_batch_*.bin', readers.open,
         path 'empty')
  raises('Found: nothing', readers.open, path 'empty')
  raises('cannot list', readers.open, path 'nowhere')
  raises("unknown option 'labl'; did you mean 'label'", readers.open, path 'empty', { labl = 1 })
  raises('no train-images-idx3-ubyte(.gz)', readers.fashion_mnist, path 'empty')
end

function TestReaders.test_nothing_leaks()
  local function all()
    pcall(vestige.load, path 'cut.safetensors')
    pcall(readers.csv, path 'x.csv')
    pcall(readers.image_folder, path 'odd')
    pcall(readers.cifar10, path 'x.bin')
    pcall(readers.idx, path 'x.idx', path 'y.idx')
    readers.open(path 'cifar')
    readers.open(path 'tables')
    readers.open(path 'folder')
    vestige.image.encode(vestige.image.load(GOLDEN .. 'rgb.png'))
  end
  all()
  collectgarbage()
  collectgarbage()
  local before, descriptors = vestige.memory(), #fs.list '/proc/self/fd'
  for _ = 1, 20 do all() end
  collectgarbage()
  collectgarbage()
  local after = vestige.memory()
  lu.assertEquals(after.live, before.live)
  lu.assertEquals(after.tensors, before.tensors)
  lu.assertEquals(#fs.list '/proc/self/fd', descriptors)
end

-- ---- The examples in the doc comments ----
TestExamples = {}

for _, module in ipairs { 'io', 'image', 'data/readers' } do
  TestExamples['test_' .. module] = function()
    local file, lines, count = 'lua/vestige/' .. module .. '.lua', {}, 0
    for line in io.lines(file) do
      local code = line:match '^%-%- > (.*)'
      if code then
        lines[#lines + 1] = code
      elseif not line:find '^%-%-' and #lines > 0 then
        local chunk = assert(loadstring(table.concat(lines, '\n'), '=' .. file))
        setfenv(chunk, setmetatable({ vestige = vestige }, { __index = _G }))()
        lines, count = {}, count + 1
      end
    end
    lu.assertTrue(count > 0, file .. ' has no example')
  end
end

-- ---- Real data ----
TestRealData = {}

function TestRealData.test_fashion_mnist()
  if not fs.stat '/usr/share/datasets/fashion-mnist' then
    lu.skip "Debian's package dataset-fashion-mnist is not installed"
  end
  local data = readers.fashion_mnist()
  lu.assertEquals(data.train.x:shape(), { 60000, 28, 28, 1 })
  lu.assertEquals(data.test.x:shape(), { 10000, 28, 28, 1 })
  lu.assertEquals(data.classes[10], 'ankle boot')
  local count, y, n = {}, data.train.y:data()
  for i = 0, n - 1 do
    local v = tonumber(y[i])
    count[v] = (count[v] or 0) + 1
  end
  for v = 0, 9 do lu.assertEquals(count[v], 6000) end
  lu.assertEquals(readers.open('/usr/share/datasets/fashion-mnist').kind, 'idx')
end

-- The folder of a data set in VESTIGE_DATA: unpacked there, or its archive unpacked here.
local function real(archive, inside, unpack_only)
  local root = os.getenv 'VESTIGE_DATA'
  if not root then lu.skip 'VESTIGE_DATA names no folder with the real data' end
  for _, folder in ipairs { root, root .. '/' .. archive } do
    if fs.stat(folder .. '/' .. inside) then return folder end
  end
  local packed = ('%s/%s.tar.xz'):format(root, archive)
  if not fs.stat(packed) then
    lu.skip(('VESTIGE_DATA (%s) holds neither %s nor %s.tar.xz'):format(root, inside, archive))
  end
  local to = path(archive)
  assert(os.execute(("mkdir -p '%s' && tar -xJf '%s' -C '%s' %s"):format(to, packed, to,
         unpack_only or '')) == 0)
  return to
end

function TestRealData.test_cifar10_binary()
  local folder = real('cifar10-bin-1k', 'cifar-10-batches-bin')
  local data = readers.open(folder)
  lu.assertEquals(data.train.x:shape(), { 5000, 32, 32, 3 })
  lu.assertEquals(data.test.x:shape(), { 1000, 32, 32, 3 })
  local raw = fs.read(folder .. '/cifar-10-batches-bin/data_batch_3.bin')
  local x, y = data.train.x:data(), data.train.y:data()
  for record = 0, 999, 37 do
    lu.assertEquals(tonumber(y[2000 + record]), raw:byte(record * 3073 + 1))
    for i = 0, 1023, 101 do
      for c = 0, 2 do
        lu.assertEquals(x[((2000 + record) * 1024 + i) * 3 + c],
                        raw:byte(record * 3073 + 2 + c * 1024 + i))
      end
    end
  end
end

function TestRealData.test_cifar10_jpeg()
  local folder = real('cifar10-jpeg', 'test/airplane', 'test')
  local one = readers.image_folder(folder .. '/test', { workers = 1 })
  local two = readers.image_folder(folder .. '/test', { workers = 2 })
  lu.assertEquals(one.train.x:shape(), { 10000, 32, 32, 3 })
  lu.assertEquals(one.classes[10], 'truck')
  lu.assertTrue(bytes(one.train.x) == bytes(two.train.x))
end

local code = lu.LuaUnit.run()
os.execute(("rm -rf '%s'"):format(dir))
os.exit(code)
