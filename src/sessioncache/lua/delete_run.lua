-- Remove one run, whole.
--
-- KEYS, ARGV[1..6], answer: as in _session.lua, with '1' or '0' after the workflow_id: whether it was stored.
-- ARGV[7] run_id.

local s, status = open()
if not s then return {status} end
local mark = redis.call('ZSCORE', runs, 'i' .. ARGV[7])
local reply = answer(s)
if mark then
  local order = tonumber(mark) * ID_SCALE
  s.count = s.count - 1
  bump(s)
  redis.call('ZREM', runs, 'i' .. ARGV[7])
  redis.call('ZREMRANGEBYSCORE', runs, order, order)
  redis.call('ZREMRANGEBYSCORE', runs, -order, -order)
  expire(s.count > 0)
  list(s)
  reply = answer(s)
end
reply[6] = mark and '1' or '0'
return reply
