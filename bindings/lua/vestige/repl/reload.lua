--- reload 'vestige.attacks.x': runs a module's file again, in place.
--
-- The module's table stays the same table and gets the new fields, so whatever holds it (models,
-- other modules, globals) sees the new code; classes in it (tables with __index) stay too, so
-- objects made before get the new methods. If the file does not compile or raises, nothing
-- changes.
local nearest = require 'vestige.nearest'

local M = {}

local function is_class(value)
  return type(value) == 'table' and rawget(value, '__index') ~= nil
end

-- Plans which new table becomes which old one: the module, and classes under the same name.
local function pair(old, new, plan)
  if plan[new] or old == new then return end
  plan[new] = old
  for key, value in next, new do
    local before = rawget(old, key)
    if is_class(value) and is_class(before) then pair(before, value, plan) end
  end
end

-- Lets the locals of the new file that held a new table hold the old one: functions of the module
-- then agree with everybody else on what the module and its classes are.
local function rewire(value, plan, done)
  if done[value] then return end
  done[value] = true
  if type(value) == 'function' then
    for i = 1, math.huge do
      local name, up = debug.getupvalue(value, i)
      if not name then break end
      if type(up) == 'table' and plan[up] then
        debug.setupvalue(value, i, plan[up])
      elseif type(up) == 'function' and debug.getinfo(up, 'S').source == done.source then
        rewire(up, plan, done)
      end
    end
  elseif type(value) == 'table' and plan[value] then
    for _, field in next, value do
      if type(field) == 'function' or type(field) == 'table' then rewire(field, plan, done) end
    end
    local meta = debug.getmetatable(value)
    if type(meta) == 'table' then
      for _, field in next, meta do
        if type(field) == 'function' then rewire(field, plan, done) end
      end
    end
  end
end

local function replace(plan)
  for new, old in next, plan do
    for key in next, old do
      if rawget(new, key) == nil then rawset(old, key, nil) end
    end
    for key, value in next, new do
      rawset(old, key, type(value) == 'table' and plan[value] or value)
    end
    local meta = debug.getmetatable(new)
    debug.setmetatable(old, type(meta) == 'table' and plan[meta] or meta)
  end
end

local function loaded_names()
  local names = {}
  for name in next, package.loaded do
    if type(name) == 'string' then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- Reloads the module `name` (a string) and gives it. A module that was not loaded is loaded.
-- Errors: no such module (the nearest loaded one is suggested), and what the file raises; then
-- the old module stays as it was.
--
-- > local nearest = require 'vestige.nearest'
-- > assert(require('vestige.repl.reload').reload 'vestige.nearest' == nearest)
function M.reload(name)
  if type(name) ~= 'string' then
    error("reload expects a module's name, such as reload 'vestige.nearest'", 2)
  end
  local path = package.searchpath(name, package.path)
  if not path then
    error(("reload: no file for module '%s'%s"):format(name,
      nearest.hint(name, loaded_names())), 2)
  end
  local old = package.loaded[name]
  if old == nil then return require(name) end
  local chunk, problem = loadfile(path)
  if not chunk then error('reload: ' .. problem, 0) end
  local new = chunk(name, path)
  if type(new) ~= 'table' or type(old) ~= 'table' then
    if new ~= nil then package.loaded[name] = new end
    return package.loaded[name]
  end
  local plan = {}
  pair(old, new, plan)
  rewire(new, plan, { source = '@' .. path })
  replace(plan)
  return old
end

return M
