-- Put ahead of the scripts that list sessions.

-- Let an index live as long as its longest session: `left` is what it had in ms before it was written, `ttl` what
-- it has to have, or '' for ever. What is no sorted set keeps its lifetime, for the caller leaves it alone.
local function extend(index, left, ttl)
  if ttl == '' then
    if left >= 0 then redis.call('PERSIST', index) end
  elseif left == -2 or (left >= 0 and left < tonumber(ttl)) then
    redis.call('PEXPIRE', index, ttl)
  end
end
