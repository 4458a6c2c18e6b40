-- Colours that colour-blind readers tell apart (Okabe and Ito), in the order series take them.
-- Terminal charts, pictures and the report all draw from here.

local M = {
  '#0072B2', -- blue
  '#D55E00', -- vermilion
  '#009E73', -- green
  '#CC79A7', -- pink
  '#E69F00', -- orange
  '#56B4E9', -- sky
  '#7F7F7F', -- grey
}

return M
