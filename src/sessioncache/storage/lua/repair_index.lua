-- Remove an index that is no sorted set; one that is by now stays.
--
-- KEYS[1] index; no ARGV. Returns 1 if it was removed, else 0.

local count = redis.pcall('ZCARD', KEYS[1])
if type(count) == 'table' and string.find(tostring(count.err), 'WRONGTYPE', 1, true) then
  return redis.call('UNLINK', KEYS[1])
end
return 0
