--- The tensor's methods, fields and operators.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local convert = require 'vestige.convert'
local C, H, raise, check = base.C, base.H, base.raise, base.check
local finish = handle.finish

local M = {}
local methods = {}
M.methods = methods

local info = ffi.new 'vestige_tensor_info'
local dtype_names = { [0] = 'f32', 'f64', 'bf16', 'i64', 'i32', 'u8', 'bool' }
local element = { [0] = 'float', 'double', 'uint16_t', 'int64_t', 'int32_t', 'uint8_t', 'uint8_t' }

-- ---- What a tensor says of itself ----

--- x:shape(): the list of x's dimensions.
function methods.shape(x)
  check(C.vestige_describe(x, info))
  local t = {}
  for i = 1, info.ndim do t[i] = tonumber(info.dim[i - 1]) end
  return t
end

--- x:size(d): dimension d of x, from 1, or -1 for the last; without d the list of all.
function methods.size(x, d)
  if d == nil then return methods.shape(x) end
  if type(d) ~= 'number' then raise('size: expected a dimension, got ' .. type(d)) end
  check(C.vestige_describe(x, info))
  local i = d > 0 and d - 1 or d + info.ndim
  if d == 0 or i < 0 or i >= info.ndim or i ~= math.floor(i) then
    raise(('size: dimension %g is out of range: expected 1 to %d'):format(d, info.ndim))
  end
  return tonumber(info.dim[i])
end

--- x:dim(): how many dimensions x has.
function methods.dim(x)
  check(C.vestige_describe(x, info))
  return info.ndim
end

--- x:numel(): how many elements x has.
function methods.numel(x)
  check(C.vestige_describe(x, info))
  return tonumber(info.numel)
end

--- x:dtype(): the name of x's element type: f32, f64, bf16, i64, i32, u8 or bool.
function methods.dtype(x)
  check(C.vestige_describe(x, info))
  return dtype_names[info.dtype]
end

--- x:device(): the name of x's device: cpu or ref.
function methods.device(x)
  check(C.vestige_describe(x, info))
  return ffi.string(C.vestige_device_name(info.device))
end

--- x:requires_grad(): whether operators on x are recorded.
function methods.requires_grad(x)
  check(C.vestige_describe(x, info))
  return info.requires_grad == 1
end

--- x:is_leaf(): true when x was not made by a recorded operator.
function methods.is_leaf(x)
  check(C.vestige_describe(x, info))
  return info.is_leaf == 1
end

--- x:version(): how often x's storage was changed in place.
function methods.version(x)
  check(C.vestige_describe(x, info))
  return info.version
end

--- x:alive(): false once x was released or its scope closed.
function methods.alive(x)
  return C.vestige_alive(x) == 1
end

-- ---- Elements in and out ----
local number_out, integer_out = ffi.new 'double[1]', ffi.new 'int64_t[1]'

--- x:item(): the only element of x as a Lua number (or boolean). i64 beyond 2^53 raises.
function methods.item(x)
  check(C.vestige_item(x, number_out, integer_out))
  check(C.vestige_describe(x, info))
  if info.dtype == 6 then return number_out[0] ~= 0 end
  if info.dtype == 3 and (integer_out[0] > 2^53 or integer_out[0] < -2^53) then
    raise('item: ' .. tostring(integer_out[0]) .. ' does not fit a Lua number exactly')
  end
  return number_out[0]
end

-- x's elements in a C array of its own type, and its info.
local function read(x)
  check(C.vestige_describe(x, info))
  local n, t = tonumber(info.numel), info.dtype
  local data = ffi.new(element[t] .. '[?]', math.max(n, 1))
  check(C.vestige_to_data(x, data, n * C.vestige_dtype_size(t)))
  return data, n, t
end

local bits = ffi.new 'union { uint32_t u; float f; }'
local function to_lua(data, t, i)
  if t == 2 then
    bits.u = data[i] * 65536
    return bits.f
  elseif t == 3 then
    if data[i] > 2^53 or data[i] < -2^53 then
      raise('totable: ' .. tostring(data[i]) .. ' does not fit a Lua number exactly')
    end
    return tonumber(data[i])
  elseif t == 6 then
    return data[i] ~= 0
  end
  return tonumber(data[i])
