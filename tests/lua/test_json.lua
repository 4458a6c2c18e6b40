local lu = require 'luaunit'
local json = require 'vestige.json'
local sha256 = require 'vestige.sha256'

local T = {}

local function round(v) return json.decode(json.encode(v)) end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

function T.test_keys_are_sorted_and_text_is_canonical()
  lu.assertEquals(json.encode{ b = 1, a = { y = true, x = 's' } }, '{"a":{"x":"s","y":true},"b":1}')
end

function T.test_doubles_come_back_to_the_last_bit()
  for _, x in ipairs{ 0.1, 1 / 3, 2 ^ -1074, 1.7976931348623157e308, -1e22, 5e-324, 2 ^ 53 } do
    lu.assertEquals(round{ x = x }.x, x)
  end
  lu.assertEquals(1 / round{ x = -0.0 }.x, -math.huge)
end

function T.test_integers_stay_integers()
  lu.assertEquals(json.encode{ 1, -7, 2 ^ 53, 4LL }, '[1,-7,9007199254740992,4]')
  lu.assertStrContains(message_of(json.encode, { seed = 2LL ^ 60 }), 'seed')
  lu.assertStrContains(message_of(json.decode, '[9007199254740994]'), '2^53')
end

function T.test_nan_and_infinities()
  local text = json.encode{ x = 0 / 0, y = { z = -math.huge }, ok = 1 }
  lu.assertEquals(text, '{"ok":1,"x":null,"x_nan":"nan","y":{"z":null,"z_nan":"-inf"}}')
  local t = json.decode(text)
  lu.assertTrue(t.x ~= t.x)
  lu.assertEquals(t.y.z, -math.huge)
  lu.assertNil(t.x_nan)
  lu.assertEquals(json.encode(t), text)
end

function T.test_nan_in_arrays()
  local text = json.encode{ xs = { 1, 0 / 0, { 2, math.huge } } }
  lu.assertEquals(text, '{"xs":[1,null,[2,null]],"xs_nan":{"2":"nan","3.2":"inf"}}')
  local xs = json.decode(text).xs
  lu.assertTrue(xs[2] ~= xs[2])
  lu.assertEquals(xs[3][2], math.huge)
  lu.assertEquals(json.encode{ rows = { { p = 0 / 0 } } }, '{"rows":[{"p":null,"p_nan":"nan"}]}')
  lu.assertStrContains(message_of(json.encode, { 1, 0 / 0 }), 'no key stands beside it')
  lu.assertStrContains(message_of(json.encode, { x = 0 / 0, x_nan = 1 }), 'x_nan')
end

function T.test_names_that_only_look_like_flags_stay()
  local t = round{ x = { 1 }, x_nan = { count = 3 }, y_nan = 'nan' }
  lu.assertEquals(t, { x = { 1 }, x_nan = { count = 3 }, y_nan = 'nan' })
end

function T.test_empty_tables_and_null()
  lu.assertEquals(json.encode{ a = {}, b = json.array{} }, '{"a":{},"b":[]}')
  lu.assertEquals(json.encode(round{ b = json.array{} }), '{"b":[]}')
  lu.assertEquals(json.encode{ json.null, 1 }, '[null,1]')
  lu.assertIs(json.decode('[null]')[1], json.null)
  lu.assertNil(json.decode('{"a":null}').a)
end

function T.test_strings()
  local s = 'quote " slash \\ newline \n nul \0 e-acute \195\169'
  lu.assertEquals(round{ s = s }.s, s)
  lu.assertStrContains(message_of(json.encode, { name = '\255' }), 'name is a string that is not')
end

function T.test_errors_name_the_place()
  lu.assertStrContains(message_of(json.encode, { a = { f = print } }), 'a.f is a function')
  lu.assertStrContains(message_of(json.encode, { a = { 1, nil, 3 } }), 'hole at 2')
  lu.assertStrContains(message_of(json.encode, { a = { 1, b = 2 } }), 'a mixes positions and names')
  local loop = {}
  loop.loop = loop
  lu.assertStrContains(message_of(json.encode, loop), 'contains itself')
  lu.assertStrContains(message_of(json.decode, '{"a": 1,\n "b": }', 'r.json'), 'r.json:2:7: ')
  lu.assertStrContains(message_of(json.decode, '{"a":1,"a":2}'), 'duplicate')
  lu.assertStrContains(message_of(json.decode, ''), 'json:1:0')
  lu.assertStrContains(message_of(json.load, '/no/such/file'), 'No such file or directory')
end

function T.test_errors_point_at_the_caller()
  lu.assertStrContains(message_of(function() json.decode('{') end), 'test_json.lua:')
end

function T.test_memory_is_given_back()
  if os.getenv 'VESTIGE_SANITIZED' then
    lu.skip 'the sanitizer keeps freed memory, so pages say nothing'
  end
  local function pages()
    return tonumber(io.open('/proc/self/statm'):read('*l'):match('%d+ (%d+)'))
  end
  local big = { xs = {} }
  for i = 1, 200 do big.xs[i] = { i = i, s = ('x'):rep(50) } end
  local text
  for _ = 1, 50 do text = json.encode(big); json.decode(text) end
  collectgarbage()
  local before = pages()
  for _ = 1, 1000 do json.decode(json.encode(big)) end
  collectgarbage()
  lu.assertTrue(pages() - before < 2000)
end

function T.test_sha256()
  local empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
  local abc = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  local million = 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0'
  lu.assertEquals(sha256.of(''), empty)
  lu.assertEquals(sha256.of('abc'), abc)
  local path = os.tmpname()
  local f = io.open(path, 'wb')
  f:write(('a'):rep(1000000))
  f:close()
  lu.assertEquals(sha256.file(path), million)
  os.remove(path)
  lu.assertStrContains(message_of(sha256.file, '/no/such'), '/no/such')
  lu.assertStrContains(message_of(sha256.file, '/tmp'), 'directory')
  local h = sha256.new()
  h:hex()
  lu.assertStrContains(message_of(h.hex, h), 'already')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'json', T } })
