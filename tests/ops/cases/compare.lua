-- Comparisons, logic, where.
return {}
