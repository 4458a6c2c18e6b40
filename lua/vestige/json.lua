-- JSON by jansson: sorted keys, doubles with 17 digits, integers as integers.
--
-- JSON has no NaN and no infinity. Inside an object such a value is written as null beside a flag:
--   {x = 0/0}        ->  {"x": null, "x_nan": "nan"}
--   {xs = {1, 1/0}}  ->  {"xs": [1, null], "xs_nan": {"2": "inf"}}    (nested: "2.1")
-- and decode restores it and drops the flag. A bare one, with no key to stand beside, is an error.
--
-- A table is an array when its keys are 1..n, an object when they are strings. An empty one is an
-- object unless it was made by json.array. null decodes to nil in objects and to json.null in
-- arrays, where nil would be a hole; json.null encodes to null everywhere.

local ffi = require 'ffi'
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'

ffi.cdef [[
void *json_object(void);
void *json_array(void);
void *json_stringn(const char *, size_t);
void *json_integer(long long);
void *json_real(double);
void *json_true(void);
void *json_false(void);
void *json_null(void);
void json_delete(void *);
int json_object_setn_new(void *, const char *, size_t, void *);
int json_array_append_new(void *, void *);
void *json_object_iter(void *);
void *json_object_iter_next(void *, void *);
const char *json_object_iter_key(void *);
size_t json_object_iter_key_len(void *);
void *json_object_iter_value(void *);
size_t json_array_size(const void *);
void *json_array_get(const void *, size_t);
const char *json_string_value(const void *);
size_t json_string_length(const void *);
long long json_integer_value(const void *);
double json_real_value(const void *);
void *json_loadb(const char *, size_t, size_t, void *);
char *json_dumps(const void *, size_t);
void free(void *);
]]

local jansson = ffi.load('libjansson.so.4')
local error_t = ffi.typeof(
  'struct { int line, column, position; char source[80]; char text[160]; }')

local OBJECT, ARRAY, STRING, INTEGER, REAL, TRUE, FALSE = 0, 1, 2, 3, 4, 5, 6
local COMPACT, SORT_KEYS, ENCODE_ANY = 0x20, 0x80, 0x200
local REAL_17 = 17 * 2 ^ 11
local REJECT_DUPLICATES, DECODE_ANY, ALLOW_NUL = 0x1, 0x4, 0x10
local EXACT = 2 ^ 53
local DEEPEST = 200

local M = {}

local Array = { __name = 'json.array' }

--- json.null: stands for JSON's null where nil cannot.
M.null = setmetatable({}, { __tostring = function() return 'null' end })

--- json.array(t): marks a table as an array, so that an empty one is written `[]`. Returns t.
-- Example:
-- > local json = require 'vestige.json'
-- > assert(json.encode{ ids = json.array{} } == '{"ids":[]}')
function M.array(t)
  return setmetatable(t, Array)
end

local function place(path)
  return path == '' and 'the value' or path
end

local function join(path, key)
  return path == '' and tostring(key) or path .. '.' .. tostring(key)
end

local function flag_of(x)
  if x ~= x then return 'nan' end
  if x == math.huge then return 'inf' end
  if x == -math.huge then return '-inf' end
  return nil
end

-- 'array' with its length, or 'object'; raises on anything that JSON cannot hold.
local function kind_of(t, path)
  local count, strings = 0, false
  for key in pairs(t) do
    count = count + 1
    if type(key) == 'string' then
      strings = true
    elseif type(key) ~= 'number' then
      fail('json: %s has a key of type %s', place(path), type(key))
    end
  end
  if strings then
    if #t > 0 then fail('json: %s mixes positions and names', place(path)) end
    for key in pairs(t) do
      if type(key) ~= 'string' then
        fail('json: %s mixes the name keys with the number %s', place(path), key)
      end
    end
    return 'object'
  end
  if count == 0 then return getmetatable(t) == Array and 'array' or 'object', 0 end
  for i = 1, count do
    if t[i] == nil then fail('json: %s is an array with a hole at %d', place(path), i) end
  end
  return 'array', count
end

local function number_node(x)
  if x == math.floor(x) and math.abs(x) <= EXACT and not (x == 0 and 1 / x < 0) then
    return jansson.json_integer(x)
  end
  return jansson.json_real(x)
