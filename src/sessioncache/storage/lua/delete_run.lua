-- Remove one run, whole.
--
-- KEYS, ARGV[1..6], result: as in _session.lua, with '1' or '0' after the workflow_id: whether it was stored.
-- ARGV[7] run_id.

local s, status, detail = open()
if not s then return refused(status, detail) end
local run = stored(ARGV[7])
if run == false then return refused('damaged') end
local reply = answer(s)
if run then
  s.count = s.count - 1
  bump(s, {run.score})
  redis.call('ZREM', runs, 'i' .. ARGV[7])
  remove(run.score)
  expire(s.count > 0)
  list(s)
  reply = answer(s)
end
reply[9] = run and '1' or '0'
return reply
