--- Tensors in files: safetensors, read and written.
-- vestige.load and vestige.save are this module's load and save.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local nearest = require 'vestige.nearest'
local C, H, raise, check = base.C, base.H, base.raise, base.check

local M = {}

local LAYOUTS = { memory = 0, nchw = 1 }

-- Raises unless every option is a known one.
local function check_options(what, options, known)
  if options == nil then return {} end
  if type(options) ~= 'table' then
    raise(('%s: options: expected a table, got %s'):format(what, type(options)))
  end
  for k in pairs(options) do
    if not known[k] then
      raise(("%s: unknown option '%s'%s"):format(what, tostring(k), nearest.hint(k, known)))
    end
  end
  return options
end
M.check_options = check_options

-- Raises unless path is text that C reads whole.
local function check_path(what, path)
  if type(path) ~= 'string' or path == '' then
    raise(('%s: path: expected a string, got %s'):format(what,
          path == '' and "''" or type(path)))
  end
  if path:find('\0', 1, true) then raise(what .. ': path: a zero byte in the name') end
  return path
end
M.check_path = check_path

--- Calls f(handle): one new tensor, tried once more after making room when memory ran out.
function M.one(f)
  local t = H()
  local status = f(t)
  if handle.retry(status) then status = f(t) end
  return handle.finish(status, t)
end

--- The same for calls that make two tensors.
function M.two(f)
  local a, b = H(), H()
  local status = f(a, b)
  if handle.retry(status) then status = f(a, b) end
  check(status)
  handle.finish(status == 2 and 1 or status, a) -- both are known before a collection
  handle.finish(status, b)
  return a, b
end

