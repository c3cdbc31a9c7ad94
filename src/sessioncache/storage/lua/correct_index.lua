-- Take sessions off an index that are gone, and lower those listed as of later than they were written; but none that
-- was listed anew meanwhile.
--
-- KEYS[1] index (sorted set); ARGV[1] how many seconds ago an entry was made at least; then session_id, updated_at it
-- is listed with, updated_at it has, '' if it is gone, and so on. Returns how many entries were changed.

local latest = redis.call('TIME')[1] - ARGV[1]
local changed = 0
for i = 2, #ARGV, 3 do
  local id, was, is = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local listed = tonumber(redis.call('ZSCORE', KEYS[1], id) or nil)
  if listed and listed == tonumber(was) and (listed <= latest or tonumber(ARGV[1]) == 0) then
    changed = changed + 1
    if is == '' then redis.call('ZREM', KEYS[1], id) else redis.call('ZADD', KEYS[1], is, id) end
  end
end
return changed
