-- vestige.nn: modules, layers, initialisers. nn.functional holds the same as functions of tensors.
local vestige = require 'vestige'
local module = require 'vestige.nn.module'

local M = { Module = module.Module, class = module.class, init = require 'vestige.nn.initialise' }
for name, value in pairs(require 'vestige.nn.layers') do M[name] = value end

-- The functional forms are the operators: nn.functional.relu is vestige.relu.
M.functional = setmetatable({}, { __index = function(_, name) return vestige[name] end })

return M
