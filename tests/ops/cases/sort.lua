-- Orders, choices, counts.
return {}
