-- Products, linear, solving.
return {}
