-- Let a session live so much longer; nothing of it changes.
--
-- KEYS, ARGV[1..6], answer: as in _session.lua; without a ttl in ARGV[2] the session never expires. After the
-- workflow_id '1' where a new half of the ttl has begun since it was last touched: time to touch its indexes
-- elsewhere, too.

local s, status = open()
if not s then return {status} end
local half = (tonumber(ARGV[2]) or 2) / 2
local last = milliseconds + redis.call('PTTL', meta) - 2 * half
if ARGV[2] == '' then
  redis.call('PERSIST', meta)
  redis.call('PERSIST', runs)
end
expire(true)
list(s)
local reply = answer(s)
reply[6] = math.floor(last / half) ~= math.floor(milliseconds / half) and '1' or '0'
return reply
