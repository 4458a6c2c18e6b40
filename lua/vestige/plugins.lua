-- Attacks, unlearning methods and metrics: one file each, found by its name.
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'

local M = {}

local here = debug.getinfo(1, 'S').source:match '^@(.*)/[^/]*$'

-- What a plug-in of each kind must have.
local required = { attacks = 'poison', unlearn = 'unlearn', metrics = 'measure' }

--- plugins.names(kind): the names of the plug-ins in lua/vestige/<kind>, sorted.
-- kind: 'attacks', 'unlearn' or 'metrics'.
function M.names(kind)
  local list = {}
  for _, file in ipairs(fs.list(here .. '/' .. kind)) do
    local name = file:match '^([%w_]+)%.lua$'
    if name then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

--- plugins.check(kind, plugin, where): raises unless the plug-in has what its kind needs.
function M.check(kind, plugin, where)
  local f = required[kind]
  if type(plugin) ~= 'table' or type(plugin[f]) ~= 'function' or type(plugin.name) ~= 'string' then
    fail('%s: expected a table with a name and a function %s, got %s', where, f, type(plugin))
  end
  return plugin
end

--- plugins.find(kind, name): a plug-in by its name.
-- Errors: an unknown name, with the nearest one.
-- Example:
-- > assert(require('vestige.plugins').find('attacks', 'gaussian').kind == 'gaussian')
function M.find(kind, name)
  local module = ('vestige.%s.%s'):format(kind, tostring(name))
  if not package.loaded[module] and not package.searchpath(module, package.path) then
    local names = M.names(kind)
    fail("%s: no '%s'%s (there are %s)", kind, tostring(name), nearest.hint(tostring(name), names),
         table.concat(names, ', '))
  end
  return M.check(kind, require(module), module)
end

--- plugins.options(kind, plugin, given): the plug-in's options, `given` over its defaults.
-- Errors: an unknown option with the nearest name, a value of another type.
function M.options(kind, plugin, given)
  return options.merge(plugin.defaults or {}, given or {},
                       { where = ('%s %s'):format(kind, plugin.name), grid = plugin.grid })
end

--- plugins.changed(plugin, given): the given options that differ from the plug-in's defaults: a
-- stage's key holds those alone, so that a default that is spelled out makes no other stage.
-- Example:
-- > local plugins = require 'vestige.plugins'
-- > local changed = plugins.changed({ defaults = { lr = 0.1, k = 3 } }, { lr = 0.1, k = 4 })
-- > assert(changed.lr == nil and changed.k == 4)
function M.changed(plugin, given)
  return options.nest(options.differing(plugin.defaults or {}, given or {}))
end

return M
