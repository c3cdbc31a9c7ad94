-- Let a session live so much longer; nothing of it changes.
--
-- KEYS, ARGV[1..6], result: as in _session.lua; without a ttl in ARGV[2] the session never expires. ARGV[7] '1' to
-- leave a longer life as it is. After the workflow_id '1' if a new half of the ttl began since it was last touched:
-- the caller must touch the indexes elsewhere, too.

local s, status, detail = open()
if not s then return refused(status, detail) end
local reply = answer(s)
local left = redis.call('PTTL', meta)
if ARGV[7] == '1' and (left == -1 or left > tonumber(ARGV[2])) then
  reply[9] = '0'
  return reply
end
if ARGV[2] == '' then
  redis.call('PERSIST', meta)
  redis.call('PERSIST', runs)
end
expire(true)
list(s)
local half = (tonumber(ARGV[2]) or 2) / 2
local last = milliseconds + left - 2 * half
reply[9] = math.floor(last / half) ~= math.floor(milliseconds / half) and '1' or '0'
return reply
