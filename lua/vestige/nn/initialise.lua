-- Initialisers, as PyTorch's nn.init: they draw from the current stream, in place.
local vestige = require 'vestige'

local M = {}

-- Fan-in of a weight (out, ..., in): all but the first dimension.
local function fan_in(w)
  return w:numel() / w:size(1)
end

local function set(t, value)
  vestige.scope(vestige.no_grad, function() t:copy_(value()) end)
  return t
end

--- nn.init.uniform_(t, bound): uniform in [-bound, bound).
function M.uniform_(t, bound)
  return set(t, function()
    return (vestige.rand(t:shape(), { dtype = t:dtype() }) * 2 - 1) * bound
  end)
end

--- nn.init.normal_(t, std): N(0, std^2).
function M.normal_(t, std)
  return set(t, function() return vestige.randn(t:shape(), { dtype = t:dtype() }) * (std or 1) end)
end

--- nn.init.constant_(t, value).
function M.constant_(t, value)
  return set(t, function()
    return vestige.full{ size = t:shape(), value = value, dtype = t:dtype() }
  end)
end

--- nn.init.kaiming_uniform_(t, {a=0}): uniform with bound sqrt(6 / ((1 + a^2) fan_in))
-- (He et al., "Delving deep into rectifiers", 2015).
function M.kaiming_uniform_(t, o)
  local a = o and o.a or 0
  return M.uniform_(t, math.sqrt(6 / ((1 + a * a) * fan_in(t))))
end

--- nn.init.kaiming_normal_(t, {mode='fan_in'}): N(0, 2 / fan).
function M.kaiming_normal_(t, o)
  local fan = fan_in(t)
  if o and o.mode == 'fan_out' then
    local s = t:shape()
    fan = t:numel() / s[#s]
  end
  return M.normal_(t, math.sqrt(2 / fan))
end

--- nn.init.xavier_uniform_(t): uniform with bound sqrt(6 / (fan_in + fan_out)).
function M.xavier_uniform_(t)
  local s = t:shape()
  local out = t:numel() / s[#s]
  return M.uniform_(t, math.sqrt(6 / (fan_in(t) + out)))
end

return M
