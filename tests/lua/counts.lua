--- What is in use when everything that nobody holds is gone: {live, tensors, nodes, roots}. A dead
-- graph lets go of the closures of its rules, and they of the tensors that they hold, so it takes a
-- few rounds.
local vestige = require 'vestige'

return function()
  local m
  repeat
    local last = m and m.live
    collectgarbage()
    collectgarbage()
    m = vestige.memory()
  until m.live == last
  return { live = m.live, tensors = m.tensors, nodes = m.nodes, roots = m.roots }
end
