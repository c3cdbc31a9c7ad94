-- Put ahead of the scripts that write a session: they say in meta which runs the last writes wrote or removed.

local BYTES = 512 -- of the field, at most: all reads of meta pay for it

-- Return the orders of the runs that are going to be written.
local function orders_of(found)
  local orders = {}
  for _, run in pairs(found) do
    if not run.kept then orders[#orders + 1] = run.score end
  end
  return orders
end

-- Return the field that names the last writes, with the one that wrote runs of these orders. It ends with the
-- revision: a write that did not keep it ends it, and all that came before is forgotten.
local function changes(s, orders)
  local last, text = ';' .. s.was, s.changes or ''
  if string.sub(text, -#last) ~= last then text = last end
  text = text .. ':' .. table.concat(orders, ',') .. ';' .. s.rev_text
  while #text > BYTES do text = string.sub(text, (string.find(text, ';', 2, true))) end
  return text
end
