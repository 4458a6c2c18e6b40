--- vestige try FILE: the whole protocol on a new attack or unlearning method, on 1,000 real
-- images, in
-- under a minute: poison, train, unlearn, score, with a clean and a retrained model beside it.
local tried = require 'vestige.try'

return function(args)
  if #args ~= 1 or args[1] == '--help' then
    print 'vestige try FILE: runs the protocol on the attack or unlearning method in FILE'
    return args[1] == '--help' and 0 or 1
  end
  tried.run(args[1])
end