end

--- x:totable(): x's elements as nested Lua tables; a number when x has no dimension.
function methods.totable(x)
  local data, _, t = read(x)
  local dims, ndim = methods.shape(x), info.ndim
  local at = 0
  local function level(d)
    if d > ndim then
      at = at + 1
      return to_lua(data, t, at - 1)
    end
    local row = {}
    for i = 1, dims[d] do row[i] = level(d + 1) end
    return row
  end
  return level(1)
end

--- x:tolist(): x's elements in one flat Lua table, in row-major order.
function methods.tolist(x)
  local data, n, t = read(x)
  local list = {}
  for i = 1, n do list[i] = to_lua(data, t, i - 1) end
  return list
end

--- x:data(): x's elements copied into a C array (FFI), and their number.
function methods.data(x)
  local data, n = read(x)
  return data, n
end

--- x:set_data(array): copies x's elements from a C array (FFI) of x's type, in place.
function methods.set_data(x, array)
  check(C.vestige_describe(x, info))
  check(C.vestige_set_data(x, array, info.numel * C.vestige_dtype_size(info.dtype)))
  return x
end

local function shape_of(nested)
  local shape = {}
  while type(nested) == 'table' do
    shape[#shape + 1] = #nested
    nested = nested[1]
  end
  if #shape > 8 then raise(('tensor: %d dimensions, there may be 8'):format(#shape)) end
  return shape, type(nested)
end

--- vestige.tensor(data, options): a tensor from a number, a boolean or nested Lua tables.
-- Options: dtype (default f32; bool for booleans), device, requires_grad.
-- @example
-- > assert(vestige.tensor{{1, 2}, {3, 4}}:sum():item() == 10)
function M.tensor(data, options)
  options = options or {}
  for k in pairs(options) do
    if k ~= 'dtype' and k ~= 'device' and k ~= 'requires_grad' then
      local near = require('vestige.nearest').find(tostring(k),
                                                   { 'dtype', 'device', 'requires_grad' })
      raise(("tensor: unknown option '%s'%s"):format(tostring(k),
            near and (", did you mean '%s'?"):format(near) or ''))
    end
  end
  local shape, kind = shape_of(data)
  local dtype = options.dtype and convert.dtype_number(options.dtype)
                or kind == 'boolean' and 6 or 0
  local n = 1
  for i = 1, #shape do n = n * shape[i] end
  local flat = ffi.new('double[?]', math.max(n, 1))
  local at = 0
  local function level(v, d)
    if d > #shape then
      if type(v) == 'boolean' then v = v and 1 or 0 end
      if type(v) ~= 'number' then
        raise(('tensor: element %d: expected a number, got %s'):format(at + 1, type(v)))
      end
      flat[at] = v
      at = at + 1
      return
    end
    if type(v) ~= 'table' or #v ~= shape[d] then
      raise(('tensor: rows differ in length: expected %d, got %s'):format(shape[d],
            type(v) == 'table' and #v or type(v)))
    end
    for i = 1, #v do level(v[i], d + 1) end
  end
  level(data, 1)
  local dims = ffi.new('int64_t[8]', shape)
  local device = options.device and convert.device_number(options.device) or 0
  local r = H()
  finish(C.vestige_from_data(r, 1, device, #shape, dims, flat, n * 8), r)
  if dtype ~= 1 then r = M.ops.to(r, dtype_names[dtype]) end
  if options.requires_grad then check(C.vestige_requires_grad(r, 1)) end
  return r
end

--- vestige.from_data(pointer, shape, dtype): a tensor copied from a C array of that type.
function M.from_data(pointer, shape, dtype)
  if type(shape) ~= 'table' or #shape > 8 then
    raise('from_data: expected a list of up to 8 sizes as the shape')
  end
  local t, n = convert.dtype_number(dtype or 'f32'), 1
  for i = 1, #shape do n = n * shape[i] end
  local r = H()
  return finish(check(C.vestige_from_data(r, t, 0, #shape, ffi.new('int64_t[8]', shape), pointer,
                                          n * C.vestige_dtype_size(t))), r)
end

-- x copied to another device, without history.
local function move(x, device)
  local data, n, t = read(x)
  local dims = ffi.new('int64_t[8]', methods.shape(x))
  local r = H()
  return finish(C.vestige_from_data(r, t, device, info.ndim, dims, data,
                                    n * C.vestige_dtype_size(t)), r)
end

-- The same on the tape: the gradient goes the way back.
local function move_recorded(x, device)
  local back = methods.device(x)
  return require('vestige.autograd').custom{
    forward = function() return move(x, device) end,
    backward = function(_, g) return methods.to(g, back) end,
  }(x)
end

--- x:to(target): x as another element type, or on another device; x itself when it is there.
function methods.to(x, target)
  local device = convert.devices[target]
  if not device then return M.ops.to(x, target) end
  check(C.vestige_describe(x, info))
  if info.device == device then return x end
  if info.requires_grad == 1 then return move_recorded(x, device) end
  return move(x, device)
end

-- ---- Gradients ----

--- x:requires_grad_(on): records operators on x from now on (default), or stops doing so.
function methods.requires_grad_(x, on)
  check(C.vestige_requires_grad(x, on == false and 0 or 1))
  return x
end

--- x:detach(): x's elements without history, sharing its storage.
function methods.detach(x)
  local r = H()
  return finish(C.vestige_detach(r, x), r)
end

--- x:release(): drops x now.
methods.release = handle.release
--- x:keep(): moves x out of all scopes.
methods.keep = handle.keep

-- ---- Metatable ----
local function get_field(x, k)
  if k == 'grad' then
    local r = H()
    local s = check(C.vestige_grad_get(r, x))
    if r._p == nil then return nil end
    return finish(s, r)
  elseif type(k) == 'number' then
    if k == 0 then raise('tensor[0]: positions count from 1') end
    return M.ops.select(x, 1, k)
  end
  require('vestige')._name_all()
  local near = type(k) == 'string' and require('vestige.nearest').find(k, methods)
  raise(("a tensor has no method or field '%s'%s"):format(tostring(k),
        near and (", did you mean '%s'?"):format(near) or ''))
end

local mt = {}

function mt.__index(x, k)
  if type(k) == 'string' then
    local m = methods[k] -- made now, when it is an operator that was not named before
    if m ~= nil then return m end
  end
  return get_field(x, k)
end

function mt.__newindex(x, k, v)
  if k == 'grad' then
    if v ~= nil and not ffi.istype(H, v) then
      raise('grad: expected a tensor or nil, got ' .. type(v))
    end
    check(C.vestige_grad_set(x, v))
  elseif type(k) == 'number' then
    local row = get_field(x, k)
    if type(v) == 'number' then row:fill_(v) else row:copy_(v) end
  else
    raise(("a tensor has no field '%s' to set"):format(tostring(k)))
  end
end

function mt.__add(a, b) return M.ops.add(a, b) end
function mt.__sub(a, b) return M.ops.sub(a, b) end
function mt.__mul(a, b) return M.ops.mul(a, b) end
function mt.__div(a, b) return M.ops.div(a, b) end
function mt.__unm(a) return M.ops.neg(a) end
function mt.__pow(a, b) return M.ops.pow(a, b) end
function mt.__lt() raise('tensors are compared with x:lt(y) and x:gt(y)') end
function mt.__le() raise('tensors are compared with x:le(y) and x:ge(y)') end

function mt.__len(x)
  check(C.vestige_describe(x, info))
  if info.ndim == 0 then raise('#: a tensor of no dimension has no length') end
  return tonumber(info.dim[0])
end

function mt.__tostring(x)
  return require('vestige.print').tostring(x)
end

--- Sets the metatable, once all operators are known.
function M.install(ops)
  M.ops = ops
  ffi.metatype(H, mt)
end

return M