end

local fill

-- A new node for `v`; containers come empty, so that they are owned by their parent
-- before anything can fail in them.
local function shallow(v, path, depth)
  local kind, node = type(v), nil
  if v == M.null then return jansson.json_null() end
  if kind == 'table' then
    if depth > DEEPEST then fail('json: %s is nested too deep, or contains itself', place(path)) end
    local shape = kind_of(v, path)
    return shape == 'array' and jansson.json_array() or jansson.json_object(), shape
  elseif kind == 'number' then
    node = number_node(v)
  elseif kind == 'string' then
    node = jansson.json_stringn(v, #v)
    if node == nil then fail('json: %s is a string that is not UTF-8', place(path)) end
  elseif kind == 'boolean' then
    node = v and jansson.json_true() or jansson.json_false()
  elseif kind == 'cdata' and (ffi.istype('int64_t', v) or ffi.istype('uint64_t', v)) then
    local x = tonumber(v)
    if math.abs(x) > EXACT then fail('json: %s is an integer beyond 2^53', place(path)) end
    node = jansson.json_integer(x)
  else
    fail('json: %s is a %s, which JSON cannot hold', place(path), kind)
  end
  return node
end

-- Adds `v` under `parent` by `attach`; non-finite numbers become null, their flags go to `flags`
-- under `spot`, the position inside the enclosing object's value.
local function add(attach, v, path, depth, flags, spot)
  local word = type(v) == 'number' and flag_of(v)
  if word then
    if not flags then fail('json: %s is %s, and no key stands beside it', place(path), word) end
    flags[spot] = word
    return attach(jansson.json_null())
  end
  local node, shape = shallow(v, path, depth)
  if attach(node) ~= 0 then
    fail('json: %s has a key that is not UTF-8, or memory is out', place(path))
  end
  if shape then fill(node, shape, v, path, depth, flags, spot) end
end

local function add_key(node, t, key, path, depth)
  local flags = {}
  local function put(child) return jansson.json_object_setn_new(node, key, #key, child) end
  add(put, t[key], join(path, key), depth + 1, flags, '')
  if next(flags) == nil then return end
  local name = key .. '_nan'
  if t[name] ~= nil then fail('json: %s is in the way of the flag of %s', name, join(path, key)) end
  local flag = flags[''] or flags
  add(function(child) return jansson.json_object_setn_new(node, name, #name, child) end,
    flag, join(path, name), depth + 1)
end

function fill(node, shape, t, path, depth, flags, spot)
  if shape == 'object' then
    for key in pairs(t) do add_key(node, t, key, path, depth) end
    return
  end
  local function push(child) return jansson.json_array_append_new(node, child) end
  for i, v in ipairs(t) do
    add(push, v, join(path, i), depth + 1, flags, flags and join(spot, i))
  end
end

--- json.encode(value, options): the JSON text of a value, keys sorted.
-- value: table, string, number, boolean or json.null; int64 up to 2^53.
-- options: indent (0): 0 is one line without spaces, the canonical form that hashes use.
-- Errors: holes, mixed keys, functions and other types, strings that are not UTF-8, cycles,
-- a bare NaN; the message names the place (`train.lr`).
-- Example:
-- > local json = require 'vestige.json'
-- > assert(json.encode{ b = 0.1, a = {1, 2} } == '{"a":[1,2],"b":0.10000000000000001}')
-- > assert(json.encode{ x = 0/0 } == '{"x":null,"x_nan":"nan"}')
function M.encode(value, options)
  local indent = options and options.indent or 0
  local word = type(value) == 'number' and flag_of(value)
  if word then fail('json: the value is %s, and no key stands beside it', word) end
  local node, shape = shallow(value, '', 0)
  local root = ffi.gc(node, jansson.json_delete)
  if shape then fill(root, shape, value, '', 0) end
  local layout = indent == 0 and COMPACT or math.min(indent, 31)
  local text = jansson.json_dumps(root, SORT_KEYS + ENCODE_ANY + REAL_17 + layout)
  jansson.json_delete(ffi.gc(root, nil))
  if text == nil then fail('json: out of memory') end
  local out = ffi.string(text)
  ffi.C.free(text)
  return out
end

local words = { nan = 0 / 0, inf = math.huge, ['-inf'] = -math.huge }

-- Whether a table is `{"2": "inf", "3.1": "nan"}`, the flags of an array.
local function is_flags(t)
  if type(t) ~= 'table' or next(t) == nil then return false end
  for spot, word in pairs(t) do
    local is_spot = type(spot) == 'string' and spot:find('^%d[%d.]*$')
    if not (is_spot and words[word]) then return false end
  end
  return true
end

-- Puts the non-finite values back that the flags beside them name.
local function restore(t, nulls)
  local flags = {}
  for key, flag in pairs(t) do
    local base = key:match('^(.+)_nan$')
    if base and (nulls[base] and words[flag]) then flags[base] = flag end
    if base and type(t[base]) == 'table' and is_flags(flag) then flags[base] = flag end
  end
  for base, flag in pairs(flags) do
    if type(flag) == 'string' then
      t[base], t[base .. '_nan'] = words[flag], nil
    else
      for spot, word in pairs(flag) do
        local array, last = t[base], nil
        for i in spot:gmatch('%d+') do
          if last then array = array[last] end
          last = tonumber(i)
        end
        array[last] = words[word]
      end
      t[base .. '_nan'] = nil
    end
  end
  return t
end

local function value_of(node, name)
  local kind = ffi.cast('const int *', node)[0]
  if kind == OBJECT then
    local t, nulls = {}, {}
    local at = jansson.json_object_iter(node)
    while at ~= nil do
      local key = ffi.string(jansson.json_object_iter_key(at), jansson.json_object_iter_key_len(at))
      local v = value_of(jansson.json_object_iter_value(at), name)
      if v == M.null then nulls[key] = true else t[key] = v end
      at = jansson.json_object_iter_next(node, at)
    end
    return restore(t, nulls)
  elseif kind == ARRAY then
    local t = M.array{}
    for i = 1, tonumber(jansson.json_array_size(node)) do
      t[i] = value_of(jansson.json_array_get(node, i - 1), name)
    end
    return t
  elseif kind == STRING then
    return ffi.string(jansson.json_string_value(node), jansson.json_string_length(node))
  elseif kind == INTEGER then
    local x = tonumber(jansson.json_integer_value(node))
    if math.abs(x) > EXACT then fail('%s: an integer beyond 2^53', name) end
    return x
  elseif kind == REAL then
    return jansson.json_real_value(node)
  elseif kind == TRUE or kind == FALSE then
    return kind == TRUE
  end
  return M.null
end

--- json.decode(text, name): the value of a JSON text.
-- name ('json'): what errors call the text, usually a file's path.
-- Errors: `name:line:column: what is wrong`; duplicate keys; integers beyond 2^53.
-- Example:
-- > local json = require 'vestige.json'
-- > assert(json.decode('{"x": null, "x_nan": "inf"}').x == math.huge)
-- > assert(not pcall(json.decode, '{"a": }'))
function M.decode(text, name)
  name = name or 'json'
  local err = error_t()
  local node = jansson.json_loadb(text, #text, REJECT_DUPLICATES + DECODE_ANY + ALLOW_NUL, err)
  if node == nil then
    fail('%s:%d:%d: %s', name, err.line, math.max(err.column, 0), ffi.string(err.text))
  end
  local root = ffi.gc(node, jansson.json_delete) -- for the errors of value_of
  local value = value_of(root, name)
  jansson.json_delete(ffi.gc(root, nil))
  return value
end

--- json.load(path): the value in a JSON file.
-- Errors: the file cannot be read; `path:line:column: what is wrong`.
-- Example:
-- > local json = require 'vestige.json'
-- > local path = os.tmpname(); json.save(path, { p = 0.5 })
-- > assert(json.load(path).p == 0.5); os.remove(path)
function M.load(path)
  return M.decode(fs.read(path), path)
end

--- json.save(path, value, options): writes a value as JSON, atomically, with a newline at the end.
-- options: indent (2).
-- Errors: as json.encode and fs.write.
-- Example:
-- > local path = os.tmpname(); require('vestige.json').save(path, { a = 1 }); os.remove(path)
function M.save(path, value, options)
  fs.write(path, M.encode(value, { indent = options and options.indent or 2 }) .. '\n')
end

return M
