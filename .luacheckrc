std = "luajit"
max_line_length = 100
codes = true
-- `not (x >= y)` is also true for NaN.
ignore = { "581" }
-- LuaUnit finds its classes among the globals.
files["tests"] = { allow_defined_top = true }
