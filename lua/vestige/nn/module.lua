-- Module: what layers and models share: named parameters and buffers, training mode, state.
local ffi = require 'ffi'
local vestige = require 'vestige'
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'

local Module = { class_name = 'Module' }

-- Fields of an instance that are not its own parameters or children.
local KINDS = '_kinds'

local function address(t)
  return tonumber(ffi.cast('intptr_t', t._p))
end

-- A field that is assigned for the first time: tensors that require grad become parameters, modules
-- children, in the order of assignment.
local function assign(self, name, value)
  local kinds = rawget(self, KINDS)
  if vestige.is_tensor(value) and value:requires_grad() then
    kinds[#kinds + 1] = { name, 'parameter' }
  elseif type(value) == 'table' and getmetatable(value) and rawget(value, KINDS) then
    kinds[#kinds + 1] = { name, 'module' }
  end
  rawset(self, name, value)
end

local function index_of(class)
  return function(_, key)
    local value = class[key]
    if value == nil and type(key) == 'string' and key:sub(1, 1) ~= '_' then
      -- An absent optional part (bias=false) reads as nil; a misspelt method is told.
      return nil
    end
    return value
  end
end

--- nn.class(name, parent): a new kind of module. Its methods init(self, ...) and forward(self, x)
-- are defined by the caller; Class(...) makes one and runs init.
-- parent: a class, default Module. What init assigns to self is registered: tensors that require
-- grad as parameters, modules as children; register_buffer adds what is saved but not trained.
-- Example:
-- > local nn = require 'vestige.nn'
-- > local Double = nn.class 'Double'
-- > function Double:init(n) self.linear = nn.Linear(n, n) end
-- > function Double:forward(x) return self.linear(x) * 2 end
-- > assert(#Double(3):parameters() == 2)
local function class(name, parent, level)
  parent = parent or Module
  -- Where help finds the documentation: above the line that makes the class.
  local place = debug.getinfo(level or 2, 'Sl')
  local made = { source = place.source, line = place.currentline }
  local c = setmetatable({ class_name = name, parent = parent, _made = made }, {
    __index = parent,
    __call = function(cls, ...)
      local self = setmetatable({ [KINDS] = {}, training = true }, cls.instance)
      if cls.init then cls.init(self, ...) end
      return self
    end,
  })
  c.instance = {
    __index = index_of(c),
    __newindex = assign,
    __call = function(self, ...) return self:forward(...) end,
    __tostring = function(self) return self:describe() end,
  }
  return c
end

--- module:register_buffer(name, tensor, options): a tensor that is saved but not trained.
-- Options: persistent (default true); false keeps it out of state_dict.
function Module:register_buffer(name, tensor, options)
  local kinds = rawget(self, KINDS)
  kinds[#kinds + 1] = { name, 'buffer', persistent = not options or options.persistent ~= false }
  rawset(self, name, tensor:keep())
end

--- module:add_module(name, child): a child under a name that is no Lua identifier, such as '0'.
function Module:add_module(name, child)
  self[name] = child
  return child
end

-- Calls f(full name, tensor or module, owner, entry) for every entry of a kind, depth first, in
-- order.
local function visit(self, prefix, kind, f)
  for _, entry in ipairs(rawget(self, KINDS)) do
    local value = rawget(self, entry[1])
    if value ~= nil then
      if entry[2] == kind then f(prefix .. entry[1], value, self, entry) end
      if entry[2] == 'module' then visit(value, prefix .. entry[1] .. '.', kind, f) end
    end
  end
end

local function collect(self, kind)
  local list, seen = {}, {}
  visit(self, '', kind, function(name, value, owner, entry)
    local id = vestige.is_tensor(value) and address(value) or value
    if not seen[id] then
      seen[id] = true
      list[#list + 1] = { name = name, value = value, owner = owner, entry = entry }
    end
  end)
  return list
end

local function iterate(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i].name, list[i].value, list[i].owner end
  end
end

--- for name, tensor in module:named_parameters(): each tensor once, under its first name.
function Module:named_parameters() return iterate(collect(self, 'parameter')) end

--- for name, tensor in module:named_buffers(): each tensor once.
function Module:named_buffers() return iterate(collect(self, 'buffer')) end

--- for name, child in module:named_modules(): all modules below this one, depth first.
function Module:named_modules() return iterate(collect(self, 'module')) end

--- module:parameters(): the list of parameters, each once.
function Module:parameters()
  local list = {}
  for _, p in self:named_parameters() do list[#list + 1] = p end
  return list
end

--- module:layers(): the modules without children of their own, in order.
function Module:layers()
  local list = {}
  for name, m in self:named_modules() do
    local leaf = true
    for _, entry in ipairs(rawget(m, KINDS)) do
      if entry[2] == 'module' then leaf = false end
    end
    if leaf then list[#list + 1] = { name = name, module = m } end
  end
  return list
end

--- module:train(on): training mode for this module and those below (default true).
function Module:train(on)
  on = on ~= false
  rawset(self, 'training', on)
  for _, m in self:named_modules() do rawset(m, 'training', on) end
  return self
end

--- module:eval(): evaluation mode: batch norm uses its running statistics, dropout does nothing.
function Module:eval() return self:train(false) end

--- module:requires_grad_(on, pattern): records gradients of the parameters whose name matches the
-- Lua pattern (default: all), or stops doing so.
function Module:requires_grad_(on, pattern)
  for name, p in self:named_parameters() do
    if not pattern or name:find(pattern) then p:requires_grad_(on ~= false) end
  end
  return self
end

--- module:zero_grad(): removes the gradients of all parameters.
function Module:zero_grad()
  for _, p in self:named_parameters() do p.grad = nil end
end

--- module:state_dict(): a table of all parameters and persistent buffers by PyTorch's names, as
-- they are in memory, without history. They share the module's storage.
function Module:state_dict()
  local state = {}
  for _, kind in ipairs { 'parameter', 'buffer' } do
    visit(self, '', kind, function(name, tensor, _, entry)
      if entry.persistent ~= false then state[name] = tensor:detach() end
    end)
  end
  return state
end

--- module:layouts(): the layout in files of each entry of state_dict that is not as in memory:
-- name -> 'nchw' for convolution weights, which files hold as (out, in, kh, kw).
function Module:layouts()
  local layouts = {}
  visit(self, '', 'parameter', function(name, _, owner, entry)
    local layout = owner.parameter_layout and owner.parameter_layout[entry[1]]
    if layout then layouts[name] = layout end
  end)
  return layouts
end

local function names_of(t)
  local list = {}
  for k in pairs(t) do list[#list + 1] = k end
  table.sort(list)
  return list
end

--- module:load_state_dict(state, options): copies the tensors of state into the module.
-- Raises and changes nothing when a name is missing, unknown or of another shape.
-- Options: strict (default true); false ignores missing and unknown names.
function Module:load_state_dict(state, options)
  local strict = not options or options.strict ~= false
  local own = self:state_dict()
  for _, name in ipairs(names_of(own)) do
    local given = state[name]
    if given == nil then
      if strict then fail("load_state_dict: '%s' is missing", name) end
    else
      local want, got = own[name]:shape(), given:shape()
      if table.concat(want, ',') ~= table.concat(got, ',') then
        fail("load_state_dict: '%s': expected shape (%s), got (%s)", name,
             table.concat(want, ','), table.concat(got, ','))
      end
    end
  end
  if strict then
    for _, name in ipairs(names_of(state)) do
      if own[name] == nil then
        fail("load_state_dict: unknown name '%s'%s", name, nearest.hint(name, own))
      end
    end
  end
  vestige.scope(function()
    for name, tensor in pairs(own) do
      if state[name] then
        tensor:copy_(state[name]:device() == tensor:device() and state[name]
                     or state[name]:to(tensor:device()))
      end
    end
  end)
  return self
end

--- module:save(path): writes state_dict as safetensors, in PyTorch's layout and names.
function Module:save(path)
  vestige.save(path, self:state_dict(), { layout = self:layouts() })
end

--- module:load(path, options): reads a file that save or PyTorch wrote. Options as load_state_dict.
function Module:load(path, options)
  return self:load_state_dict((vestige.load(path, { layout = self:layouts() })), options)
end

--- module:to(target): every parameter and buffer as another float type, or on another device. The
-- parameters are new tensors: build the optimiser afterwards.
function Module:to(target)
  local is_device = target == 'cpu' or target == 'ref' or target == 'cuda'
  local done = {}
  for _, kind in ipairs { 'parameter', 'buffer' } do
    visit(self, '', kind, function(_, tensor, owner, entry)
      local id = address(tensor)
      local float = tensor:dtype():match '^b?f%d+$'
      if not done[id] then
        local new = (is_device or float) and tensor:detach():to(target) or tensor
        new:keep()
        if tensor:requires_grad() and new ~= tensor then new:requires_grad_() end
        done[id] = new
        done[address(new)] = new
      end
      rawset(owner, entry[1], done[id])
    end)
  end
  return self
end

--- module:clone(): an independent copy of the module and of its tensors.
function Module:clone()
  local copies = {}
  local function copy(value)
    if vestige.is_tensor(value) then
      local id = address(value)
      if not copies[id] then
        local t = value:detach():clone():keep()
        if value:requires_grad() then t:requires_grad_() end
        copies[id] = t
      end
      return copies[id]
    elseif type(value) == 'table' then
      if copies[value] then return copies[value] end
      local t = {}
      copies[value] = t
      for k, v in next, value do t[copy(k)] = copy(v) end
      return setmetatable(t, getmetatable(value))
    end
    return value
  end
  return copy(self)
end

--- module:apply(f): calls f on every module, children first.
function Module:apply(f)
  for _, entry in ipairs(rawget(self, KINDS)) do
    local child = rawget(self, entry[1])
    if entry[2] == 'module' and child then child:apply(f) end
  end
  f(self)
  return self
end

--- module:numel(): how many numbers the parameters hold.
function Module:numel()
  local n = 0
  for _, p in self:named_parameters() do n = n + p:numel() end
  return n
end

--- module:extra(): what describe writes in the brackets of a layer.
function Module.extra() return '' end

--- module:describe(indent): the module's structure as text, as PyTorch prints it.
function Module:describe(indent)
  indent = indent or ''
  local lines = {}
  for _, entry in ipairs(rawget(self, KINDS)) do
    local child = rawget(self, entry[1])
    if entry[2] == 'module' and child then
      lines[#lines + 1] = ('%s  (%s): %s'):format(indent, entry[1], child:describe(indent .. '  '))
    end
  end
  if #lines == 0 then return ('%s(%s)'):format(self.class_name, self:extra()) end
  return ('%s(\n%s\n%s)'):format(self.class_name, table.concat(lines, '\n'), indent)
end

--- module:summary(): the parameters by name, shape and count, and the total: a list of {name,
-- shape, type, count} that prints as a table.
function Module:summary()
  local rows, total, trained = {}, 0, 0
  for name, p in self:named_parameters() do
    total = total + p:numel()
    if p:requires_grad() then trained = trained + p:numel() end
    rows[#rows + 1] = { name, '(' .. table.concat(p:shape(), ',') .. ')', p:dtype(), p:numel() }
  end
  return setmetatable(rows, { __tostring = function()
    local text = require('vestige.term').table(rows, { header = { 'parameter', 'shape', 'type',
                                                                  'numbers' } })
    return ('%s\n%d numbers, %d of them trained'):format(text, total, trained)
  end })
end

return { Module = Module, class = class, address = address }