--- A list of Lua strings as C reads it; the second result keeps them alive.
function M.c_strings(list)
  local p = ffi.new('const char *[?]', math.max(#list, 1))
  for i = 1, #list do p[i - 1] = list[i] end
  return p, list
end

--- The strings in a u8 tensor, each ended by a zero byte.
function M.split_zero(t)
  local data, n = t:data()
  local list = {}
  for s in ffi.string(data, n):gmatch '(%Z*)%z' do list[#list + 1] = s end
  return list
end

-- ---- safetensors: an open file ----
local File = {}
File.__index = File

local entry = ffi.new 'vestige_entry'
local opened = ffi.new 'vestige_safetensors *[1]'
local key, value = ffi.new 'const char *[1]', ffi.new 'const char *[1]'

--- io.open(path): a safetensors file, to look into and to read entry by entry.
-- f.names lists its entries, sorted; f.metadata is a table of strings; f:entry(name) tells
-- {dtype=, shape=, bytes=} as the file has them; f:read(name, layout) makes the tensor (layout
-- 'nchw' or 'memory'; as the metadata says when absent); f:close() closes it. The header is checked
-- whole when the file is opened.
-- @example
-- > local path = os.tmpname()
-- > vestige.save(path, {w = vestige.ones{2, 3}}, {metadata = {from = 'example'}})
-- > local f = vestige.io.open(path)
-- > assert(f.metadata.from == 'example' and f:entry('w').shape[2] == 3)
-- > f:close()
-- > os.remove(path)
function M.open(path)
  check_path('open', path)
  local status = C.vestige_safetensors_open(opened, path)
  if handle.retry(status) then status = C.vestige_safetensors_open(opened, path) end
  check(status)
  local file = ffi.gc(opened[0], C.vestige_safetensors_close)
  local self = setmetatable({ path = path, names = {}, metadata = {}, _file = file, _at = {} },
                            File)
  for i = 0, C.vestige_safetensors_count(file) - 1 do
    check(C.vestige_safetensors_entry(file, i, entry))
    local name = ffi.string(entry.name)
    self.names[i + 1], self._at[name] = name, i
  end
  local i = 0
  while C.vestige_safetensors_metadata(file, i, key, value) == 0 do
    self.metadata[ffi.string(key[0])] = ffi.string(value[0])
    i = i + 1
  end
  return self
end

local function find(f, name)
  if not f._file then raise(f.path .. ': the file was closed') end
  local at = f._at[name]
  if at then return at end
  raise(("%s: no entry '%s'%s"):format(f.path, tostring(name),
        nearest.hint(tostring(name), f.names)))
end

--- f:entry(name): {dtype=, shape=, bytes=} of an entry, as the file has them.
function File:entry(name)
  check(C.vestige_safetensors_entry(self._file, find(self, name), entry))
  local shape = {}
  for i = 1, entry.ndim do shape[i] = tonumber(entry.dim[i - 1]) end
  return { dtype = ffi.string(entry.type), shape = shape, bytes = tonumber(entry.bytes) }
end

-- The layout in which a file says that it has an entry.
local function layout_said(f, name)
  local said = f.metadata['layout.' .. name]
  if said == nil and f.metadata.layout == 'nchw' and #f:entry(name).shape == 4 then
    return 'nchw'
  end
  return LAYOUTS[said] and said or 'memory'
end

--- f:read(name, layout): the tensor of an entry.
function File:read(name, layout)
  local i = find(self, name)
  layout = layout or layout_said(self, name)
  if not LAYOUTS[layout] then
    raise(("%s: layout: expected 'nchw' or 'memory', got '%s'"):format(self.path,
          tostring(layout)))
  end
  return M.one(function(h)
    return C.vestige_safetensors_read(h, self._file, i, LAYOUTS[layout])
  end)
end

--- f:close(): closes the file; it is closed too when nothing refers to it.
function File:close()
  if self._file then
    C.vestige_safetensors_close(ffi.gc(self._file, nil))
    self._file = nil
  end
end

-- ---- load and save ----
-- The option layout as a function from name and number of dimensions to 'nchw', 'memory' or nil.
local function layout_of(what, option, names)
  if option == nil then return function() end end
  if type(option) == 'string' then
    if not LAYOUTS[option] then
      raise(("%s: option layout: expected 'nchw', 'memory' or a table from names to them, got '%s'")
            :format(what, option))
    end
    return function(_, ndim) return ndim == 4 and option or 'memory' end
  elseif type(option) ~= 'table' then
    raise(('%s: option layout: expected a string or a table, got %s'):format(what, type(option)))
  end
  local known = {}
  for _, name in ipairs(names) do known[name] = true end
  for name, layout in pairs(option) do
    if not known[name] then
      raise(("%s: option layout: no tensor '%s'%s"):format(what, tostring(name),
            nearest.hint(tostring(name), known)))
    elseif not LAYOUTS[layout] then
      raise(("%s: option layout: '%s': expected 'nchw' or 'memory', got '%s'"):format(what, name,
            tostring(layout)))
    end
  end
  return function(name) return option[name] end
end

--- vestige.load(path, options): the tensors of a safetensors file, as a table from names to
-- tensors, and the file's metadata as a second table.
-- Types F32, F64, BF16, I64, I32, U8 and BOOL load as they are, F16 as f32. Options:
-- layout: 'nchw' when 4-D tensors lie in the file as PyTorch has them (images N,C,H,W and weights
-- out,in,kh,kw; in memory they are N,H,W,C and out,kh,kw,in), or a table from names to 'nchw';
-- 'memory' takes all as they are. Without it the file's own metadata decide (vestige.save writes
-- there what it was asked for), and a file that says nothing loads as it is.
-- device: where the tensors go (default cpu). names: a list of entries to load (default all).
-- A damaged file raises; the message names the file and the field.
-- @example
-- > local path = os.tmpname()
-- > vestige.save(path, {w = vestige.ones{2, 3}})
-- > assert(vestige.load(path).w:sum():item() == 6)
-- > os.remove(path)
function M.load(path, options)
  check_path('load', path)
  options = check_options('load', options, { layout = true, device = true, names = true })
  local f = M.open(path)
  local names = options.names or f.names
  if type(names) ~= 'table' then
    raise('load: option names: expected a list, got ' .. type(names))
  end
  local layout = layout_of('load', options.layout, names)
  local tensors = {}
  for _, name in ipairs(names) do
    local t = f:read(name, layout(name, #f:entry(name).shape))
    if options.device and options.device ~= 'cpu' then
      local there = t:to(options.device)
      handle.release(t)
      t = there
    end
    tensors[name] = t
  end
  f:close()
  return tensors, f.metadata
end

local function tensors_to_save(what, tensors)
  if handle.is_tensor(tensors) then tensors = { tensor = tensors } end
  if type(tensors) ~= 'table' then
    raise(('%s: expected a table from names to tensors, got %s'):format(what, type(tensors)))
  end
  local names = {}
  for name, t in pairs(tensors) do
    if type(name) ~= 'string' then
      raise(('%s: name %s: expected a string'):format(what, tostring(name)))
    elseif name:find('\0', 1, true) then
      raise(("%s: name '%s': a zero byte"):format(what, (name:gsub('%z', '?'))))
    elseif not handle.is_tensor(t) then
      raise(("%s: '%s': expected a tensor, got %s"):format(what, name, type(t)))
    elseif not t:alive() then
      raise(("%s: '%s': the tensor was released"):format(what, name))
    end
    names[#names + 1] = name
  end
  table.sort(names)
  return names, tensors
end

local function metadata_to_save(option)
  local metadata = {}
  if option ~= nil and type(option) ~= 'table' then
    raise('save: option metadata: expected a table, got ' .. type(option))
  end
  for k, v in pairs(option or {}) do
    if type(k) ~= 'string' or type(v) ~= 'string' then
      raise(("save: option metadata: '%s': expected strings, got %s"):format(tostring(k), type(v)))
    elseif k == 'layout' or k:find '^layout%.' then
      raise(("save: option metadata: '%s' is written by the option layout"):format(k))
    elseif k:find('\0', 1, true) or v:find('\0', 1, true) then
      raise(("save: option metadata: '%s': a zero byte"):format((k:gsub('%z', '?'))))
    end
    metadata[k] = v
  end
  return metadata
end

--- vestige.save(path, tensors, options): writes a table from names to tensors (or one tensor, named
-- 'tensor') as a safetensors file.
-- The file appears whole or not at all. The same tensors give the same bytes. Options:
-- layout: 'nchw' writes 4-D tensors as PyTorch has them (N,H,W,C in memory as N,C,H,W, weights
-- out,kh,kw,in as out,in,kh,kw); a table from names to 'nchw' does so for these alone. The file's
-- metadata tell vestige.load. metadata: a table of strings.
-- @example
-- > local path = os.tmpname()
-- > local x = vestige.rand{1, 4, 5, 3}
-- > vestige.save(path, {x = x}, {layout = 'nchw'})
-- > assert(vestige.load(path, {layout = 'memory'}).x:shape()[2] == 3)
-- > assert((vestige.load(path).x - x):sum():item() == 0)
-- > os.remove(path)
function M.save(path, tensors, options)
  check_path('save', path)
  options = check_options('save', options, { layout = true, metadata = true })
  local names
  names, tensors = tensors_to_save('save', tensors)
  local metadata = metadata_to_save(options.metadata)
  local layout = layout_of('save', options.layout, names)
  local n = #names
  local p = ffi.new('const vestige_tensor *[?]', math.max(n, 1))
  local layouts = ffi.new('int32_t[?]', math.max(n, 1))
  for i, name in ipairs(names) do
    p[i - 1] = tensors[name]
    layouts[i - 1] = LAYOUTS[layout(name, tensors[name]:dim()) or 'memory']
    if layouts[i - 1] == 1 then
      if type(options.layout) == 'string' then
        metadata.layout = 'nchw'
      else
        metadata['layout.' .. name] = 'nchw'
      end
    end
  end
  local keys, values = {}, {}
  for k in pairs(metadata) do keys[#keys + 1] = k end
  table.sort(keys)
  for i, k in ipairs(keys) do values[i] = metadata[k] end
  local c_names, c_keys, c_values = M.c_strings(names), M.c_strings(keys), M.c_strings(values)
  local function write()
    return C.vestige_safetensors_write(path, n, c_names, p, layouts, #keys, c_keys, c_values)
  end
  local status = write()
  if handle.retry(status) then status = write() end
  check(status)
end

return M
