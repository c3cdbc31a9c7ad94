-- Take sessions off an index that are gone, unless they were listed anew meanwhile.
--
-- KEYS[1] index (sorted set); ARGV: session_id, updated_at it was listed with, and so on.
-- Returns how many were taken off.

local removed = 0
for i = 1, #ARGV, 2 do
  local listed = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if listed and tonumber(listed) == tonumber(ARGV[i + 1]) then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return removed
