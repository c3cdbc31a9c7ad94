-- Read one run: Redis has no native command that finds a member by another's score.
--
-- KEYS[1] meta, KEYS[2] runs; ARGV[1] run_id, ARGV[2..] fields of meta. Returns {the fields, ZCARD of runs,
-- head, body}, the last two only where the run is stored. Writes nothing.

local reply = {redis.call('HMGET', KEYS[1], unpack(ARGV, 2)), redis.call('ZCARD', KEYS[2])}
local id_score = redis.call('ZSCORE', KEYS[2], 'i' .. ARGV[1])
if id_score then
  local order = tonumber(id_score) * 2 ^ 60
  reply[3] = redis.call('ZRANGE', KEYS[2], order, order, 'BYSCORE')[1] or ''
  reply[4] = redis.call('ZRANGE', KEYS[2], -order, -order, 'BYSCORE')[1] or ''
end
return reply
